"""What a stranger submits, held against every rule: its files, its card, its weights, and its rows where it has any.

A submission is a folder of one card and its weights, or the tree that a pull request adds: those two in
`model_zoo/<dataset>/`, and rows, kept files and board below `leaderboards/`. Nothing in it is executed. A file is
looked at before it is opened, the header of the weights before the weights, and their shapes before a model of such a
size is made. Imports no torch until it makes that model.
"""

import dataclasses
import os
import re
import stat
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.errors import UserError, unknown
from vaebench.core.remote import Fetching
from vaebench.models import card as cards
from vaebench.models import code, safetensors_header
from vaebench.models.card import Card
from vaebench.submission.tree import MAX_CARD, MOST, NAME, allowed

if TYPE_CHECKING:
    from vaebench.core.data import Source

SPARSE = 2**16
"""Bytes: whether a file is sparse is asked above, where file systems count whole blocks."""
_FIRST: dict[plugins.Kind, str] = {
    "datasets": "first open a pull request that adds it as a file of vaebench/datasets, as CONTRIBUTING says",
    "adapters": "first open a pull request that adds its family as a file of vaebench/models/adapters, as CONTRIBUTING "
    "says, and then submit the weights",
}
_PICKLES = (".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth")
_ARCHIVES = (".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip", ".zst")


class Problem(NamedTuple):
    """What is wrong with a file of a submission."""

    file: str
    fault: str


@dataclass(frozen=True)
class Submission:
    """A card and the weights that it names; `boards` where it is laid out as a pull request."""

    folder: Path
    card: Card
    weights: Path
    boards: Path | None

    @property
    def carries_weights(self) -> bool:
        """Whether the weights are a file of the submission, not behind a URL."""
        return self.weights.is_relative_to(self.folder)


def read(folder: Path, progress: Fetching | None = None) -> tuple[Submission | None, list[Problem]]:
    """The submission in `folder`, and all that can be seen to be wrong before a model is made; None without weights.

    Weights at a URL are fetched, which `progress` is told. Raises UserError if there is no folder, as for an archive.
    """
    if folder.is_symlink() or not folder.is_dir():
        archive = folder.name.lower().endswith(_ARCHIVES) and folder.is_file()
        what = "is an archive; unpack it" if archive else "is not a folder" if folder.exists() else "is absent"
        raise UserError(f"submission {folder} {what}; give the folder that holds the card and its weights")
    laid_out = (folder / "model_zoo").is_dir()
    there = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    names = sorted(path.relative_to(folder).as_posix() for path in islice(there, MOST + 1))
    if len(names) > MOST:
        raise UserError(f"submission {folder} holds more than {MOST} files; give the folder of a card and its weights")
    found = [
        name for name in names if re.fullmatch(rf"model_zoo/{NAME}/[^/]+\.toml" if laid_out else r"[^/]+\.toml", name)
    ]
    limits = allowed(found[0], laid_out) if len(found) == 1 else {re.escape(name): MAX_CARD for name in found}
    problems = [Problem(name, fault) for name in names for fault in _file_faults(folder / name, name, limits)]
    if len(found) != 1:
        fault = f"{len(found)} cards; a submission is of one model: one .toml, and its .safetensors"
        return None, [Problem("", fault), *problems]
    opened, faults = _open(folder, found[0], laid_out, {problem.file for problem in problems}, progress)
    return opened, [*problems, *faults]


def _open(
    folder: Path, name: str, laid_out: bool, faulty: AbstractSet[str], progress: Fetching | None
) -> tuple[Submission | None, list[Problem]]:
    """The submission of the card `name`, and what is wrong with it. Of files that are `faulty`, none is opened; where
    the card has a fault, nothing beside it is; and nothing is fetched where anything has.
    """
    local = name.removesuffix(".toml") + ".safetensors"
    if name in faulty:
        return None, []
    try:
        card = cards.read(folder / name, (folder / name).parent.name if laid_out else None)
    except UserError as error:
        return None, [Problem(name, told(error, folder))]
    faults = [*_card_faults(card)] or [told(error, folder) for error in _table_faults(card)]
    problems = [Problem(name, fault) for fault in faults]
    here = local in faulty or (folder / local).is_file()
    away = card.weights is not None and card.weights.url is not None
    if away and here:
        problems.append(Problem(local, "is here and at the card's URL; remove one of them, so that it is clear which"))
    if problems or local in faulty or (away and faulty):
        return None, problems
    weights = None
    try:
        weights = card.weights_path(progress)
    except UserError as error:
        problems.append(Problem(name, told(error, folder)))
    try:
        if weights is not None or here:
            safetensors_header.read(weights or folder / local)
    except UserError as error:
        problems.append(Problem(local, told(error, folder)))
    if weights is None:
        return None, problems
    if not problems and (model := _copied(card, weights)) is not None:
        problems.append(Problem(local, f"its tensors are on the board already, as those of {model}"))
    return Submission(folder, card, weights, folder / "leaderboards" if laid_out else None), problems


def _copied(card: Card, weights: Path) -> str | None:
    """The id of the zoo's model on the same dataset that has the very tensors of `weights`, however they were saved."""
    header, found = _shapes(weights), None
    for dataset, name in cards.ids():
        other = files.zoo() / dataset / f"{name}.safetensors"
        if dataset == card.dataset and other.is_file() and _shapes(other) == header:
            found = found or safetensors_header.contents(weights)
            if safetensors_header.contents(other) == found:
                return f"{dataset}/{name}"
    return None


