"""Fashion-MNIST resized to 32x32, as Likelihood Regret's nets want it (256 levels)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.datasets import FashionMNIST

from vaebench.core.data import Source, Space, Split
from vaebench.datasets._idx import mnist_like

SIDE = 32


def _resized(split: Split) -> Split:
    """Each image by Pillow's bilinear filter: what torchvision's `Resize((32, 32))` does to a PIL image."""
    images = (Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for image in split.x[:, 0].numpy())
    return Split(split.name, torch.from_numpy(np.stack([np.asarray(image) for image in images])).unsqueeze(1), split.y)


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" (60,000) and "test" (10,000) of `<root>/FashionMNIST/raw`."""
    splits = mnist_like("fashion-mnist-32", FashionMNIST, root, download)
    return {name: _resized(split) for name, split in splits.items()}


plugin = Source(
    name="fashion-mnist-32",
    space=Space((1, SIDE, SIDE), 256, "pmf"),
    read=read,
    origin="https://github.com/zalandoresearch/fashion-mnist",
    licence="MIT",
    fingerprint="0506eb3bfcaae3c06e859941c9212455736a38b8b1d355a676fec47e2174dfa5",
)
