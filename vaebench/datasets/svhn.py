"""SVHN, house numbers in street views, cropped digits, without its `extra` split (3x32x32, 256 levels)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import SVHN

from vaebench.core.data import Source, Space, Split
from vaebench.datasets._files import damaged, require

SPLITS = ("train", "test")


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" (73,257) and "test" (26,032) of `<root>/{train,test}_32x32.mat`, the digit 0 labelled 0."""
    files = [SVHN.split_list[split][1] for split in SPLITS]
    require("svhn", root, files, download, lambda: [SVHN(root, split=split, download=True) for split in SPLITS])
    return {split: _read(root, split) for split in SPLITS}


def _read(root: Path, split: str) -> Split:
    _, file, md5 = SVHN.split_list[split]
    try:
        found = SVHN(root, split=split)
    except RuntimeError:
        raise damaged("svhn", root, file, f"is not the official file, whose MD5 is {md5}") from None
    x = torch.from_numpy(np.ascontiguousarray(found.data))  # (N, 3, 32, 32)
    return Split(split, x, torch.from_numpy(found.labels))


plugin = Source(
    name="svhn",
    space=Space((3, 32, 32), 256, "pmf"),
    read=read,
    origin="http://ufldl.stanford.edu/housenumbers",
    licence="non-commercial use only",
)
