"""The out-of-distribution (OOD) sets that each dataset is tried with, brought into its space."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vaebench.core.data import Dataset, Reading, Space, Split, eight_bit
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
    "shapes": ("furniture", "tipped", "ball"),
    "furniture": ("shapes", "tipped", "ball"),
    "modelnet40": ("furniture", "shapes", "tipped", "ball"),
}
"""A dataset, and its OOD sets. Those of `MADE` need no other dataset."""
MADE = ("constant", "noise", "inverted", "rotated", "tipped", "ball")


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
            yield Outliers(name, Split(name, x, None, _of_clouds(split)), f"{split.name} {name}")
            continue
        try:
            found = resources.dataset(name)
        except UnavailableError as error:
            yield Outliers(name, None, reason=str(error))
        else:
            test = found.split("test")
            x = fitted(test.x[:count], found.space, dataset.space)
            yield Outliers(name, Split(name, x, None, _of_clouds(test)), f"{name} {found.fingerprint[:16]}")


def _of_clouds(split: Split) -> Reading | None:
    """How clouds are read; images are stored as they are compared."""
    return None if split.binarised else split.reading


def made(name: str, x: Tensor, space: Space, count: int) -> Tensor:
    """Examples of `space` that need no other dataset, always the same: `count` of them, or one of each x (N, ...).

    "constant": one level drawn uniformly for each colour; "noise": one for each number; "inverted": levels - 1 - x;
    "rotated": x by a quarter turn. Clouds of points, y up: "tipped": x lying on its side; "ball": as many points as a
    stored cloud has, uniform in a ball of radius .8.
    """
    if name == "tipped":
        return torch.stack([x[..., 1], -x[..., 0], x[..., 2]], -1)
    keys = random.keys(random.derive("outliers", name), torch.arange(count))
    if name == "ball":
        direction = random.normal(keys, (x.shape[1], 3))
        radius = 0.8 * random.uniform(keys ^ 1, (x.shape[1], 1)) ** (1 / 3)
        inside: Tensor = radius * direction / direction.norm(dim=-1, keepdim=True)
        return inside
    assert space.levels is not None
    if name == "inverted":
        return space.levels - 1 - x
    if name == "rotated":
        return x.rot90(1, (-2, -1)).contiguous()
    event = space.shape if name == "noise" else (space.shape[0], *(1 for _ in space.shape[1:]))
    return (random.uniform(keys, event) * space.levels).to(torch.uint8).expand(count, *space.shape).contiguous()


def fitted(x: Tensor, source: Space, target: Space) -> Tensor:
    """Images x (N, C, H, W) of `source` in `target`: (N, *target.shape) uint8. Clouds, of as many points, as they are.

    To 8 bits, resized by Pillow's bilinear filter (which averages where it reduces: torchvision's `Resize`), and to
    the nearest of the target's levels. Raises ValueError if the colours differ.
    """
    if source.is_cloud and source == target:
        return x
    if not (source.is_image and target.is_image) or source.shape[0] != target.shape[0]:
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
