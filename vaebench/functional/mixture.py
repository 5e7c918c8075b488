"""The log density of points under a mixture of diagonal Gaussians, and the sum of it over a cloud."""

import math
from typing import Any

import torch
from torch import Tensor

from vaebench.functional.transforms import transformed

_FLOATS = 2**18
"""Densities of a point under a component held at once: about 1 MB, which fits a cache."""
_LOG2_E = 1 / math.log(2)


def log_density(x: Tensor, log_weight: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log sum_k w_k prod_d N(x_d; m_kd, s_kd^2) of points x (B, P, D): (B, P) nats.

    `log_weight` (B, K) is normalised, `mean` and `log_scale` are (B, K, D). The exponents are one product of [x^2, x]
    and the coefficients of these, so that nothing larger than (B, P, K) is made: their rounding is about that of x^2 /
    s^2, in float32 below 1e-3 nats of a point where x lies in the unit ball and s is at least 0.01.
    """
    return torch.logsumexp(_exponents(_features(x), *_coefficients(log_weight, mean, log_scale)), dim=-1)


def log_likelihood(x: Tensor, log_weight: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """sum_p log sum_k w_k prod_d N(x_pd; m_kd, s_kd^2) of clouds x (..., P, D): (...) nats.

    `log_weight` (..., K) is normalised, `mean` and `log_scale` are (..., K, D); x broadcasts against them. The sum of
    `log_density` over the points, for as many clouds at once as fit a cache. The gradient in the components' numbers is
    found beside it, so that nothing of the size of the points is kept for the way back. Differentiable twice.
    """
    batch = log_weight.shape[:-1]
    clouds = x.expand(*batch, *x.shape[-2:])
    constant, coefficients = _coefficients(*(each.flatten(0, len(batch) - 1) for each in (log_weight, mean, log_scale)))
    if x.requires_grad or transformed(constant) or transformed(x):
        exponents = _exponents(_features(clouds.flatten(0, len(batch) - 1)), constant, coefficients)
        total: Tensor = exponents.logsumexp(-1).sum(-1)
    else:
        total = _Total.apply(clouds, constant, coefficients)
    return total.view(batch)


def _features(x: Tensor) -> Tensor:
    return torch.cat([x.square(), x], -1)


def _coefficients(log_weight: Tensor, mean: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    """The constants (B, K) of the exponents, and the coefficients (B, 2 D, K) of x^2 and x."""
    rate = (-2 * log_scale).exp()  # (B, K, D)
    constant = log_weight - log_scale.sum(-1) - 0.5 * mean.shape[-1] * math.log(2 * math.pi)
    constant = constant - 0.5 * (rate * mean.square()).sum(-1)
    return constant, torch.cat([-0.5 * rate, rate * mean], -1).transpose(1, 2)


def _exponents(features: Tensor, constant: Tensor, coefficients: Tensor) -> Tensor:
    return torch.baddbmm(constant.unsqueeze(1), features, coefficients)


class _Total(torch.autograd.Function):
    """The sums over points from `_coefficients`, of clouds (..., P, D): (B,) with B the product of the dots."""

    @staticmethod
    def forward(ctx: Any, clouds: Tensor, constant: Tensor, coefficients: Tensor) -> Tensor:
        batch, keep = clouds.shape[:-2], any(ctx.needs_input_grad)
        step = max(1, _FLOATS // (clouds.shape[-2] * constant.shape[-1]))
        totals, slopes = [], []
        for rows in torch.arange(len(constant), device=constant.device).split(step):
            features = _features(clouds[torch.unravel_index(rows, batch)].to(constant.dtype))
            exponents = _exponents(features, constant[rows], coefficients[rows]).mul_(_LOG2_E)
            peak = exponents.amax(-1, keepdim=True)
            powers = exponents.sub_(peak).exp2_()
            sums = powers.sum(-1, keepdim=True)
            totals.append((peak.squeeze(-1) / _LOG2_E + sums.squeeze(-1).log()).sum(-1))
            if keep:
                parts = powers.div_(sums)
                slopes.append((parts.sum(1), features.mT @ parts))
        if keep:
            ctx.save_for_backward(clouds, constant, coefficients, *map(torch.cat, zip(*slopes, strict=True)))
        return torch.cat(totals)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor]:
        clouds, constant, coefficients, of_constant, of_coefficients = ctx.saved_tensors
        (given,) = gradients
        if torch.is_grad_enabled():  # it is to be differentiated again
            features = _features(clouds.flatten(0, -3).to(constant.dtype))
            parts = _exponents(features, constant, coefficients).softmax(-1)
            of_constant, of_coefficients = parts.sum(1), features.mT @ parts
        return None, given[:, None] * of_constant, given[:, None, None] * of_coefficients