def _shapes(weights: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (entry.dtype, entry.shape) for name, entry in safetensors_header.read(weights).items()}


def told(error: Exception, folder: Path) -> str:
    """The error without the path of the folder."""
    return str(error).replace(f"{folder}{os.sep}", "")


def _file_faults(path: Path, name: str, limits: dict[str, int]) -> Iterator[str]:
    """Why a file, which is not opened for it, cannot be part of a submission."""
    about = path.lstat()
    limit = next((limit for pattern, limit in limits.items() if re.fullmatch(pattern, name)), None)
    if stat.S_ISLNK(about.st_mode):
        yield "is a symbolic link; put the file itself in its place"
    elif not stat.S_ISREG(about.st_mode):
        yield "is not a regular file"
    elif limit is None:
        yield _stray(path)
    elif about.st_size > limit:
        remedy = "; put it behind a URL: [weights] url and sha256" if path.suffix == ".safetensors" else ""
        yield f"has {about.st_size} bytes, more than {limit}{remedy}"
    elif about.st_size > SPARSE and 2 * 512 * about.st_blocks < about.st_size:
        yield "is sparse: it holds less than its size says; write it anew"


def _stray(path: Path) -> str:
    if path.suffix.lower() in _PICKLES:
        return "may be a pickle, which could run code; save the state dict with safetensors"
    if path.suffix.lower() in _ARCHIVES:
        return "is an archive; nothing is unpacked"
    return "does not belong here: a submission is one card and its weights, of one name; remove or rename it"


def _card_faults(card: Card) -> Iterator[str]:
    """Why a card that can be read cannot be submitted."""
    if odd := [text for text in _texts(dataclasses.asdict(card)) if not text.replace("\n", "").isprintable()]:
        yield f"has text that cannot be printed: {odd[0][:40]!r}"
    if not card.summary.endswith("."):
        yield f"summary = {card.summary[:40]!r} should be a sentence that ends in a full stop"
    named: tuple[tuple[plugins.Kind, str, str], ...] = (
        ("datasets", "dataset", card.dataset), ("adapters", "family", card.family)
    )  # fmt: skip
    for kind, field, name in named:
        if name in plugins.shipped(kind):
            continue
        if name in plugins.names(kind):
            yield f"{field} = {name!r} is a plug-in from outside, and a submission brings no code: {_FIRST[kind]}"
        else:
            told = unknown(field, name, plugins.shipped(kind))
            yield f"{told}; if it is one from outside, {_FIRST[kind]}"
    if card.family == code.FAMILY:
        yield f"family = {card.family!r} runs a file of code, and a submission brings none: {_FIRST['adapters']}"
    if card.weights is None:
        return
    if card.weights.file != f"{card.name}.safetensors":
        yield f"names weights {card.weights.file!r}; call them {card.name}.safetensors, as the card"
    for dataset, name in cards.ids():
        if dataset == card.dataset:
            there = cards.find(name, dataset).weights
            if there is not None and there.sha256 == card.weights.sha256:
                yield f"these weights are on the board already, as {dataset}/{name}"
            elif name == card.name:
                yield f"the id {card.id} is another model's; choose a name that is free"


def _table_faults(card: Card) -> Iterator[UserError]:
    """Why the card's tables are not a model on its dataset and an objective; no weights are asked for."""
    import torch

    from vaebench.core.data import Source
    from vaebench.models import loading
    from vaebench.training.state import objective_options

    source = plugins.load("datasets", card.dataset)
    assert isinstance(source, Source)
    if source.space is None:
        yield UserError(
            f"dataset {card.dataset!r} is whatever a user has, so its numbers are on no board that is shared"
        )
        return
    try:
        objective_options(card)
        with torch.device("meta"):
            loading.build_model(card, source.space)
    except UserError as error:
        yield error


def _texts(value: Any) -> Iterator[str]:
    """Every text in nested tables and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts([*value, *value.values()])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def model_faults(submission: Submission) -> list[Problem]:
    """Why the weights are not those of the card's model or recipe, or which promises that model breaks."""
    import torch

    from vaebench.core import checks
    from vaebench.core.data import Source
    from vaebench.models import loading

    card, weights = submission.card, submission.weights
    source = plugins.load("datasets", card.dataset)
    assert isinstance(source, Source)
    assert source.space is not None  # as `read` has seen
    try:
        with torch.device("meta"):
            shapes = loading.build_model(card, source.space)
        tensors = loading.fitting(shapes, weights)
        model = loading.build_model(card, source.space)
    except UserError as error:
        return [Problem(f"{card.name}.toml", told(error, submission.folder))]
    model.load_state_dict(tensors, strict=True)
    broken = [check for check in checks.check_model(model) if check.failed]
    faults = [Problem(weights.name, f"breaks a promise: {check.name}: {check.detail}") for check in broken]
    if _is_of_another_recipe(submission, source):
        fault = "these weights were trained by other tables; restore them, or leave out [training] and [trained]"
        faults.append(Problem(f"{card.name}.toml", fault))
    return faults


def _is_of_another_recipe(submission: Submission, source: "Source") -> bool:
    """Whether the card says how vaebench has trained the weights, and they carry another run's digest."""
    from vaebench.core.data import Dataset
    from vaebench.models.trajectory import run_digest
    from vaebench.training.state import digest, resolve

    card = submission.card
    if card.training is None or card.trained is None or source.fingerprint is None or source.space is None:
        return False
    made = digest(resolve(card), Dataset(card.dataset, source.space, {}, source.fingerprint))
    return run_digest(submission.weights) != made
