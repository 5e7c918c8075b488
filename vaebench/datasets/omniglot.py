"""Omniglot characters, 105x105 drawings area-averaged to grey; not Burda's 28x28 file (28x28, 256 levels)."""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.datasets import Omniglot
from torchvision.datasets.utils import download_and_extract_archive

from vaebench.core.data import Source, Space, Split
from vaebench.core.errors import foreign
from vaebench.datasets._files import damaged, require, size_of
from vaebench.datasets._images import decoded

PACKED = "omniglot/omniglot_105.npz"
FOLDERS = {"train": "images_background", "test": "images_evaluation"}
SIDE, CHUNK = 105, 4096
MOST = 2**28  # bytes of the packed file, and of what is in it, which the official drawings fill to a fifth


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" (background, 19,280) and "test" (evaluation, 13,180), ink bright, paper 0, sorted by path.

    Read from `<root>/omniglot/omniglot_105.npz` where that exists (`ink_bits`: packed rows of 105x105 bits, 1 = ink;
    `path`: the official file names), else from torchvision's folders of PNG files in `<root>/omniglot-py`: the same
    drawings give the same tensors. Labels are Omniglot's own number of the character less 1, 0..1622, from the file
    name; no character is in both splits. Likelihoods on these grey images, or on draws from them, do not compare
    with published ones on `chardata.mat`, Burda's own binary reduction to 28x28.
    """
    if (root / PACKED).exists():
        return _splits(root, *_packed(root))
    folders = [f"{Omniglot.folder}/{folder}" for folder in FOLDERS.values()]
    require("omniglot", root, folders, download, lambda: _fetch(root))
    paths = sorted(file for folder in folders for file in (root / folder).glob("*/*/*.png"))
    names = [path.relative_to(root / Omniglot.folder).as_posix() for path in paths]
    ink = [_drawing(root, path.relative_to(root).as_posix()) for path in paths]
    return _splits(root, names, np.stack(ink) if ink else np.zeros((0, SIDE, SIDE), np.uint8))


def _fetch(root: Path) -> None:
    for folder in FOLDERS.values():
        address = f"{Omniglot.download_url_prefix}/{folder}.zip"
        download_and_extract_archive(address, root / Omniglot.folder, md5=Omniglot.zips_md5[folder])


def reduce(ink: NDArray[np.uint8]) -> torch.Tensor:
    """Grey images (N, 1, 28, 28) of one-bit drawings (N, 105, 105): 255 times the share of each cell that is ink.

    A cell is 3.75 = 15/4 pixels wide. In quarters of a pixel all is integer: s = W ink W', where W (28, 105) counts
    the quarters of each pixel in each cell, lies in 0..225, and the grey level is 255 s / 225 = 17 s / 15 rounded
    (never a tie). So the result is exact, the same on every machine.
    """
    quarters = torch.eye(SIDE).repeat_interleave(4, dim=1).reshape(SIDE, 28, 15).sum(2)  # (105, 28), W'
    grey = []
    for drawings in torch.split(torch.from_numpy(ink), CHUNK):
        s = quarters.T @ drawings.float() @ quarters
        grey.append(((17 * s.long() + 7) // 15).to(torch.uint8))
    return torch.cat(grey).unsqueeze(1)


def _splits(root: Path, names: list[str], ink: NDArray[np.uint8]) -> Mapping[str, Split]:
    found = [re.fullmatch(r"(images_\w+)/[^/]+/[^/]+/(\d{4})_\d\d\.png", name) for name in names]
    folder = np.array([match[1] if match else "" for match in found])
    if not set(FOLDERS.values()) <= set(folder.tolist()) or "" in folder:
        wrong = next((name for name, match in zip(names, found, strict=True) if not match), "nothing")
        raise ValueError(
            f"omniglot under {root} must be drawings images_{{background,evaluation}}/*/*/0001_01.png "
            f"of both sets, and holds {wrong}; remove it and run: vaebench data get omniglot --data {root}"
        )
    label = torch.tensor([int(match[2]) - 1 for match in found if match])
    return {s: Split(s, reduce(ink[folder == f]), label[torch.from_numpy(folder == f)]) for s, f in FOLDERS.items()}


def _packed(root: Path) -> tuple[list[str], NDArray[np.uint8]]:
    """The official names and the drawings (N, 105, 105) of the packed file, sorted by name."""
    size_of("omniglot", root, PACKED, MOST)
    with foreign(
        lambda reason: damaged("omniglot", root, PACKED, f"is not an npz file with ink_bits and path ({reason})")
    ):
        with zipfile.ZipFile(root / PACKED) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MOST:
            raise ValueError(f"it unpacks to {unpacked} bytes, more than {MOST}")
        with np.load(root / PACKED, allow_pickle=False) as arrays:
            bits, names = arrays["ink_bits"], arrays["path"]
    if bits.dtype != np.uint8 or names.dtype.kind != "S" or bits.shape != (*names.shape, -(-(SIDE**2) // 8)):
        found = f"{bits.dtype} ink_bits {bits.shape} and {names.dtype} path {names.shape}"
        raise damaged("omniglot", root, PACKED, f"holds {found}, not uint8 (N, 1379) and bytes (N,)")
    order = np.argsort(names)
    ink = np.unpackbits(bits[order], axis=1, count=SIDE**2).reshape(-1, SIDE, SIDE)
    return [name.decode("ascii", "replace") for name in names[order].tolist()], ink


def _drawing(root: Path, file: str) -> NDArray[np.uint8]:
    """The drawing (105, 105) of a PNG file: 1 where it is black."""
    grey = np.asarray(decoded("omniglot", root, file, "PNG", (SIDE, SIDE), "L"), np.uint8)
    if not np.isin(grey, (0, 255)).all():
        raise damaged("omniglot", root, file, f"is not a black-and-white drawing of {SIDE}x{SIDE}")
    return np.where(grey == 0, np.uint8(1), np.uint8(0))


plugin = Source(
    name="omniglot",
    space=Space((1, 28, 28), 256, "pmf"),
    read=read,
    origin="https://github.com/brendenlake/omniglot",
    licence="MIT",
    fingerprint="dd8eca7d2b645639d878d4ef2e7b457e9b0b9bc4aed20a550da1dcf7eac3ba27",
)
