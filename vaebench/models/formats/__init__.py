"""Foreign checkpoints as ours: read without running anything, checked strictly, written as safetensors and a card."""

import dataclasses
import hashlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from vaebench.core import files
from vaebench.core.errors import DataError, UserError
from vaebench.models import card as cards
from vaebench.models.card import Card, Weights

_SHOWN = 5


class Foreign(NamedTuple):
    """A state dict read from `path`, whose content has this `sha256`."""

    path: Path
    sha256: str
    tensors: dict[str, Tensor]


def read_file(path: Path, allowed: Sequence[Any] = ()) -> tuple[Any, str]:
    """What a PyTorch file holds, on the CPU, and its sha256; nothing in the file is ever run (`weights_only`).

    Beyond tensors and plain containers, only the classes and functions `allowed` may occur in it. DataError where it is
    absent, truncated, a web page, or holds anything else, which could run code.
    """
    digest = files.sha256(path)
    with path.open("rb") as file:
        head = file.read(512)
    if head.lstrip()[:1] == b"<":
        raise DataError(f"{path} is an HTML page (a download that failed?), not a PyTorch state dict; fetch it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols, of sparse tensors: both are refused below
            with torch.serialization.safe_globals(list(allowed)):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises is not a closed list
        pickled = head[:1] == b"\x80" and "Unsupported operand" in str(error)  # a pickle that torch.save did not write
        if pickled or "Unsupported global" in str(error) or "Unsupported class" in str(error):
            raise DataError(
                f"{path} holds more than tensors, which could run code, and was not opened; "
                "ask whoever made it for a plain state dict"
            ) from error
        raise DataError(f"{path} is truncated or not a PyTorch state dict ({type(error).__name__})") from error
    return content, digest


def read_state_dict(path: Path) -> Foreign:
    """The tensors of a PyTorch state dict, read by `read_file`. DataError also where it is no flat mapping of names to
    dense tensors."""
    content, digest = read_file(path)
    return Foreign(path, digest, tensors(path, content))


def tensors(path: Path, content: Any) -> dict[str, Tensor]:
    """`content` of `path` as a state dict. DataError where it is no flat mapping of names to dense tensors."""
    if not isinstance(content, Mapping):
        raise DataError(f"{path} holds a {type(content).__name__}, not a mapping of names to tensors")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise DataError(f"{path}: {name!r} is {type(tensor).__name__}, not a dense tensor; give a plain state dict")
    return dict(content)


def check(found: Foreign, wanted: Mapping[str, Tensor]) -> None:
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
