"""Checkpoints of other projects as ours: read without running anything, checked strictly, written as card and weights.

An importer is a file of this folder that ends in `plugin = Importer(...)`.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save
from torch import Tensor, contiguous_format, device  # a plug-in here is called torch

from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.data import Space
from vaebench.core.errors import DataError, UserError, foreign
from vaebench.models import card as cards
from vaebench.models.card import Card, Weights
from vaebench.models.formats._reading import StateDict as StateDict
from vaebench.models.formats._reading import check as check
from vaebench.models.formats._reading import read_file as read_file
from vaebench.models.formats._reading import read_json as read_json
from vaebench.models.formats._reading import read_state_dict as read_state_dict
from vaebench.models.formats._reading import tensors as tensors
from vaebench.models.loading import build_model, code_file


class Imported(NamedTuple):
    """A checkpoint as a model of a family: the `[model]` table and the state dict of one for examples of `space`.

    `dataset` is None where the files do not name one of ours; `notes` say which files these were; `card` is one that
    was given with them.
    """

    family: str
    model: dict[str, Any]
    state: dict[str, Tensor]
    space: Space
    summary: str
    notes: str
    dataset: str | None = None
    card: Card | None = None


@dataclass(frozen=True)
class Importer:
    """The plug-in of a format. `files` are what its files are called, one for each that it needs.

    `read(*paths)`, or `read(*paths, options)` where there is a frozen dataclass `options`, gives what they hold:
    Raises DataError if that is not all of a model, checked without running anything. A field of `options` is an option
    of `vaebench import`, whose help is the field's `metadata["help"]`. Where `of_dataset`, the files do not say what
    data they are of: `read` is then given `space=`, that of the dataset which the user names. Where `of_card`, a field
    of `options` is a card, whose dataset may be in files of the user's: `read` is then given `data=`, their root or
    None.
    """

    files: tuple[str, ...]
    read: Callable[..., Imported]
    options: type | None = None
    of_dataset: bool = False
    of_card: bool = False


def load(name: str) -> Importer:
    """The importer `name`. Raises UserError if there is none, or if a plug-in of that name is not an `Importer`."""
    found = plugins.load("importers", name)
    if not isinstance(found, Importer):
        raise UserError(f"plug-in {name!r} is a {type(found).__name__}; an importer's is a vaebench Importer")
    return found


def convert(
    importer: Importer, paths: Sequence[Path], options: Any = None, *, name: str | None = None, out: Path,
    dataset: str | None = None, otherwise: str = "model", data: Path | None = None,
) -> Card:  # fmt: skip
    """The card of model `name`, or of the name of a card that was given, or `otherwise`; with its weights in `out`.

    `dataset` is that of the files where None; what files it has are below `data`. Raises UserError if they name none,
    if the model is for other examples than the dataset's, and as `write`; DataError as the importer's `read`, and
    where what it gives does not fit the family.
    """
    here = " and ".join(map(str, paths))
    given: dict[str, Any] = {}
    if importer.of_dataset:
        if dataset is None:
            absent = "" if all(path.exists() for path in paths) else ", which is not here"
            raise UserError(f"{here}{absent}: the files do not say what data the model is of; name them with --dataset")
        given["space"] = plugins.space_of(dataset, data)
    if importer.of_card:
        given["data"] = data
    chosen = () if importer.options is None else (importer.options() if options is None else options,)
    with foreign(lambda reason: DataError(f"{here} cannot be imported: {reason}")):
        found = importer.read(*paths, *chosen, **given)
    wanted = _described(found.space)
    if (dataset := dataset or found.dataset) is None:
        raise UserError(f"{here}: no dataset here is the model's own; name one of {wanted} with --dataset")
    if (space := plugins.space_of(dataset, data)) != found.space:
        raise UserError(
            f"{here}: the model is for {wanted}, but {dataset!r} has {_described(space)}; name another with --dataset"
        )
    if (own := found.card) is not None:
        card = dataclasses.replace(own, name=name or own.name, dataset=dataset, trained=None, notes=found.notes)
    else:
        card = Card(name or otherwise, dataset, found.summary, found.family, found.model, notes=found.notes)
    file = code_file(card)
    if file is None:
        with device("meta"):
            shapes = build_model(card, found.space).state_dict()
        check(StateDict(paths[0], "", found.state), shapes)
    written = write(card, found.state, out)
    if file is not None and file.parent.resolve() != out.resolve():
        files.write_atomic(out / file.name, file.read_bytes())
    return written


def _described(space: Space) -> str:
    if space.interval is not None:
        return f"examples of shape {space.shape} with real numbers in {list(space.interval)}"
    return f"examples of shape {space.shape} with levels = {space.levels}"


def write(card: Card, state: Mapping[str, Tensor], out: Path) -> Card:
    """The card as read back, written to `out` with its weights beside it; equal input gives equal files.

    Raises UserError if `out` cannot be written or holds another model of that name: it is never overwritten.
    """
    from vaebench.core.names import check_name

    try:
        check_name("model", card.name)
    except ValueError as error:
        raise UserError(f"--name: {error}") from error
    files.check_writable(out)
    content = save({name: tensor.clone(memory_format=contiguous_format) for name, tensor in state.items()})
    weights = Weights(f"{card.name}.safetensors", hashlib.sha256(content).hexdigest())
    card = dataclasses.replace(card, weights=weights, path=out / f"{card.name}.toml")
    assert card.path is not None
    if (out / weights.file).exists() and files.sha256(out / weights.file) != weights.sha256:
        raise UserError(f"{out / weights.file} exists and differs; choose another --name or --out")
    if card.path.exists() and cards.read(card.path, card.dataset) != card:
        raise UserError(f"{card.path} exists and differs; choose another --name or --out")
    files.write_atomic(out / weights.file, content)
    cards.write(card, card.path)
    return cards.read(card.path, card.dataset)
