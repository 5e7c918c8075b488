"""The log density of points under a mixture of diagonal Gaussians, and the sum of it over a cloud."""

import math
from typing import Any

import torch
from torch import Tensor

from vaebench.functional.transforms import transformed

_FLOATS = 2**19
"""Densities of a point under a component held at once: about 2 MB, which fits a cache."""
_LOG2_E = 1 / math.log(2)
_LEAST = -100.0
"""Powers of 2 below this one are that: beside 1 they are nothing, and numbers too small to be normal take longer."""


def log_density(x: Tensor, log_weight: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log sum_k w_k prod_d N(x_d; m_kd, s_kd^2) of points x (B, P, D): (B, P) nats.

    `log_weight` (B, K) is normalised, `mean` and `log_scale` are (B, K, D). The exponents are one product of (x^2, x,
    1) and the coefficients of these, so that nothing larger than (B, P, K) is made: their rounding is about that of
    x^2 / s^2, in float32 below 1e-3 nats of a point where x lies in the unit ball and s is at least 0.01.
    """
    return (_features(x) @ _coefficients(log_weight, mean, log_scale)).logsumexp(-1)


def log_likelihood(x: Tensor, log_weight: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """sum_p log sum_k w_k prod_d N(x_pd; m_kd, s_kd^2) of clouds x (..., P, D): (...) nats.

    `log_weight` (..., K) is normalised, `mean` and `log_scale` are (..., K, D); x has all of their batch dimensions, or
    the last of them. The sum of `log_density` over the points, for as many clouds at once as fit a cache. The gradient
    in the components' numbers is found beside it, so that nothing of the size of the points is kept for the way back.
    Differentiable twice.
    """
    batch = log_weight.shape[:-1]
    numbers = [each.flatten(0, len(batch) - 1) for each in (log_weight, mean, log_scale)]
    clouds = x.reshape(-1, *x.shape[-2:])
    if x.requires_grad or any(map(transformed, (x, *numbers))):
        total = log_density(clouds.repeat(len(numbers[0]) // len(clouds), 1, 1), *numbers).sum(-1)
    else:
        total = _Total.apply(_features(clouds), _coefficients(*numbers))
    return total.view(batch)


def _features(x: Tensor) -> Tensor:
    return torch.cat([x.square(), x, torch.ones_like(x[..., :1])], -1)


def _coefficients(log_weight: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Of `_features` in the exponents, (B, 2 D + 1, K)."""
    rate = (-2 * log_scale).exp()  # (B, K, D)
    constant = log_weight - log_scale.sum(-1) - 0.5 * mean.shape[-1] * math.log(2 * math.pi)
    constant = constant - 0.5 * (rate * mean.square()).sum(-1)
    return torch.cat([-0.5 * rate, rate * mean, constant.unsqueeze(-1)], -1).mT


class _Total(torch.autograd.Function):
    """The sums over points (B,) of clouds' features (b, P, F) and coefficients (B, F, K), where b divides B."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, coefficients: Tensor) -> Tensor:
        keep, count = ctx.needs_input_grad[1], len(features)
        points, components = features.shape[1], coefficients.shape[2]
        step = max(1, _FLOATS // (points * components))
        held = features.new_empty(min(step, len(coefficients)), points, components)
        totals, slopes = [], []
        for start in range(0, len(coefficients), step):
            some = coefficients[start : start + step] * _LOG2_E
            which = [(start + i) % count for i in range(len(some))]
            exponents = held[: len(some)]
            for one, coefficient, exponent in zip(which, some, exponents, strict=True):
                torch.mm(features[one], coefficient, out=exponent)
            peak = exponents.amax(-1, keepdim=True)
            powers = exponents.sub_(peak).clamp_(min=_LEAST).exp2_()  # they take a third of the time of those of e
            sums = powers.sum(-1, keepdim=True)
            totals.append((peak / _LOG2_E + sums.log()).sum((1, 2)))
            if keep:
                slopes.append((features[which] / sums).mT @ powers)
        if keep:
            ctx.save_for_backward(features, coefficients, torch.cat(slopes))
        return torch.cat(totals)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        features, coefficients, slopes = ctx.saved_tensors
        if torch.is_grad_enabled():  # it is to be differentiated again
            again = features.repeat(len(coefficients) // len(features), 1, 1)
            slopes = again.mT @ (again @ coefficients).softmax(-1)
        return None, gradients[0][:, None, None] * slopes
