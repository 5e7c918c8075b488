"""How like two images are to a network of vision: a distance between its features; and how colours move."""

from collections.abc import Sequence

import torch
from torch import Tensor

SMALL = 1e-10
"""Added to the length of a feature vector, as the release does."""


def lpips(found: Sequence[Tensor], target: Sequence[Tensor], heads: Sequence[Tensor]) -> Tensor:
    """The learned perceptual distance of images by their features, (B,) float64, at least 0.

    sum_l mean_hw sum_c w_lc (f_lchw / |f_lhw| - g_lchw / |g_lhw|)^2 of layers l, with features f = `found`[l] and
    g = `target`[l], each (B, C_l, H_l, W_l), and weights w = `heads`[l] (C_l,).
    Source: Zhang, Isola, Efros, Shechtman & Wang 2018, equation 1.
    """
    total = torch.zeros(len(found[0]), dtype=torch.float64, device=found[0].device)
    for one, other, head in zip(found, target, heads, strict=True):
        apart = (_unit(one) - _unit(other)).square()
        total += torch.einsum("bchw,c->bhw", apart, head).mean((1, 2)).double()
    return total


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + SMALL)


def colour_shift(x: Tensor, target: Tensor) -> Tensor:
    """How much brighter each channel of 8-bit images x is than that of `target`, both (B, C, H, W): (B, C) levels."""
    return x.double().mean((2, 3)) - target.double().mean((2, 3))
