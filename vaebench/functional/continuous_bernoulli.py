"""The continuous Bernoulli on [0, 1], from logits: density, mean and quantiles, stable about lambda = 1/2.

With l = log lambda / (1 - lambda) it is an exponential cut off at 0 and 1: p(x) = exp(l x) l / (exp(l) - 1), uniform at
l = 0. Its normaliser C = 2 atanh(1 - 2 lambda) / (1 - 2 lambda) is l / tanh(l / 2).

Source: Loaiza-Ganem & Cunningham 2019 (arXiv 1907.06845).
"""

import torch
from torch import Tensor

_NEAR = 0.25
"""Size of a logit below which a series is used, whose gradient does not cancel."""


def log_density(logits: Tensor, x: Tensor) -> Tensor:
    """log p(x; logit l), nats, element by element; minus infinity outside [0, 1]. Differentiable in `logits`.

    About l = 0, l (x - 1/2) - log(sinh(h) / h) with h = l / 2, of which the logarithm is a series in h^2; elsewhere
    -a d - log((1 - exp(-a)) / a) with a = |l| and d the distance of x from the end where p is largest.
    """
    near = logits.abs() < _NEAR
    small = logits.masked_fill(~near, 0.0)
    square = (small / 2).square()
    series = square * (1 / 6 - square * (1 / 180 - square * (1 / 2835 - square / 37800)))
    large = logits.masked_fill(near, 1.0)
    rate = large.abs()
    distance = torch.where(large > 0, 1 - x, x)
    far = -rate * distance - ((-torch.expm1(-rate)).log() - rate.log())
    score = torch.where(near, small * (x - 0.5) - series, far)
    return score.masked_fill((x < 0) | (x > 1), -torch.inf)


def mean(logits: Tensor) -> Tensor:
    """E[x] = 1 / (1 - exp(-l)) - 1 / l, element by element."""
    near = logits.abs() < _NEAR
    half = logits.masked_fill(~near, 0.0) / 2
    square = half.square()
    series = half * (1 / 3 - square * (1 / 45 - square * (2 / 945 - square / 4725)))
    large = logits.masked_fill(near, 1.0)
    return torch.where(near, 0.5 + series / 2, -1 / torch.expm1(-large) - 1 / large)


def quantile(logits: Tensor, u: Tensor) -> Tensor:
    """The x in [0, 1] below which a mass u lies, element by element."""
    rate = logits.abs().clamp(min=torch.finfo(logits.dtype).tiny)
    up = logits > 0
    distance = -torch.log1p(torch.where(up, 1 - u, u) * torch.expm1(-rate)) / rate
    return torch.where(up, 1 - distance, distance).clamp(0, 1)
