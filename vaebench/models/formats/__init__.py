"""Checkpoints of other projects as ours: read without running anything, checked strictly, written as card and weights.

An importer is a file of this folder that ends in `plugin = Importer(...)`.
"""

import dataclasses
import hashlib
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.data import Source, Space
from vaebench.core.errors import DataError, UserError, foreign
from vaebench.models import card as cards
from vaebench.models.card import Card, Weights
from vaebench.models.loading import build_model

_SHOWN = 5
_REFUSED = "UnpicklingError"
"""The class of torch's errors about what is in a pickle; about files that hold none it raises others."""


class Imported(NamedTuple):
    """A checkpoint as a model of a family: the `[model]` table and the state dict of one for examples of `space`.

    `dataset` is None where the files do not name one of ours; `notes` say which files these were.
    """

    family: str
    model: dict[str, Any]
    state: dict[str, Tensor]
    space: Space
    summary: str
    notes: str
    dataset: str | None = None


@dataclass(frozen=True)
class Importer:
    """The plug-in of a format. `files` are what its files are called, one for each that it needs.

    `read(*paths)`, or `read(*paths, options)` where there is a frozen dataclass `options`, gives what they hold:
    DataError where that is not all of a model, checked without running anything. A field of `options` is an option of
    `vaebench import`, whose help is the field's `metadata["help"]`.
    """

    files: tuple[str, ...]
    read: Callable[..., Imported]
    options: type | None = None


class StateDict(NamedTuple):
    """A state dict read from `path`, whose content has this `sha256`."""

    path: Path
    sha256: str
    tensors: dict[str, Tensor]


def load(name: str) -> Importer:
    """The importer `name`. UserError where there is none, or where a plug-in of that name is not an `Importer`."""
    found = plugins.load("importers", name)
    if not isinstance(found, Importer):
        raise UserError(f"plug-in {name!r} is a {type(found).__name__}; an importer's is a vaebench Importer")
    return found


def convert(
    importer: Importer, paths: Sequence[Path], options: Any = None, *, name: str, out: Path, dataset: str | None = None
) -> Card:
    """The card of model `name`, written into `out` with its weights.

    `dataset` is that of the files where None. UserError where they name none, where the model is for other examples
    than the dataset's, and as `write`; DataError as the importer's `read`, and where what it gives does not fit the
    family.
    """
    here = " and ".join(map(str, paths))
    with foreign(lambda reason: DataError(f"{here} cannot be imported: {reason}")):
        if importer.options is None:
            found = importer.read(*paths)
        else:
            found = importer.read(*paths, importer.options() if options is None else options)
    wanted = _described(found.space)
    if (dataset := dataset or found.dataset) is None:
        raise UserError(f"{here}: no dataset here is the model's own; name one of {wanted} with --dataset")
    source = plugins.load("datasets", dataset)
    assert isinstance(source, Source)
    if source.space != found.space:
        raise UserError(
            f"{here}: the model is for {wanted}, but {dataset!r} has {_described(source.space)}; "
            "name another with --dataset"
        )
    card = Card(name, dataset, found.summary, found.family, found.model, notes=found.notes)
    with torch.device("meta"):
        shapes = build_model(card, found.space).state_dict()
    check(StateDict(paths[0], "", found.state), shapes)
    return write(card, found.state, out)


def _described(space: Space) -> str:
    return f"examples of shape {space.shape} with levels = {space.levels}"


def read_file(path: Path, allowed: Sequence[Any] = ()) -> tuple[Any, str]:
    """What a PyTorch file holds, on the CPU, and its sha256; nothing in the file is ever run (`weights_only`).

    Beyond tensors and plain containers, only the classes and functions `allowed` may occur in it. DataError where it is
    absent, truncated, a web page, or holds anything else, which could run code.
    """
    digest = files.sha256(path)
    with path.open("rb") as file:
        head = file.read(512)
    _check_archive(path)
    if head.lstrip()[:1] == b"<":
        raise DataError(f"{path} is an HTML page (a download that failed?), not a PyTorch state dict; fetch it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols, of sparse tensors: both are refused below
            with torch.serialization.safe_globals(list(allowed)):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises is not a closed list
        pickled = head[:1] == b"\x80" or zipfile.is_zipfile(path)
        if pickled and type(error).__name__ == _REFUSED:
            raise DataError(
                f"{path} holds more than tensors, which could run code, and was not opened; "
                "ask whoever made it for a plain state dict"
            ) from error
        raise DataError(f"{path} is truncated or not a PyTorch state dict ({type(error).__name__})") from error
    return content, digest


def _check_archive(path: Path) -> None:
    """DataError where a member of the archive that a PyTorch file is would grow when it is read: torch stores them."""
    if not zipfile.is_zipfile(path):
        return
    with foreign(lambda reason: DataError(f"{path} is truncated or not a PyTorch state dict ({reason})")):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
        if packed or sum(member.file_size for member in members) > path.stat().st_size:
            raise ValueError(f"it is packed: {packed[:1] or 'members overlap'}")


def read_state_dict(path: Path) -> StateDict:
    """The tensors of a PyTorch state dict, read by `read_file`. DataError also where it is no flat mapping of names to
    dense tensors."""
    content, digest = read_file(path)
    return StateDict(path, digest, tensors(path, content))


def tensors(path: Path, content: Any) -> dict[str, Tensor]:
    """`content` of `path` as a state dict. DataError where it is no flat mapping of names to dense tensors."""
    if not isinstance(content, Mapping):
        raise DataError(f"{path} holds a {type(content).__name__}, not a mapping of names to tensors")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise DataError(f"{path}: {name!r} is {type(tensor).__name__}, not a dense tensor; give a plain state dict")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise DataError(f"{path}: {name!r} of shape {list(tensor.shape)} repeats what it holds; save it contiguous")
    return dict(content)


def check(found: StateDict, wanted: Mapping[str, Tensor]) -> None:
    """DataError names every tensor of `found` that is missing, extra, misshapen, of another kind or not finite."""
    have = found.tensors
    faults = [f"missing {name}" for name in wanted.keys() - have.keys()]
    faults += [f"unknown {name}" for name in have.keys() - wanted.keys()]
    for name in wanted.keys() & have.keys():
        tensor, like = have[name], wanted[name]
        if tensor.shape != like.shape:
            faults.append(f"{name} is {list(tensor.shape)} instead of {list(like.shape)}")
        elif (tensor.is_floating_point(), tensor.is_complex()) != (like.is_floating_point(), like.is_complex()):
            faults.append(f"{name} is {tensor.dtype} instead of {like.dtype}")
        elif not bool(torch.isfinite(tensor).all()):
            faults.append(f"NaN or infinity in {name}")
    if faults:
        shown = "; ".join(sorted(faults)[:_SHOWN])
        more = f" and {len(faults) - _SHOWN} more faults" if len(faults) > _SHOWN else ""
        raise DataError(f"{found.path} does not fit: {shown}{more}")


def write(card: Card, state: Mapping[str, Tensor], out: Path) -> Card:
    """The card as read back, written to `out` with its weights beside it; equal input gives equal files.

    UserError where `out` cannot be written or holds another model of that name: it is never overwritten.
    """
    from vaebench.core.names import check_name

    try:
        check_name("model", card.name)
    except ValueError as error:
        raise UserError(f"--name: {error}") from error
    files.check_writable(out)
    content = save({name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()})
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
