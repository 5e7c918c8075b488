"""CIFAR-10 resized to 64x64, as VAE-TracIn's nets want it (3x64x64, 256 levels)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vaebench.core import registry
from vaebench.core.data import Source, Space, Split

SIDE = 64


def _resized(split: Split) -> Split:
    """Each image by Pillow's bilinear filter: what torchvision's `Resize((64, 64))` does to a PIL image."""
    x = np.empty((len(split), SIDE, SIDE, 3), np.uint8)
    for i, image in enumerate(split.x.permute(0, 2, 3, 1).numpy()):
        x[i] = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    return Split(split.name, torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(), split.y)


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" (50,000) and "test" (10,000) of `<root>/cifar-10-batches-py`."""
    source = registry.load("datasets", "cifar10")
    assert isinstance(source, Source)
    return {name: _resized(split) for name, split in source.found(root, download).splits.items()}


plugin = Source(
    name="cifar10-64",
    space=Space((3, SIDE, SIDE), 256, "pmf"),
    read=read,
    origin="https://www.cs.toronto.edu/~kriz/cifar.html",
    licence="none stated by its authors",
    fingerprint="504e439a26f5c348fdbf2430591ce85e9f49702a3292b58f6c7186d94ad03422",
)
