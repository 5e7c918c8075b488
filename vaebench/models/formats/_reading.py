"""State dicts in files of other projects: opened without running anything, and held against what is wanted."""

import json
import warnings
import zipfile
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vaebench.core import files, pickled
from vaebench.core.errors import DataError, foreign
from vaebench.core.tables import check_size
from vaebench.models import prefixes

MOST = 2**36
"""Bytes of a PyTorch file, which may have an optimiser's state beside the parameters."""
MOST_JSON = 2**20
"""Bytes of a file of options."""
_SHOWN = 5
_PICKLE = "data.pkl"
_PICKLES = 5
"""In a file of torch.save's former format, before the numbers: a magic one, a version, a system, the dict, its keys."""
_REFUSED = "UnpicklingError"
"""The class of torch's errors about what is in a pickle; about files that hold none it raises others."""


class StateDict(NamedTuple):
    """A state dict read from `path`, whose content has this `sha256`."""

    path: Path
    sha256: str
    tensors: dict[str, Tensor]


def read_file(path: Path, allowed: Sequence[Any] = ()) -> tuple[Any, str]:
    """What a PyTorch file holds, on the CPU, and its sha256; nothing in the file is ever run (`weights_only`).

    Beyond tensors and plain containers, only the classes and functions `allowed` may occur in it. Raises DataError if
    it is absent, truncated, a web page, or holds anything else, which could run code.
    """
    try:
        if (size := files.check_plain(path)) > MOST:
            raise DataError(f"{path} has {size} bytes, more than {MOST}")
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    _check_archive(path)
    _check_pickles(path)
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
    return content, files.sha256(path)


def _check_archive(path: Path) -> None:
    """Raises DataError if a member of the archive that a PyTorch file is would grow on reading: torch stores them."""
    if not zipfile.is_zipfile(path):
        return
    with foreign(lambda reason: DataError(f"{path} is truncated or not a PyTorch state dict ({reason})")):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
        if packed or sum(member.file_size for member in members) > path.stat().st_size:
            raise ValueError(f"it is packed: {packed[:1] or 'members overlap'}")


def _check_pickles(path: Path) -> None:
    """Raises DataError if a pickle in a PyTorch file has more words, or deeper ones, than tensors need.

    Its words are counted before any is done: torch does them one by one. What is not a pickle is left to torch.
    """
    tell = f"{path} is no PyTorch state dict: its pickle is refused"
    with foreign(lambda reason: DataError(f"{tell}: {reason}")), ExitStack() as opened:
        if zipfile.is_zipfile(path):
            archive = opened.enter_context(zipfile.ZipFile(path))
            inside = [member for member in archive.infolist() if member.filename.endswith(_PICKLE)]
            if len(inside) > 1:
                raise ValueError(f"it has {len(inside)} of them")
            sources = [(opened.enter_context(archive.open(member)), 1) for member in inside]
        else:
            sources = [(opened.enter_context(path.open("rb")), _PICKLES)]
        for file, count in sources:
            for _ in range(count):
                try:
                    deque(pickled.words(file), maxlen=0)
                except pickled.RefusedError:
                    raise
                except ValueError:  # no pickle
                    break


def read_state_dict(path: Path) -> StateDict:
    """The tensors of a PyTorch state dict, read by `read_file`. DataError also where it is not a flat mapping of names
    to dense tensors."""
    content, digest = read_file(path)
    return StateDict(path, digest, tensors(path, content))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises DataError if it is absent, too large, or holds something else."""
    try:
        if (size := files.check_plain(path)) > MOST_JSON:
            raise DataError(f"{path} has {size} bytes, more than {MOST_JSON}")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    with foreign(lambda reason: DataError(f"{path} is not JSON: {reason}")):
        found = json.loads(content, parse_constant=_no_number)
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}, not an object")
        check_size(found)
    return found


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not a number of JSON")


def tensors(path: Path, content: Any) -> dict[str, Tensor]:
    """`content` of `path` as a state dict. Raises DataError if it is not a flat mapping of names to dense tensors."""
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
    if (change := prefixes.renaming(have, wanted)) is not None:
        raise DataError(f"{found.path} does not fit: {change.cause}; rename them")
    if (cause := prefixes.stranger(have, wanted)) is not None:
        raise DataError(f"{found.path} does not fit: {cause}")
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
