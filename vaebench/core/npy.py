"""Arrays of numbers in .npy files: the header is held against the file before anything is made of it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as layout
from numpy.typing import NDArray

from vaebench.core import files

_HEADERS = {(1, 0): layout.read_array_header_1_0, (2, 0): layout.read_array_header_2_0}


def read(path: Path, *, mapped: bool = False) -> NDArray[Any]:
    """The array of an .npy file, in memory, or with `mapped` read as it is used, a change staying in memory.

    Raises ValueError if it is not such, holds something else than numbers, or is not as long as its header says;
    OSError if it cannot be opened; DataError if it is a pipe or a device. Nothing in it is unpickled.
    """
    size = files.check_plain(path)
    with path.open("rb") as file:
        version = layout.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"it is of version {version} of the format, not of {' or '.join(map(str, _HEADERS))}")
        shape, _, kind = _HEADERS[version](file)
        if kind.kind not in "biufc":
            raise ValueError(f"it holds {kind}")
        count = math.prod(shape)
        if min(shape, default=0) < 0 or size - file.tell() != count * kind.itemsize:
            raise ValueError(f"it is truncated, or longer than its header says, {shape} of {kind}")
    found: NDArray[Any] = np.load(path, mmap_mode="c" if mapped and count else None, allow_pickle=False)
    return found
