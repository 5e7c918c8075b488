"""MNIST with 1000 EMNIST letters among the 60,000 digits to train on, labelled -1; dynamically binarised."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torchvision.datasets import MNIST

from vaebench.core.data import Binarised, Source, Space, Split
from vaebench.datasets._idx import letters, mnist_like
from vaebench.functional import random

LETTERS = 1000


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" (60,000 digits, then 1000 letters with label -1) and "test" (10,000 digits), stored grey.

    The letters are chosen at random, once and for all, from EMNIST's test split.
    """
    splits, others = (
        mnist_like("mnist-emnist", MNIST, root, download, Binarised()),
        letters("mnist-emnist", root, download),
    )
    train = splits["train"]
    assert train.y is not None
    chosen = random.keys(random.derive("mnist-emnist"), torch.arange(len(others))).argsort(stable=True)[:LETTERS]
    x = torch.cat([train.x, others.x[chosen]])
    y = torch.cat([train.y, torch.full((len(chosen),), -1)])
    return {"train": Split("train", x, y, Binarised()), "test": splits["test"]}


plugin = Source(
    name="mnist-emnist",
    space=Space((1, 28, 28), 2, "pmf"),
    read=read,
    origin="http://yann.lecun.com/exdb/mnist and https://www.nist.gov/itl/products-and-services/emnist-dataset",
    licence="none stated by their authors; MNIST is often given as CC BY-SA 3.0",
    fingerprint="aab2d0ccb1535fc8b5e10ea9e0a7b08693a0e25e019af1c0a06cbcb6574620bf",
)
