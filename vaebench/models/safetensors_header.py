"""The header of a safetensors file, checked in full before a byte of any tensor is read. Imports no torch.

A file is 8 bytes n, little-endian; n bytes of JSON, which give each tensor's dtype, shape and place; and the tensors.
"""

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from reprlib import repr as shown
from typing import IO, Any, NamedTuple

from vaebench.core.errors import DataError, foreign

MAX_HEADER = 4 * 2**20
"""Bytes of JSON: some 30,000 tensors."""
MAX_RANK = 16
CHUNK = 2**20
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
"""The dtypes that weights may have, with their bytes."""
_METADATA = "__metadata__"
_PREFIX = struct.Struct("<Q")


class Entry(NamedTuple):
    """What the header says of one tensor: it lies in the bytes `start` to `stop` after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read(path: Path) -> dict[str, Entry]:
    """Every tensor of a file by name. At most `MAX_HEADER` bytes are read, whatever the file says of itself.

    DataError, with what is wrong, unless each tensor has exactly the bytes of its dtype and shape, and the tensors fill
    the file one after another, from the header to its end.
    """
    try:
        with path.open("rb") as file:
            size, head = os.fstat(file.fileno()).st_size, file.read(_PREFIX.size + MAX_HEADER)
    except OSError as error:
        raise DataError(f"weights {path} cannot be read: {error.strerror}") from error
    with foreign(lambda reason: DataError(f"weights {path} are not a safetensors file{looks_like(path)}: {reason}")):
        text, room = _text(head, size)
        entries = _entries(text)
        _check_places(entries, room)
    return entries


def contents(path: Path) -> dict[str, tuple[str, tuple[int, ...], str]]:
    """Dtype, shape and SHA-256 of the bytes of every tensor of a file, by name: equal for a copy that is saved again.

    DataError as `read`.
    """
    entries = read(path)
    try:
        with path.open("rb") as file:
            (length,) = _PREFIX.unpack(file.read(_PREFIX.size))
            return {name: (entry.dtype, entry.shape, _digest(file, length, entry)) for name, entry in entries.items()}
    except (OSError, struct.error) as error:
        raise DataError(f"weights {path} cannot be read: {error}") from error


def _digest(file: IO[bytes], length: int, entry: Entry) -> str:
    file.seek(_PREFIX.size + length + entry.start)
    digest, left = hashlib.sha256(), entry.stop - entry.start
    while left and (chunk := file.read(min(left, CHUNK))):
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest()


def looks_like(path: Path) -> str:
    """What a file seems to be that is no safetensors file: " but an HTML page", or nothing where it is not known."""
    if path.is_dir():
        return " but a folder"
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError:
        return ""
    if head.lstrip()[:1] == b"<":
        return " but an HTML page (a download that failed?)"
    if head[:2] == b"PK" or head[:1] == b"\x80":
        return " but a pickle, which could run code and is never opened; save the state dict with safetensors"
    return ""


def _text(head: bytes, size: int) -> tuple[bytes, int]:
    """The JSON, and how many bytes the file holds after it."""
    if len(head) < _PREFIX.size:
        raise ValueError(f"it has {size} bytes, too few for a header")
    (length,) = _PREFIX.unpack_from(head)
    if length > MAX_HEADER:
        raise ValueError(f"its header claims {length} bytes; at most {MAX_HEADER} are read")
    if (room := size - _PREFIX.size - length) < 0:
        raise ValueError(f"its header claims {length} bytes, the file has {size}")
    return head[_PREFIX.size : _PREFIX.size + length], room


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"its header says {shown(key)} twice")
        found[key] = value
    return found


def _entries(text: bytes) -> dict[str, Entry]:
    if not text.startswith(b"{"):
        raise ValueError("its header is no JSON object")
    table = json.loads(text.decode(), object_pairs_hook=_unique)
    about = table.pop(_METADATA, {})
    if not isinstance(about, dict) or not all(isinstance(value, str) for value in about.values()):
        raise ValueError(f"its {_METADATA} is no table of texts")
    return {name: _entry(name, value) for name, value in table.items()}


def _entry(name: str, value: Any) -> Entry:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"its header gives {shown(name)} other keys than dtype, shape and data_offsets")
    dtype, shape, place = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise ValueError(f"{shown(name)} is of dtype {shown(dtype)}, which weights cannot have: {', '.join(SIZES)}")
    if not _naturals(shape, MAX_RANK) or not _naturals(place, 2) or len(place) != 2:
        raise ValueError(f"{shown(name)} has shape {shown(shape)} and data_offsets {shown(place)}")
    wanted = math.prod(shape) * SIZES[dtype]
    if (held := place[1] - place[0]) != wanted:
        raise ValueError(f"{shown(name)} of {dtype} {shape} has {wanted} bytes, its header claims {held}")
    return Entry(dtype, tuple(shape), *place)


def _naturals(value: Any, most: int) -> bool:
    return isinstance(value, list) and len(value) <= most and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _check_places(entries: dict[str, Entry], room: int) -> None:
    """ValueError unless the tensors follow one another without gap or overlap and fill `room` bytes."""
    places = sorted((entry.start, entry.stop, name) for name, entry in entries.items())
    for (_, stop, before), (start, _, name) in pairwise([(0, 0, "the header"), *places]):
        if start != stop:
            what = "overlaps" if start < stop else "leaves a gap after"
            raise ValueError(f"{shown(name)} begins at byte {start} and {what} {shown(before)}, which ends at {stop}")
    if (end := max((stop for _, stop, _ in places), default=0)) != room:
        raise ValueError(f"its tensors end at byte {end}, and it holds {room} bytes of them")
