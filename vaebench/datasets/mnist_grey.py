"""MNIST digits as published, in grey (28x28, 256 levels)."""

from collections.abc import Mapping
from pathlib import Path

from torchvision.datasets import MNIST

from vaebench.core.data import Source, Space, Split
from vaebench.datasets._idx import mnist_like


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" (60,000) and "test" (10,000) of `<root>/MNIST/raw`."""
    return mnist_like("mnist-grey", MNIST, root, download)


plugin = Source(
    name="mnist-grey",
    space=Space((1, 28, 28), 256, "pmf"),
    read=read,
    origin="http://yann.lecun.com/exdb/mnist (by torchvision's mirror)",
    licence="none stated by its authors; often given as CC BY-SA 3.0",
    fingerprint="f3f9441eed9237d811535da39fdd95e55d7345ede39d3880e88611de74813685",
)
