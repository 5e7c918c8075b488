"""Affine maps of images, and jitter of their colours, as torchvision's: one map for each image of a batch."""

import torch
from torch import Tensor
from torch.nn import functional as F

GREY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""


def affine(x: Tensor, degrees: Tensor, shift: Tensor, scale: Tensor, flip: Tensor) -> Tensor:
    """Images x (B, C, H, W) flipped, scaled, rotated and then shifted about their centres: of the same shape and dtype.

    `degrees` (B,) anticlockwise, `shift` (B, 2) to the right and down as fractions of width and height, `scale` (B,) of
    lengths, `flip` (B, 2) signs of the horizontal and of the vertical axis. Every pixel is the one of x that is nearest
    to where it comes from, so that integers stay integers; what comes from outside is 0.
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
    found = F.grid_sample(x.to(grid.dtype), grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return found.to(x.dtype)


def jitter(x: Tensor, brightness: Tensor, contrast: Tensor, hue: Tensor) -> Tensor:
    """Images x (B, C, H, W) in [0, 1], C = 1 or 3, brighter, then of another contrast, then of another hue.

    `brightness` (B,) multiplies; `contrast` (B,) multiplies the distance from the mean grey; `hue` (B,) is added to the
    hue, in turns, and does nothing to one channel. Each step's result is clamped to [0, 1].
    Source: torchvision's adjust_brightness, adjust_contrast and adjust_hue, in this order.
    """
    x = (x * brightness[:, None, None, None]).clamp(0, 1)
    grey = x if x.shape[1] == 1 else torch.einsum("bchw,c->bhw", x, x.new_tensor(GREY))[:, None]
    mean, factor = grey.mean((1, 2, 3), keepdim=True), contrast[:, None, None, None]
    x = (factor * x + (1 - factor) * mean).clamp(0, 1)
    return x if x.shape[1] == 1 else _turned(x, hue[:, None, None])


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    """Colours x (B, 3, H, W) with `turns` (B, 1, 1) added to their hue; saturation and value stay."""
    value, which = x.max(1)
    chroma = value - x.min(1).values
    red, green, blue = x.unbind(1)
    safe = torch.where(chroma > 0, chroma, 1)
    sixths = torch.stack([(green - blue) / safe, 2 + (blue - red) / safe, 4 + (red - green) / safe], 1)
    hue = (sixths.gather(1, which[:, None])[:, 0] / 6 + turns) % 1
    # each channel is `value`, less the chroma where the hue is more than a sixth away from the channel's own
    apart = (torch.stack([hue, hue - 1 / 3, hue - 2 / 3], 1) + 0.5) % 1 - 0.5
    fraction = (6 * apart.abs() - 1).clamp(0, 1)
    return value[:, None] - chroma[:, None] * fraction


def rigid(x: Tensor, degrees: Tensor, scale: Tensor) -> Tensor:
    """Clouds x (B, P, 3), y up, turned by `degrees` (B,) about the vertical and enlarged by `scale` (B,)."""
    angle = torch.deg2rad(degrees)
    cosine, sine = (each[:, None] for each in (scale * angle.cos(), scale * angle.sin()))
    across, deep = x[..., 0], x[..., 2]
    return torch.stack([cosine * across + sine * deep, scale[:, None] * x[..., 1], cosine * deep - sine * across], -1)
