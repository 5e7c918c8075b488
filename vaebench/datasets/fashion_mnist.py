"""Fashion-MNIST, photographs of clothes in grey (28x28, 256 levels)."""

from collections.abc import Mapping
from pathlib import Path

from torchvision.datasets import FashionMNIST

from vaebench.core.data import Source, Space, Split
from vaebench.datasets._idx import mnist_like


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" (60,000) and "test" (10,000) of `<root>/FashionMNIST/raw`."""
    return mnist_like("fashion-mnist", FashionMNIST, root, download)


plugin = Source(
    name="fashion-mnist",
    space=Space((1, 28, 28), 256, "pmf"),
    read=read,
    origin="https://github.com/zalandoresearch/fashion-mnist",
    licence="MIT",
    fingerprint="462cf3d4f7eebd9ea306a9caa4ba90e3a4440de296b762e88618c05bcff34468",
)
