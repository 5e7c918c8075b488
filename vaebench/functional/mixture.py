"""The log density of points under a mixture of diagonal Gaussians."""

import math

import torch
from torch import Tensor


def log_density(x: Tensor, log_weight: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log sum_k w_k prod_d N(x_d; m_kd, s_kd^2) of points x (B, P, D): (B, P) nats.

    `log_weight` (B, K) is normalised, `mean` and `log_scale` are (B, K, D). The exponents are one product of [x^2, x]
    and the coefficients of these, so that nothing larger than (B, P, K) is made: their rounding is about that of x^2 /
    s^2, in float32 below 1e-3 nats of a point where x lies in the unit ball and s is at least 0.01.
    """
    rate = (-2 * log_scale).exp()  # (B, K, D)
    constant = log_weight - log_scale.sum(-1) - 0.5 * mean.shape[-1] * math.log(2 * math.pi)
    constant = constant - 0.5 * (rate * mean.square()).sum(-1)  # (B, K)
    coefficients = torch.cat([-0.5 * rate, rate * mean], -1).transpose(1, 2)  # (B, 2 D, K)
    exponents = torch.baddbmm(constant.unsqueeze(1), torch.cat([x.square(), x], -1), coefficients)
    return torch.logsumexp(exponents, dim=-1)
