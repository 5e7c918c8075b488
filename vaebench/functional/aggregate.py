"""The aggregate posterior q(z) = (1/N) sum_n N(z; mean_n, diag variance_n): its density, its draws, its thin places."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vaebench.functional import random

POINTS, COMPONENTS = 128, 2048  # a tile of densities, 2 MiB: what a core's cache holds


class Mixture(NamedTuple):
    """q(z), prepared: the mean of its means, (L,), and a line [-1/(2 v), mean / v, c] for each component, (N, 2L + 1).

    In double precision, because the terms of a far and narrow component cancel; means are centred first, so that they
    cancel less.
    """

    centre: Tensor
    components: Tensor

    def to(self, device: torch.device) -> "Mixture":
        """The same on another device."""
        return Mixture(self.centre.to(device), self.components.to(device))

    def log_density(self, z: Tensor) -> Tensor:
        """`log_mixture_density` of z (M, L)."""
        z = z.double() - self.centre
        points = torch.cat([z.square(), z, torch.ones_like(z[:, :1])], 1).split(POINTS)  # (M, 2L + 1)
        components = self.components.split(COMPONENTS)
        return torch.cat([_log_sum_exp(part, components) for part in points]) - math.log(len(self.components))


def mixture(mean: Tensor, log_variance: Tensor) -> Mixture:
    """q(z) = (1/N) sum_n N(z; mean_n, diag exp(log_variance_n)), from (N, L) each."""
    centre = mean.double().mean(0)
    mean = mean.double() - centre
    precision = (-log_variance.double()).exp()
    constant = -0.5 * (log_variance.double() + mean.square() * precision + math.log(2 * math.pi)).sum(1, keepdim=True)
    return Mixture(centre, torch.cat([-0.5 * precision, mean * precision, constant], 1))


def log_mixture_density(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log q(z) = log (1/N) sum_n N(z_m; mean_n, diag exp(log_variance_n)), (M,) float64 nats.

    z (M, L); mean, log_variance (N, L). The exponents -1/2 sum_l (z_l - mean_l)^2 / variance_l are one matrix product
    [z^2, z, 1] [-1/(2 v), mean / v, c]^T, in tiles whose sums of exponentials are accumulated: O(M N L)
    multiplications, O((M + N) L) memory.
    """
    return mixture(mean, log_variance).log_density(z)


def _log_sum_exp(points: Tensor, components: tuple[Tensor, ...]) -> Tensor:
    """log sum_n exp(point . component_n), (points,); the exponentials in single precision, for their speed."""
    top = torch.full_like(points[:, :1], -math.inf)
    total = torch.zeros_like(top)
    for part in components:
        exponent = points @ part.T
        above = torch.maximum(top, exponent.amax(1, keepdim=True))
        terms = exponent.sub_(above).float().exp_().sum(1, keepdim=True)
        total = total * (top - above).exp() + terms
        top = above
    return (top + total.log())[:, 0]


def marginals(mean: Tensor, log_variance: Tensor) -> list[Mixture]:
    """q(z_l) of every dimension by itself; arguments as `mixture`."""
    return [mixture(*part) for part in zip(mean.split(1, 1), log_variance.split(1, 1), strict=True)]


def log_marginal_densities(z: Tensor, dimensions: Sequence[Mixture]) -> Tensor:
    """log q(z_l) of every dimension by itself, (M, L) float64 nats, from z (M, L) and the `marginals` of q."""
    parts = zip(z.split(1, 1), dimensions, strict=True)
    return torch.stack([dimension.log_density(part) for part, dimension in parts], 1)


def draw_mixture(mean: Tensor, log_variance: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """`count` draws z (count, L) of q(z) and the component (count,) that each comes from.

    Stratified: every component is drawn floor or ceil(count / N) times, the odd ones chosen by `seed`.
    """
    number = torch.arange(count)
    shuffled = random.keys(random.derive(seed, "order"), torch.arange(len(mean))).argsort(stable=True)
    component = shuffled[number % len(mean)]
    noise = random.normal(random.keys(random.derive(seed, "noise"), number), (mean.shape[1],)).to(mean)
    return mean[component] + (0.5 * log_variance[component]).exp() * noise, component


def lowest(log_density: Tensor, count: int) -> Tensor:
    """The indices (count,) int64 of the `count` lowest of `log_density` (M,), lowest first. ValueError where M < count.

    What FID(LP) decodes. Source: Bhalodia et al. 2020 (dpVAE), section 4.2.
    """
    if count > len(log_density):
        raise ValueError(f"{count} low-posterior samples were asked for of {len(log_density)} candidates; draw more")
    return log_density.argsort(stable=True)[:count]
