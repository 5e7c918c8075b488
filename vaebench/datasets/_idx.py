"""28x28 grey images and their labels in the IDX files that MNIST and its relatives are published as."""

import gzip
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.datasets import EMNIST, MNIST
from torchvision.datasets.utils import check_integrity

from vaebench.core.data import Reading, Split
from vaebench.core.errors import foreign
from vaebench.datasets._files import damaged, require, size_of

FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))

LETTER_IMAGES, LETTER_LABELS = (
    f"EMNIST/raw/emnist-letters-test-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")
)
MOST = 2**28  # bytes of a file; MNIST's training images have 47 million
UPRIGHT_MD5 = "178f2ab62e11ed75594f3041a9b72002"


def mnist_like(
    name: str, layout: type[MNIST], root: Path, download: bool, reading: Reading | None = None
) -> Mapping[str, Split]:
    """The splits "train" and "test" of a dataset that torchvision keeps as MNIST, in `<root>/<layout>/raw`."""
    raw = f"{layout.__name__}/raw"
    require(name, root, [f"{raw}/{file}" for file in FILES], download, lambda: layout(root, download=True), True)
    return {
        "train": read_split(name, root, "train", f"{raw}/{FILES[0]}", f"{raw}/{FILES[1]}", reading),
        "test": read_split(name, root, "test", f"{raw}/{FILES[2]}", f"{raw}/{FILES[3]}", reading),
    }


def letters(name: str, root: Path, download: bool, upright_md5: str = UPRIGHT_MD5) -> Split:
    """The split "test" (20,800) of EMNIST's letters in `<root>/EMNIST/raw`, upright, labels 1 (a) to 26 (z).

    The official files hold each image with rows and columns exchanged; here they are exchanged back, so that letters
    look like letters. A copy in circulation holds the same images already upright: it is known by its MD5, and read
    as it is.
    """
    fetch = partial(EMNIST, root, "letters", train=False, download=True)
    require(name, root, [LETTER_IMAGES, LETTER_LABELS], download, fetch, True)
    found = read_split(name, root, "test", LETTER_IMAGES, LETTER_LABELS)
    if check_integrity(root / LETTER_IMAGES, upright_md5):
        return found
    return Split("test", found.x.transpose(-1, -2).contiguous(), found.y)


def read_split(name: str, root: Path, split: str, images: str, labels: str, reading: Reading | None = None) -> Split:
    """The split `split` of the 28x28 images (N, 1, 28, 28) in file `images` and the labels (N,) in file `labels`."""
    x, y = _read(name, root, images, 3), _read(name, root, labels, 1)
    if x.shape[1:] != (28, 28):
        raise damaged(name, root, images, f"holds images of {x.shape[1]}x{x.shape[2]}, not 28x28")
    if len(x) != len(y):
        raise damaged(name, root, labels, f"holds {len(y)} labels for {len(x)} images")
    return Split(split, torch.from_numpy(x).unsqueeze(1), torch.from_numpy(y).long(), reading)


def _read(name: str, root: Path, file: str, dims: int) -> NDArray[np.uint8]:
    """The unsigned bytes in an IDX file: 0, 0, 8 (the type), `dims`, each size as a big-endian uint32, then data.

    Where it is absent its .gz is read, however that was compressed.
    """
    if not (root / file).exists():
        file = f"{file}.gz"
    content = _content(name, root, file)
    start = 4 + 4 * dims
    held, head = len(content) - start, content[:start]
    if held < 0 or head[:4].tolist() != [0, 0, 8, dims]:
        raise damaged(name, root, file, f"is not an IDX file of unsigned bytes in {dims} dimension(s)")
    shape = [int(size) for size in head[4:].view(">u4")]
    if held != math.prod(shape):
        raise damaged(
            name, root, file, f"holds {held} bytes, not the {math.prod(shape)} of {'x'.join(map(str, shape))}"
        )
    return content[start:].reshape(shape)


def _content(name: str, root: Path, file: str) -> NDArray[np.uint8]:
    """The bytes of `file`, at most `MOST`: unpacked where it is a .gz."""
    size_of(name, root, file, MOST)
    if not file.endswith(".gz"):
        return np.fromfile(root / file, np.uint8)
    with (
        foreign(lambda reason: damaged(name, root, file, f"is not a whole gzip file ({reason})")),
        gzip.open(root / file) as unpacked,
    ):
        content = unpacked.read(MOST + 1)
        if len(content) > MOST:
            raise ValueError(f"it unpacks to more than {MOST} bytes")
    return np.frombuffer(bytearray(content), np.uint8)
