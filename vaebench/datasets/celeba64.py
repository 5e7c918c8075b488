"""CelebA faces, cropped and reduced as in the VAE literature (3x64x64, 256 levels)."""

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track
from torchvision.datasets import CelebA
from torchvision.datasets.utils import check_integrity

from vaebench.core import npy
from vaebench.core.data import Source, Space, Split
from vaebench.core.errors import foreign
from vaebench.datasets._files import damaged, remedy, require
from vaebench.datasets._images import decoded

PARTITION, FACES = "celeba/list_eval_partition.txt", "celeba/img_align_celeba"
SPLITS = ("train", "valid", "test")
SIZE, BOX, SIDE, CHUNK = (178, 218), (15, 40, 163, 188), 64, 1000


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" (162,770), "valid" (19,867; published likelihoods are on it) and "test" (19,962), no labels.

    Read from torchvision's layout in `<root>/celeba`; a split none of whose images are there is left out. Each face
    is cropped to columns 15..162, rows 40..187 and reduced to 64x64 by Pillow's bilinear filter (which averages over
    the area, "antialias"). The result is kept in `<root>/celeba/celeba64-<split>-<key>.npy`; the key changes with
    every image's name, size and time and with Pillow's version, and an older file is then removed. Content may
    differ in last bits between JPEG decoders.
    """
    require("celeba64", root, [PARTITION, FACES], download, lambda: CelebA(root, "valid", download=True))
    with os.scandir(root / FACES) as entries:
        stamps = {entry.name: f"{entry.name} {entry.stat().st_size} {entry.stat().st_mtime_ns}" for entry in entries}
    faces = {split: names for split, names in _partition(root).items() if not stamps.keys().isdisjoint(names)}
    if not faces:
        raise FileNotFoundError(f"celeba64: {root / FACES} holds no image; run: {remedy('celeba64', root)}")
    for split, names in faces.items():
        lost = [name for name in names if name not in stamps]
        if lost:
            raise FileNotFoundError(
                f"celeba64: {len(lost)} of {len(names)} images of {split} are not in {root / FACES}, "
                f"{lost[0]} first; unpack img_align_celeba.zip there again"
            )
    return {split: Split(split, _faces(root, split, names, stamps)) for split, names in faces.items()}


def _partition(root: Path) -> dict[str, list[str]]:
    """The official image names of each split."""
    md5 = next(md5 for _, md5, file in CelebA.file_list if file == Path(PARTITION).name)
    if not check_integrity(root / PARTITION, md5):
        raise damaged("celeba64", root, PARTITION, f"is not the official file, whose MD5 is {md5}")
    rows = [line.split() for line in (root / PARTITION).read_text().splitlines()]
    return {split: [name for name, part in rows if part == str(index)] for index, split in enumerate(SPLITS)}


def _faces(root: Path, split: str, names: Sequence[str], stamps: Mapping[str, str]) -> torch.Tensor:
    """The images `names` (N, 3, 64, 64), from the cache where it holds these very files."""
    source = "\n".join([f"{BOX} {SIDE} bilinear, Pillow {PIL.__version__}", *(stamps[name] for name in names)])
    cache = root / f"celeba/celeba64-{split}-{hashlib.sha256(source.encode()).hexdigest()[:16]}.npy"
    if not cache.exists():
        x = _decode(root, split, names)
        try:
            _save(cache, x)
        except OSError as error:
            logging.getLogger(__name__).warning("celeba64 is not cached, and will be decoded again: %s", error)
            return torch.from_numpy(x)
        for stale in cache.parent.glob(f"celeba64-{split}-{'?' * 16}.npy"):
            if stale != cache:
                stale.unlink(missing_ok=True)
    kept = f"celeba/{cache.name}"
    with foreign(lambda reason: damaged("celeba64", root, kept, f"is not a whole npy file ({reason})")):
        x = npy.read(cache, mapped=True)
    if x.dtype != np.uint8 or x.shape != (len(names), 3, SIDE, SIDE):
        raise damaged("celeba64", root, kept, f"holds {x.dtype} {x.shape}, not these images")
    return torch.from_numpy(x)


def _decode(root: Path, split: str, names: Sequence[str]) -> NDArray[np.uint8]:
    x = np.empty((len(names), 3, SIDE, SIDE), np.uint8)
    chunks = track(range(0, len(names), CHUNK), f"decoding celeba64 {split}", console=Console(stderr=True))
    with ThreadPoolExecutor() as pool:
        for start in chunks:
            files = [f"{FACES}/{name}" for name in names[start : start + CHUNK]]
            for offset, face in enumerate(pool.map(partial(_face, root), files)):
                x[start + offset] = face
    return x


def _face(root: Path, file: str) -> NDArray[np.uint8]:
    """One image (3, 64, 64)."""
    face = decoded("celeba64", root, file, "JPEG", SIZE, "RGB")
    small = face.crop(BOX).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small).transpose(2, 0, 1)


def _save(path: Path, x: NDArray[np.uint8]) -> None:
    """Write x under a temporary name and rename it, so that `path` is whole or absent."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            np.save(file, x)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


plugin = Source(
    name="celeba64",
    space=Space((3, 64, 64), 256, "pmf"),
    read=read,
    origin="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    licence="non-commercial research only",
)
