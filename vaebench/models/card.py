"""Model cards: strict TOML that says what a model is, how it was trained and which weights it has.

Imports no torch. A key that is not known is an error that suggests the nearest one; a value of the wrong type is an
error that names the key. The same reader builds an adapter's or an objective's options (`build`).
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tomli_w

from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.errors import DataError, UserError, foreign, shown, unknown
from vaebench.core.tables import COUNT, Table, build, parse, within

if TYPE_CHECKING:
    from vaebench.core.remote import Fetching

MAX_BYTES = 64 * 2**10
"""Size of a card, at most."""
FEATURES = "features"
"""The zoo's folder of classifiers: cards, but of no model."""


@dataclass(frozen=True)
class Weights:
    """A safetensors `file` beside the card, or where `Card.weights_path` looks, else at `url`; and its `sha256`."""

    file: str
    sha256: str
    url: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 = {self.sha256!r} is not 64 lower-case hex digits")
        if Path(self.file).name != self.file or not self.file.endswith(".safetensors"):
            raise ValueError(f"file = {self.file!r} should be the name of a .safetensors file beside the card")
        if self.url is not None:
            from vaebench.core.remote import check_url

            check_url(self.url)


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. Defaults are a plain run: Adam, constant rate, best validation epoch kept.

    `autocast` is the arithmetic of convolutions and matrix products, on machines that have it. `flip` mirrors training
    images left to right, each with probability 1/2 whenever it is read.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    optimiser: Literal["adam", "adamax"] = "adam"
    betas: tuple[float, ...] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    clip_norm: float | None = None
    ema: float | None = None
    autocast: Literal["bfloat16"] | None = None
    flip: Literal["none", "horizontal"] = "none"
    validation: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        within(self, epochs=(1, COUNT), batch_size=(1, COUNT), validation=(0, 10**9), warmup_steps=(0, 10**9))
        within(self, seed=(0, 2**63 - 1))
        for name in ("eps", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} = {getattr(self, name)} should be at least 0")
        for name in ("learning_rate", "clip_norm"):
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} = {value} should be positive")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema = {self.ema} should lie in (0, 1)")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas = {list(self.betas)} should be two numbers in [0, 1)")


@dataclass(frozen=True)
class Trained:
    """What the training that gave the weights was: where it ran and what it reached."""

    seconds: float
    machine: str
    best_epoch: int
    validation_loss: float | None = None
    vaebench: str = ""
    torch: str = ""


@dataclass(frozen=True)
class Card:
    """A model: `name` on `dataset` (its path is its id), an adapter with its options, a recipe, and weights."""

    name: str
    dataset: str
    summary: str
    family: str
    model: Table
    objective: Table = field(default_factory=lambda: {"name": "elbo"})
    training: Recipe | None = None
    weights: Weights | None = None
    trained: Trained | None = None
    notes: str = ""
    path: Path | None = field(default=None, compare=False)

    @property
    def id(self) -> str:
        return f"{self.dataset}/{self.name}"

    def weights_path(self, progress: "Fetching | None" = None) -> Path:
        """The weights file, its SHA-256 checked: beside the card, in a folder of the zoo (`files.zoos`), or fetched.

        Raises DataError if it is in none of them, differs from what the card says, or as `remote.obtain`.
        """
        if self.weights is None or self.path is None:
            raise DataError(f"card {self.id} names no weights; train them: {self._train_command()}")
        if (path := self.weights_here()) is not None:
            if (found := files.sha256(path)) != self.weights.sha256:
                raise DataError(
                    f"weights {path} have sha256 {found}, but the card says {self.weights.sha256}; "
                    "the file or the card was altered: restore both together"
                )
            return path
        if self.weights.url is not None:
            from vaebench.core.remote import obtain

            return obtain(self.weights.url, self.weights.sha256, progress=progress)
        if not self._shipped:
            path = self.path.parent / self.weights.file
            raise DataError(f"weights {path} of card {self.id} are absent; train them: {self._train_command()}")
        raise DataError(
            f"weights of {self.id} are not in this installation: name a folder that holds "
            f"{self.path.parent.name}/{self.weights.file} with --zoo or VAEBENCH_ZOO, run in a clone, whose model_zoo "
            f"does, or train them: {self._train_command()}"
        )

    def weights_here(self) -> Path | None:
        """The weights file on this machine, unchecked: beside the card, or for a card of the zoo in `files.zoos`."""
        if self.weights is None or self.path is None:
            return None
        folder = self.path.parent
        folders = [folder, *(zoo / folder.name for zoo in files.zoos())] if self._shipped else [folder]
        return next((path for each in folders if (path := each / self.weights.file).is_file()), None)

    @property
    def _shipped(self) -> bool:
        return self.path is not None and self.path.is_relative_to(files.zoo())

    def _train_command(self) -> str:
        own = self.path is not None and not self._shipped
        which = f"--card {self.path}" if own else f"--model {self.name} --dataset {self.dataset}"
        return f"vaebench train {which} --out DIR"


