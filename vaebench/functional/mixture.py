"""The log density of points under a mixture of diagonal Gaussians."""

import math

import torch
from torch import Tensor


def log_density(x: Tensor, log_weight: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log sum_k w_k prod_d N(x_d; m_kd, s_kd^2) of points x (..., P, D): (..., P) nats.

    `log_weight` (..., K) is normalised, `mean` and `log_scale` are (..., K, D); leading axes broadcast. Differences
    are taken before they are squared: their rounding does not grow with 1 / s^2.
    """
    constant = log_weight - log_scale.sum(-1) - 0.5 * mean.shape[-1] * math.log(2 * math.pi)  # (..., K)
    rate = (-log_scale).exp()
    square: Tensor | None = None
    for axis in range(mean.shape[-1]):
        each = ((x[..., axis].unsqueeze(-1) - mean[..., axis].unsqueeze(-2)) * rate[..., axis].unsqueeze(-2)).square()
        square = each if square is None else square + each
    assert square is not None
    return torch.logsumexp(constant.unsqueeze(-2) - 0.5 * square, dim=-1)
