"""The header of a safetensors file, read by the library within limits of our own. Imports no torch.

The library refuses what lies about places and sizes; it takes headers of 100 MB, any dtype and any number of axes.
"""

import hashlib
import math
import struct
from pathlib import Path
from reprlib import repr as shown
from typing import IO, NamedTuple

from safetensors import safe_open

from vaebench.core.errors import DataError, foreign

MAX_HEADER = 4 * 2**20
"""Bytes of JSON: some 30,000 tensors."""
MAX_RANK = 16
CHUNK = 2**20
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
"""The dtypes that weights may have, with their bytes."""
_PREFIX = struct.Struct("<Q")


class Entry(NamedTuple):
    """What the header says of one tensor: it lies in the bytes `start` to `stop` after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read(path: Path) -> dict[str, Entry]:
    """Every tensor of a file by name, in the order of their places. No tensor is read.

    DataError, with what is wrong, unless the header is at most `MAX_HEADER` bytes, each tensor is of a dtype of `SIZES`
    and of at most `MAX_RANK` axes, and they fill the file one after another, from the header to its end.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_PREFIX.size)
    except OSError as error:
        raise DataError(f"weights {path} cannot be read: {error.strerror}") from error
    with foreign(lambda reason: DataError(f"weights {path} are not a safetensors file{looks_like(path)}: {reason}")):
        _length(head)
        with safe_open(path, "np") as opened:
            slices = [(name, opened.get_slice(name)) for name in opened.offset_keys()]
            return _entries([(name, part.get_dtype(), tuple(part.get_shape())) for name, part in slices])


def _length(head: bytes) -> int:
    """The bytes of the header, which the file's first 8 say.

    Raises ValueError if they are too many, or there are not 8.
    """
    if len(head) < _PREFIX.size:
        raise ValueError(f"it has {len(head)} bytes, too few for a header")
    (length,) = _PREFIX.unpack(head)
    if length > MAX_HEADER:
        raise ValueError(f"its header claims {length} bytes; at most {MAX_HEADER} are read")
    return int(length)


def _entries(described: list[tuple[str, str, tuple[int, ...]]]) -> dict[str, Entry]:
    """Places of tensors of these names, dtypes and shapes, which the library has seen to lie without gap or overlap."""
    entries, start = dict[str, Entry](), 0
    for name, dtype, shape in described:
        if dtype not in SIZES:
            raise ValueError(f"{shown(name)} is of dtype {dtype}, which weights cannot have: {', '.join(SIZES)}")
        if len(shape) > MAX_RANK or any(length >= 2**63 for length in shape):
            raise ValueError(f"{shown(name)} has shape {shown(list(shape))}, which no tensor has")
        stop = start + math.prod(shape) * SIZES[dtype]
        entries[name] = Entry(dtype, shape, start, stop)
        start = stop
    return entries


def contents(path: Path) -> dict[str, tuple[str, tuple[int, ...], str]]:
    """Dtype, shape and SHA-256 of the bytes of every tensor of a file, by name: equal for a copy that is saved again.

    DataError as `read`.
    """
    entries = read(path)
    try:
        with path.open("rb") as file:
            length = _length(file.read(_PREFIX.size))
            return {name: (entry.dtype, entry.shape, _digest(file, length, entry)) for name, entry in entries.items()}
    except (OSError, ValueError) as error:
        raise DataError(f"weights {path} cannot be read: {error}") from error


def _digest(file: IO[bytes], length: int, entry: Entry) -> str:
    file.seek(_PREFIX.size + length + entry.start)
    digest, left = hashlib.sha256(), entry.stop - entry.start
    while left and (chunk := file.read(min(left, CHUNK))):
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest()


def looks_like(path: Path) -> str:
    """What a file seems to be that is not a safetensors file: " but an HTML page", or nothing where it is not known."""
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
