"""MNIST digits, dynamically binarised: every reading draws fresh pixels (28x28, 2 levels)."""

from collections.abc import Mapping
from pathlib import Path

from torchvision.datasets import MNIST

from vaebench.core.data import Binarised, Source, Space, Split
from vaebench.datasets._idx import mnist_like


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" (60,000) and "test" (10,000) of `<root>/MNIST/raw`, stored grey and binarised when read."""
    return mnist_like("mnist", MNIST, root, download, Binarised())


plugin = Source(
    name="mnist",
    space=Space((1, 28, 28), 2, "pmf"),
    read=read,
    origin="http://yann.lecun.com/exdb/mnist (by torchvision's mirror)",
    licence="none stated by its authors; often given as CC BY-SA 3.0",
    fingerprint="f3f9441eed9237d811535da39fdd95e55d7345ede39d3880e88611de74813685",
)
