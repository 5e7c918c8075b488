"""Random transforms of stored images and clouds of points: drawn here, made by `functional.augment`."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vaebench.core.data import Space, Split
from vaebench.distributions import noise
from vaebench.functional.augment import affine, jitter, rigid

Affinity = Literal["affine-small", "affine-large"]
Rigidity = Literal["rigid-small", "rigid-large"]
Transform = Literal[Affinity, Rigidity]
"""Moves of images of integers, and of clouds of points."""
Flip = Literal["none", "horizontal", "vertical"]
Jitter = Literal["none", "colour"]
RANGES = {"affine-small": (15.0, 0.05, 0.1), "affine-large": (30.0, 0.10, 0.25)}
"""How far each way: degrees, shift as a fraction of the side, change of scale."""
RIGID = {"rigid-small": (15.0, 1.1), "rigid-large": (180.0, 1.25)}
"""How far each way: degrees about the vertical; the largest scale, whose inverse is the smallest."""
SHAKE, MOST = 0.01, 0.05
"""How far a point of a cloud is moved: the standard deviation of each coordinate, and the most."""
COLOUR = (0.2, 0.5, 0.2)
"""How far each way: brightness and contrast as changes of a factor 1, hue in turns."""


class Affine(NamedTuple):
    """One transform for each of B images: the arguments of `functional.augment.affine`."""

    degrees: Tensor
    shift: Tensor
    scale: Tensor
    flip: Tensor


def transforms(space: Space) -> tuple[Transform, ...]:
    """Those that examples of `space` can have, the small set before the large: none, where they are neither kind."""
    if space.is_picture:
        return "affine-small", "affine-large"
    return ("rigid-small", "rigid-large") if space.is_cloud else ()


def kind(space: Space) -> str:
    """What the examples of `space` are, for an error that refuses them."""
    if space.is_cloud:
        return f"clouds of {space.shape[0]} points"
    return f"{'real numbers' if space.levels is None else 'integers'} of shape {list(space.shape)}"


def _either_way(x: Tensor, count: int) -> Tensor:
    """(B, count) uniform on (-1, 1), for examples x (B, ...)."""
    return 2 * noise.uniform((1, len(x), count), torch.empty((), device=x.device))[0] - 1


def draw(x: Tensor, transform: Affinity, flip: Flip) -> Affine:
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


def transformed(
    stored: Split, space: Space, transform: Transform, flip: Flip = "none", colour: Jitter = "none"
) -> Tensor:
    """t(x) of the examples of `stored`, of which `space` is read, of the same shape and dtype: t drawn afresh for each.

    Images: nearest neighbour, level 0 outside; with `colour`, then jitter within `COLOUR`, rounded to the nearest
    level. Clouds: a turn about the vertical, one scale for all axes, and each point moved a little. Raises ValueError
    if the examples cannot have this transform.
    """
    if transform not in transforms(space):
        raise ValueError(f"transform = {transform!r} is not for {kind(space)}")
    x = stored.x
    if transform == "rigid-small" or transform == "rigid-large":
        return _rigid(x, transform)
    found, levels = affine(x, *draw(x, transform, flip)), stored.stored_levels or space.levels
    assert levels is not None
    if colour == "none":
        return found
    u = _either_way(x, 3)
    brightness, contrast, hue = (change * u[:, i] for i, change in enumerate(COLOUR))
    shown = jitter(found / (levels - 1), 1 + brightness, 1 + contrast, hue)
    return (shown * (levels - 1)).round().to(x.dtype)


def _rigid(x: Tensor, transform: Rigidity) -> Tensor:
    """Clouds x (B, P, 3), transformed. Source: Qi et al. 2017 (PointNet++), whose training has these ranges."""
    degrees, largest = RIGID[transform]
    u = _either_way(x, 2)
    epsilon = noise.standard_normal((1, *x.shape), x)[0]
    return rigid(x, degrees * u[:, 0], largest ** u[:, 1]) + (SHAKE * epsilon).clamp(-MOST, MOST)


def flipped(x: Tensor) -> Tensor:
    """Images x (B, C, H, W), each mirrored left to right with probability 1/2."""
    mirror = _either_way(x, 1) < 0
    return torch.where(mirror[:, :, None, None], x.flip(-1), x)
