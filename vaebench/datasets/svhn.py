"""SVHN, house numbers in street views, cropped digits, without its `extra` split (3x32x32, 256 levels)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import SVHN
from torchvision.datasets.utils import check_integrity

from vaebench.core.data import Source, Space, Split
from vaebench.core.errors import foreign
from vaebench.datasets._files import damaged, require, size_of

SPLITS = ("train", "test")
MOST = 2**28  # bytes of a file; that of the training images has 182 million


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" (73,257) and "test" (26,032) of `<root>/{train,test}_32x32.mat`, the digit 0 labelled 0."""
    files = [SVHN.split_list[split][1] for split in SPLITS]
    require("svhn", root, files, download, lambda: [SVHN(root, split=split, download=True) for split in SPLITS])
    return {split: _read(root, split) for split in SPLITS}


def _read(root: Path, split: str) -> Split:
    _, file, md5 = SVHN.split_list[split]
    size_of("svhn", root, file, MOST)
    if not check_integrity(root / file, md5):
        raise damaged("svhn", root, file, f"is not the official file, whose MD5 is {md5}")
    with foreign(lambda reason: damaged("svhn", root, file, f"cannot be read ({reason})")):
        found = SVHN(root, split=split)
    x = torch.from_numpy(np.ascontiguousarray(found.data))  # (N, 3, 32, 32)
    return Split(split, x, torch.from_numpy(found.labels))


plugin = Source(
    name="svhn",
    space=Space((3, 32, 32), 256, "pmf"),
    read=read,
    origin="http://ufldl.stanford.edu/housenumbers",
    licence="non-commercial use only",
)
