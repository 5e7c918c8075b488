"""Random transforms of stored images, as CR-VAE's: drawn here, made by `functional.augment`."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vaebench.core.data import Space
from vaebench.distributions import noise
from vaebench.functional.augment import affine, jitter

Transform = Literal["affine-small", "affine-large"]
Flip = Literal["none", "horizontal", "vertical"]
Jitter = Literal["none", "colour"]
RANGES = {"affine-small": (15.0, 0.05, 0.1), "affine-large": (30.0, 0.10, 0.25)}
"""How far each way: degrees, shift as a fraction of the side, change of scale."""
COLOUR = (0.2, 0.5, 0.2)
"""How far each way: brightness and contrast as changes of a factor 1, hue in turns."""
STORED = 256
"""Levels of the images that a dynamically binarised split stores."""


class Affine(NamedTuple):
    """One transform for each of B images: the arguments of `functional.augment.affine`."""

    degrees: Tensor
    shift: Tensor
    scale: Tensor
    flip: Tensor


def refusal(space: Space) -> str | None:
    """What the examples of `space` are where they cannot be transformed: not images of integers. Else None."""
    if space.levels is not None and len(space.shape) == 3:
        return None
    return f"{'real numbers' if space.levels is None else 'integers'} of shape {list(space.shape)}"


def _either_way(x: Tensor, count: int) -> Tensor:
    """(B, count) uniform on (-1, 1), for images x (B, C, H, W)."""
    return 2 * noise.uniform((1, len(x), count), torch.empty((), device=x.device))[0] - 1


def draw(x: Tensor, transform: Transform, flip: Flip) -> Affine:
    """A random transform of each of x (B, C, H, W), uniform within `RANGES`; shifts are of whole pixels.

    A flip has probability 1/2. Source: the small and large sets of Sinha & Dieng 2021 (CR-VAE), as torchvision's
    RandomAffine draws them.
    """
    degrees, shift, change = RANGES[transform]
    u = _either_way(x, 5)
    side = torch.tensor([x.shape[-1], x.shape[-2]], device=x.device)  # of what is shifted across, and down
    signs = torch.ones_like(u[:, :2])
    if flip != "none":
        signs[:, 0 if flip == "horizontal" else 1] = torch.where(u[:, 4] < 0, -1.0, 1.0)
    return Affine(degrees * u[:, 0], (shift * u[:, 1:3] * side).round() / side, 1 + change * u[:, 3], signs)


def transformed(x: Tensor, levels: int, transform: Transform, flip: Flip = "none", colour: Jitter = "none") -> Tensor:
    """t(x) of stored images x (B, C, H, W) of integers 0..levels-1, of the same shape and dtype: t drawn afresh.

    Nearest neighbour, level 0 outside. With `colour`, then jitter within `COLOUR`, rounded to the nearest level.
    """
    found = affine(x, *draw(x, transform, flip))
    if colour == "none":
        return found
    u = _either_way(x, 3)
    brightness, contrast, hue = (change * u[:, i] for i, change in enumerate(COLOUR))
    shown = jitter(found / (levels - 1), 1 + brightness, 1 + contrast, hue)
    return (shown * (levels - 1)).round().to(x.dtype)


def flipped(x: Tensor) -> Tensor:
    """Images x (B, C, H, W), each mirrored left to right with probability 1/2."""
    mirror = _either_way(x, 1) < 0
    return torch.where(mirror[:, :, None, None], x.flip(-1), x)