_WRITTEN = ("dataset", "summary", "family", "notes", "model", "objective", "training", "trained", "weights")


def read(path: Path, dataset: str | None = None) -> Card:
    """The card at `path`. Its file name is the model's, and its weights' unless the card says otherwise; the dataset
    is the key `dataset`, else the folder's name.
    """
    from vaebench.core.names import check_name

    try:
        if (size := files.check_plain(path)) > MAX_BYTES:
            raise DataError(f"card {path} has {size} bytes, more than {MAX_BYTES}")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read card {path}: {error.strerror}") from error
    with foreign(lambda reason: UserError(f"card {path} is not TOML: {reason}")):
        table = parse(content.decode())
    for key in ("name", "path"):
        if key in table:
            raise UserError(f"card {path}: the key {key!r} is given by the card's file name; remove it")
    try:
        check_name("model", path.stem)
    except ValueError as error:
        raise UserError(f"card {path}: {error}; rename the file") from error
    if dataset is not None and table.get("dataset", dataset) != dataset:
        raise UserError(f"card {path} is for dataset {shown(table['dataset'])}, not {dataset!r}")
    if isinstance(weights := table.get("weights"), dict):
        weights.setdefault("file", f"{path.stem}.safetensors")
    folder = path.resolve().parent.name
    if dataset is None and "dataset" not in table and folder not in plugins.names("datasets"):
        raise UserError(f"card {path} names no dataset, and its folder {folder!r} is not one; add the key 'dataset'")
    identity = {"name": path.stem, "dataset": dataset or table.get("dataset", folder)}
    return dataclasses.replace(build(Card, {**table, **identity}, f"card {path}", 2**63 - 1), path=path)


def find(name: str, dataset: str) -> Card:
    """The zoo's card of `name` on `dataset`. UserError suggests the nearest model, or the datasets that have it."""
    path = files.zoo() / dataset / f"{name}.toml"
    if (dataset, name) in ids():
        return read(path, dataset)
    here = [n for d, n in ids() if d == dataset]
    elsewhere = sorted(d for d, n in ids() if n == name)
    if elsewhere:
        raise UserError(f"model {name!r} has no card on dataset {dataset!r}; it has one on: {', '.join(elsewhere)}")
    raise UserError(f"{unknown('model', name, here or {n for _, n in ids()})} (datasets: {dataset})")


def named(model: str | Path, dataset: str | None) -> Card:
    """The card at a path that ends in .toml, else the zoo's of that name, which needs a dataset. As `read`, `find`."""
    if isinstance(model, Path) or model.endswith(".toml"):
        return read(Path(model), dataset)
    known = plugins.names("datasets")
    if dataset is None:
        raise UserError(f"model {model!r} needs a dataset; it is one of {', '.join(known)}")
    if dataset not in known:
        raise unknown("dataset", dataset, known)
    return find(model, dataset)


def ids() -> list[tuple[str, str]]:
    """(dataset, name) of every model in the zoo, sorted."""
    found = ((path.parent.name, path.stem) for path in files.zoo().glob("*/*.toml"))
    return sorted((dataset, name) for dataset, name in found if dataset != FEATURES)


def write(card: Card, path: Path) -> None:
    """Write `card` as TOML, atomically; `read` gives an equal card back."""
    content: dict[str, Any] = {}
    for key in _WRITTEN:
        value = getattr(card, key)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dataclasses.asdict(value)
        if isinstance(value, Mapping):
            content[key] = {k: list(v) if isinstance(v, tuple) else v for k, v in value.items() if v is not None}
        elif value or key == "summary":
            content[key] = value
    files.write_atomic(path, tomli_w.dumps(content, multiline_strings=True).encode())
