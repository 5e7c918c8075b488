"""The out-of-distribution (OOD) sets that each dataset is tried with, brought into its space."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vaebench.core.data import Dataset, Space, Split, eight_bit
from vaebench.core.metric import Resources, UnavailableError
from vaebench.functional import random

GREY = ("mnist-grey", "fashion-mnist", "notmnist", "emnist-letters", "omniglot", "constant", "noise")
PAIRS: dict[str, tuple[str, ...]] = {
    "fashion-mnist": tuple(name for name in GREY if name != "fashion-mnist"),
    "fashion-mnist-32": tuple(name for name in GREY if name != "fashion-mnist"),
    "mnist-grey": tuple(name for name in GREY if name != "mnist-grey"),
    "cifar10": ("svhn", "celeba64", "constant", "noise"),
    "svhn": ("cifar10",),
    "digits": ("inverted", "rotated", "noise"),
}
"""A dataset, and its OOD sets. Those of `MADE` need no other dataset."""
MADE = ("constant", "noise", "inverted", "rotated")


@dataclass(frozen=True)
class Outliers:
    """The OOD set `name`: its images in the space of the dataset, or the reason why there are none.

    Noise on its images is derived from `stream`.
    """

    name: str
    split: Split | None
    stream: str = ""
    reason: str = ""


def outliers(dataset: Dataset, split: Split, count: int, resources: Resources) -> Iterator[Outliers]:
    """Each OOD set of `dataset`, its first `count` test images; `split` holds those of the dataset itself."""
    for name in PAIRS[dataset.name]:
        if name in MADE:
            x = made(name, split.x[:count], dataset.space, count)
            yield Outliers(name, Split(name, x), f"{split.name} {name}")
            continue
        try:
            found = resources.dataset(name)
        except UnavailableError as error:
            yield Outliers(name, None, reason=str(error))
        else:
            x = fitted(found.split("test").x[:count], found.space, dataset.space)
            yield Outliers(name, Split(name, x), f"{name} {found.fingerprint[:16]}")


def made(name: str, x: Tensor, space: Space, count: int) -> Tensor:
    """Images of `space` that need no other dataset, always the same: `count` of them, or one of each x (N, *shape).

    "constant": one level drawn uniformly for each colour; "noise": one for each number; "inverted": levels - 1 - x;
    "rotated": x by a quarter turn.
    """
    assert space.levels is not None
    if name == "inverted":
        return space.levels - 1 - x
    if name == "rotated":
        return x.rot90(1, (-2, -1)).contiguous()
    event = space.shape if name == "noise" else (space.shape[0], *(1 for _ in space.shape[1:]))
    keys = random.keys(random.derive("outliers", name), torch.arange(count))
    return (random.uniform(keys, event) * space.levels).to(torch.uint8).expand(count, *space.shape).contiguous()


def fitted(x: Tensor, source: Space, target: Space) -> Tensor:
    """Images x (N, C, H, W) of `source` in `target`: (N, *target.shape) uint8.

    To 8 bits, resized by Pillow's bilinear filter (which averages where it reduces: torchvision's `Resize`), and to
    the nearest of the target's levels. ValueError where the colours differ.
    """
    if len(source.shape) != 3 or len(target.shape) != 3 or source.shape[0] != target.shape[0]:
        raise ValueError(f"images of shape {source.shape} cannot be made into shape {target.shape}")
    assert target.levels is not None
    grey = eight_bit(x, source)
    if source.shape != target.shape:
        side = target.shape[2], target.shape[1]  # Pillow: width first
        planes = (
            Image.fromarray(plane).resize(side, Image.Resampling.BILINEAR) for plane in grey.flatten(0, 1).numpy()
        )
        grey = torch.from_numpy(np.stack([np.asarray(plane) for plane in planes])).reshape(-1, *target.shape)
    return (grey.double() * ((target.levels - 1) / 255)).round().to(torch.uint8)
