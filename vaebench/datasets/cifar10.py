"""CIFAR-10, small photographs in ten classes (3x32x32, 256 levels)."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import check_integrity, download_and_extract_archive

from vaebench.core.data import Source, Space, Split
from vaebench.core.errors import foreign
from vaebench.datasets._files import damaged, require, size_of

MOST = 2**26  # bytes of a file; a batch has 31 million


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" (50,000) and "test" (10,000) of `<root>/cifar-10-batches-py`.

    The batches are pickles, and a pickle can run code: none is opened before the MD5 of each is the official one.
    """
    sums = [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]
    files = {f"{CIFAR10.base_folder}/{file}": md5 for file, md5 in sums}
    require("cifar10", root, list(files), download, lambda: _fetch(root))
    for file, md5 in files.items():
        size_of("cifar10", root, file, MOST)
        if not check_integrity(root / file, md5):
            raise damaged("cifar10", root, file, f"is not the official file, whose MD5 is {md5}")
    with foreign(lambda reason: damaged("cifar10", root, CIFAR10.base_folder, f"cannot be read ({reason})")):
        return {split: _read(root, split) for split in ("train", "test")}


def _fetch(root: Path) -> None:
    download_and_extract_archive(CIFAR10.url, root, filename=CIFAR10.filename, md5=CIFAR10.tgz_md5)


def _read(root: Path, split: str) -> Split:
    with warnings.catch_warnings():  # numpy dislikes how Python 2 pickled the official arrays' types
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        found = CIFAR10(root, train=split == "train")
    x = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()  # (N, 3, 32, 32)
    return Split(split, x, torch.tensor(found.targets))


plugin = Source(
    name="cifar10",
    space=Space((3, 32, 32), 256, "pmf"),
    read=read,
    origin="https://www.cs.toronto.edu/~kriz/cifar.html",
    licence="none stated by its authors",
    fingerprint="4cba8bb4f00c3c01773dc5ba07d4b77c852ab78c92608d2411453e5111d275f6",
)
