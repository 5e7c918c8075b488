"""Finished blocks on disk, found by everything that could change them: a killed run goes on where it stopped.

Imports no torch. A file is a line with a checksum, which also covers the key, and then a safetensors payload. Whatever
does not check out (truncated, altered, foreign, moved) counts as absent.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from vaebench import __version__
from vaebench.core import files

LIMIT = 2_000_000_000  # bytes that `prune` leaves by default
_MAGIC = b"vaebench block 2 "  # raised whenever blocks of before could be wrong
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, kw_only=True)
class BlockKey:
    """All that a block's values depend on.

    `architecture` digests the adapter and its options; `split` is a split's identity; `function` is what is mapped over
    it, and what that is given, by `content.pass_identity`; `noise` is the seed of its noise.
    """

    architecture: str
    weights_sha256: str
    data_fingerprint: str
    dataset: str
    split: str
    metric: str
    metric_version: int
    parameters: str
    function: str
    noise: int
    dtype: str
    device: str
    block_start: int
    block_stop: int
    torch: str
    vaebench: str = __version__

    @property
    def digest(self) -> str:
        """The SHA-256 of the key as sorted JSON, in hex."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@final
class Journal:
    """Blocks under the folder `root`, which is made when first written to. Safe to share between processes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _path(self, key: BlockKey) -> Path:
        return self._root / key.digest[:2] / f"{key.digest[2:]}.block"

    def get(self, key: BlockKey) -> dict[str, Array] | None:
        """The arrays of a finished block, the caller's own; None where it is absent, damaged or unreadable."""
        path = self._path(key)
        try:
            head, _, payload = path.read_bytes().partition(b"\n")
            if head != _head(key, payload):
                return None
            arrays = {name: array.copy() for name, array in load(payload).items()}
        except (OSError, SafetensorError):
            return None
        with suppress(OSError):  # a read-only journal can still be read
            os.utime(path)
        return arrays

    def put(self, key: BlockKey, arrays: Mapping[str, Array]) -> None:
        """Write a finished block, whole or not at all. Raises UserError if it cannot be written; the run can go on.

        Raises ValueError for an array that is not of numbers.
        """
        for name, array in arrays.items():
            if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
                raise ValueError(f"array {name!r} of type {array.dtype} cannot be kept in the journal")
        payload = save({name: np.array(array, order="C") for name, array in sorted(arrays.items())})
        files.write_atomic(self._path(key), _head(key, payload) + b"\n" + payload)

    def blocks(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Every block, and what a killed writer left behind more than an hour ago; nothing else in the folder."""
        for path in self._root.glob("[0-9a-f][0-9a-f]/*"):
            written = re.fullmatch(r"[0-9a-f]{62}\.block", path.name)
            left = re.fullmatch(r"\.[0-9a-f]{62}\.block\..{8}", path.name)
            with suppress(OSError):  # another process may remove it first
                status = path.lstat()
                if written or (left and status.st_mtime < time.time() - 3600):
                    yield path, status

    def prune(self, max_bytes: int = LIMIT) -> int:
        """Remove the blocks used longest ago until at most `max_bytes` are left; the bytes removed."""
        return files.prune(self.blocks(), max_bytes)


def _head(key: BlockKey, payload: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(key.digest.encode() + payload).hexdigest().encode()
