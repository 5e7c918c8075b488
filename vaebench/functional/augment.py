"""Affine transformations of images, and rounding to integers that keeps the mean."""

import torch
from torch import Tensor
from torch.nn import functional as F


def affine(x: Tensor, degrees: Tensor, shift: Tensor, scale: Tensor, flip: Tensor) -> Tensor:
    """Images x (B, C, H, W) flipped, scaled, rotated and then shifted about their centres: floats of the same shape.

    `degrees` (B,) anticlockwise, `shift` (B, 2) to the right and down as fractions of width and height, `scale` (B,) of
    lengths, `flip` (B, 2) signs of the horizontal and of the vertical axis. Bilinear; what comes from outside is 0.
    """
    height, width = x.shape[-2:]
    angle = torch.deg2rad(degrees)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    # from a place in the result back to one in x, in units of half a width and half a height
    across = torch.stack([cos, -sin * (height / width)], -1) * flip[:, :1]
    down = torch.stack([sin * (width / height), cos], -1) * flip[:, 1:]
    linear = torch.stack([across, down], 1)  # (B, 2, 2)
    offset = -linear @ (2 * shift)[..., None]
    grid = F.affine_grid(torch.cat([linear, offset], -1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def stochastic_round(value: Tensor, uniform: Tensor, levels: int) -> Tensor:
    """floor(value + uniform), kept within 0..levels-1: integers as uint8 whose mean over uniform in (0, 1) is `value`.

    For two levels it is a fresh Bernoulli draw with probability `value`.
    """
    return (value + uniform).floor().clamp(0, levels - 1).to(torch.uint8)
