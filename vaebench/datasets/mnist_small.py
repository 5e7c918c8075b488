"""MNIST with 1,000 of its images to train on, 1,000 others to validate on, all to test; dynamically binarised."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torchvision.datasets import MNIST

from vaebench.core.data import Binarised, Source, Space, Split
from vaebench.datasets._idx import mnist_like

EVERY = 60


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" and "valid" (1,000 each) and "test" (10,000), stored grey.

    They are every 60th training image, from the first and from the 31st on, and MNIST's test images.
    """
    whole = mnist_like("mnist-small", MNIST, root, download, Binarised())
    train, valid = (torch.arange(first, len(whole["train"]), EVERY) for first in (0, EVERY // 2))
    parts = {"train": whole["train"].part(train, "train"), "valid": whole["train"].part(valid, "valid")}
    return {**parts, "test": whole["test"]}


plugin = Source(
    name="mnist-small",
    space=Space((1, 28, 28), 2, "pmf"),
    read=read,
    origin="http://yann.lecun.com/exdb/mnist (by torchvision's mirror)",
    licence="none stated by its authors; often given as CC BY-SA 3.0",
    fingerprint="e34c8544dd619a0a70f37c4d56caf6aaf66cba64826afb0c8dc8b982c3c6fd6e",
)
