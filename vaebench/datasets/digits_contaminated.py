"""UCI digits with 72 OOD images among the 1437 to train on, labelled -1: inverted, rotated, noise (8x8)."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vaebench.core.data import Source, Space, Split
from vaebench.datasets import _digits
from vaebench.functional import random

EACH = 24


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" (1437 digits, then 72 out-of-distribution (OOD) images with label -1) and "test" (360 digits).

    OOD are 24 each of inverted digits (16 - x), digits turned by 90 degrees, and uniform noise on the 17 levels;
    the digits to invert and to turn are chosen among those to train on, which also stay as they are.
    """
    splits = _digits.read(root, download)
    train = splits["train"]
    assert train.y is not None
    chosen = random.keys(random.derive("digits-contaminated"), torch.arange(len(train))).argsort(stable=True)
    inverted, turned = 16 - train.x[chosen[:EACH]], train.x[chosen[EACH : 2 * EACH]].rot90(1, (2, 3))
    uniform = random.uniform(random.keys(random.derive("digits-contaminated noise"), torch.arange(EACH)), (1, 8, 8))
    noise: Tensor = (uniform * 17).to(torch.uint8)
    x = torch.cat([train.x, inverted, turned, noise])
    y = torch.cat([train.y, torch.full((3 * EACH,), -1)])
    return {"train": Split("train", x, y), "test": splits["test"]}


plugin = Source(
    name="digits-contaminated",
    space=Space((1, 8, 8), 17, "pmf"),
    read=read,
    origin="https://archive.ics.uci.edu/dataset/80 (its test set, bundled with scikit-learn), and images made here",
    licence="CC BY 4.0",
    fingerprint="444077dd8ec677b26f9e04b61afd70d58f662656c0d1dab0e46e7fe27c13e5a1",
    bundled=True,
)
