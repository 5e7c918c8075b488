"""Random affine transforms of images of integers, as CR-VAE's: drawn here, made by `functional.augment`."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vaebench.core.data import Space
from vaebench.distributions import noise
from vaebench.functional.augment import affine, stochastic_round

Transform = Literal["affine-small", "affine-large"]
Flip = Literal["none", "horizontal", "vertical"]
RANGES = {"affine-small": (15.0, 0.05, 0.1), "affine-large": (30.0, 0.10, 0.25)}
"""How far each way: degrees, shift as a fraction of the side, change of scale."""


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


def draw(x: Tensor, transform: Transform, flip: Flip) -> tuple[Affine, Tensor]:
    """A random transform of each of x (B, C, H, W), uniform within `RANGES`, and uniform noise like x to round it by.

    A flip has probability 1/2. Source: the small and large sets of Sinha & Dieng 2021 (CR-VAE).
    """
    degrees, shift, change = RANGES[transform]
    like = torch.empty((), device=x.device)
    u = 2 * noise.uniform((1, len(x), 5), like)[0] - 1
    signs = torch.ones_like(u[:, :2])
    if flip != "none":
        signs[:, 0 if flip == "horizontal" else 1] = torch.where(u[:, 4] < 0, -1.0, 1.0)
    drawn = Affine(degrees * u[:, 0], shift * u[:, 1:3], 1 + change * u[:, 3], signs)
    return drawn, noise.uniform((1, *x.shape), like)[0]


def transformed(x: Tensor, space: Space, transform: Transform, flip: Flip) -> Tensor:
    """t(x) of images x (B, C, H, W) of `space`, (B, C, H, W) uint8 in it: t drawn for each, fresh at every call.

    Bilinear, level 0 outside, rounded at random to integers with the same mean: binary images are binarised afresh.
    """
    assert space.levels is not None
    drawn, rounding = draw(x, transform, flip)
    return stochastic_round(affine(x.float(), *drawn), rounding, space.levels)
