"""Masses of a logistic on equal bins, at the cost of one logarithm each."""

import torch
from torch import Tensor

_FAR = 1e34  # from any x: where it is an end of a bin, that end has no mass beyond it
_WIDE = 60.0  # a log-scale: from here on, where in the logistic a bin lies no longer depends on it


def log_mass(x: Tensor, mean: Tensor, log_scale: Tensor, levels: int, upper: float) -> Tensor:
    """log mass of the bin around x in [-1, 1] under a logistic whose tails belong to the outermost bins, nats.

    `x`, `mean` and `log_scale` broadcast. Bins are 2 / (levels - 1) wide; the lowest takes the lower tail, and every
    x > `upper` the upper tail. With the ends l < h of a bin in units of the scale, w = h - l and s the sigmoid, without
    cancellation:

        s(h) - s(l) = s(h) s(-l) (1 - exp(-w)),   log s(a) = min(a, 0) + log s(|a|),
        1 - exp(-w) = 2 t / (1 + t) with t = tanh(w / 2),

    so that one logarithm is left: on a CPU those that take care of small arguments cost tens of times as much. Beyond
    a log-scale of 60, where w would underflow, log w falls by the rest and l and h stay as they are.

    Source: Salimans et al. 2017 (PixelCNN++), equation 2.
    """
    half, narrow = 1.0 / (levels - 1), log_scale.clamp(max=_WIDE)
    inverse = torch.exp(-narrow)
    lowest, highest = x < -0.999, x > upper
    low = ((x - half).masked_fill(lowest, -_FAR) - mean) * inverse
    high = ((x + half).masked_fill(highest, _FAR) - mean) * inverse
    tail = lowest | highest
    t = torch.tanh(half * inverse + torch.zeros_like(x).masked_fill(tail, _FAR))
    logarithm = (low.abs().sigmoid() * high.abs().sigmoid() * (2 * t / (1 + t))).log()
    return logarithm + high.clamp(max=0) - low.clamp(min=0) - (log_scale - narrow) * (~tail)
