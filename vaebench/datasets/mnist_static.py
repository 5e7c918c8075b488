"""MNIST digits binarised once for all by Larochelle: fixed files (28x28, 2 levels); 50,000 / 10,000 / 10,000."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from vaebench.core.data import Source, Space, Split
from vaebench.datasets._files import damaged, require, size_of

FOLDER = "BinaryMNIST"
ADDRESS = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist"
SHA1 = {
    "train": "cf70514ec5f481e54ad3eb0e6c03c83326ff96f8",
    "valid": "13418487742e6ea6d48db7b5187353a20b1b1f8c",
    "test": "ca70bd7775e182596dec148d4dc1bc6bd6c4c5f4",
}
PIXELS = 28 * 28
MOST = 2**28  # bytes of a file; that of the training images has 78 million


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train", "valid" and "test" of `<root>/BinaryMNIST/binarized_mnist_*.amat`, without labels."""
    require("mnist-static", root, [_file(split) for split in SHA1], download, lambda: _fetch(root))
    return {split: Split(split, _read(root, _file(split))) for split in SHA1}


def _file(split: str) -> str:
    return f"{FOLDER}/binarized_mnist_{split}.amat"


def _fetch(root: Path) -> None:
    """Download the absent files; one whose SHA-1 is wrong never gets its name (ValueError)."""
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    for split, expected in SHA1.items():
        path = root / _file(split)
        if path.exists():
            continue
        partial, address = path.with_suffix(".partial"), f"{ADDRESS}/{path.name}"
        torch.hub.download_url_to_file(address, str(partial))
        with partial.open("rb") as content:
            found = hashlib.file_digest(content, "sha1").hexdigest()
        if found != expected:
            partial.unlink()
            raise ValueError(f"mnist-static: {address} has SHA-1 {found}, not {expected}; try again later")
        partial.replace(path)


def _read(root: Path, file: str) -> torch.Tensor:
    """The images (N, 1, 28, 28) of an `.amat` file: lines of 784 digits 0 or 1, each followed by one blank."""
    size_of("mnist-static", root, file, MOST)
    content = np.fromfile(root / file, np.uint8)
    if len(content) == 0 or len(content) % (2 * PIXELS):
        raise damaged("mnist-static", root, file, f"is not a whole number of lines of {PIXELS} pixels")
    pairs = content.reshape(-1, PIXELS, 2)
    x = pairs[..., 0] - ord("0")
    if x.max() > 1 or (pairs[:, :-1, 1] != ord(" ")).any() or (pairs[:, -1, 1] != ord("\n")).any():
        raise damaged("mnist-static", root, file, f"is not lines of {PIXELS} digits 0 or 1 with single spaces between")
    return torch.from_numpy(x.reshape(-1, 1, 28, 28))


plugin = Source(
    name="mnist-static",
    space=Space((1, 28, 28), 2, "pmf"),
    read=read,
    origin=ADDRESS,
    licence="none stated; as MNIST",
    fingerprint="db77f56330ab12f6bdb0abd4d4f0c5b50a92339f417fb9f0d88ce8248dddf172",
)
