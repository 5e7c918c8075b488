"""The aggregate posterior q(z) = (1/N) sum_n N(z; mean_n, diag variance_n): its density, its draws, its thin places."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vaebench.functional import random
from vaebench.functional.gaussian import log_density

POINTS, COMPONENTS = 128, 2048  # a tile of densities, 2 MiB: what a core's cache holds
CELLS = 2**18  # squares of a tile that are computed one by one
ROUNDED = 1e-3  # of a standard deviation, that a rounded z may be off
CANCELLED = 1e-6  # nats, that cancellation may cost
_LEAST = torch.finfo(torch.float64).min


class Mixture(NamedTuple):
    """q(z), prepared: the mean of its means, (L,), and a line [-1/(2 v), mean / v, c] for each component, (N, 2L + 1).

    In double precision, because the terms of a far and narrow component cancel; means are centred first, so that they
    cancel less. Components so narrow that they would cancel all the same are kept apart, as means and log-variances
    (N', L): of these every difference is taken by itself.
    """

    centre: Tensor
    components: Tensor
    narrow_mean: Tensor
    narrow_log_variance: Tensor

    def to(self, device: torch.device) -> "Mixture":
        """The same on another device."""
        return Mixture(*(part.to(device) for part in self))

    def log_density(self, z: Tensor, rest: Tensor | None = None) -> Tensor:
        """`log_mixture_density` of z (M, L), or of z + `rest`."""
        size = len(self.components) + len(self.narrow_mean)
        rest = torch.zeros_like(z, dtype=torch.float64) if rest is None else rest
        parts = zip(z.double().split(POINTS), rest.split(POINTS), strict=True)
        return torch.cat([_log_sum_exp(self._exponents(*part), len(part[0])) for part in parts]) - math.log(size)

    def _exponents(self, z: Tensor, rest: Tensor) -> Iterator[Tensor]:
        """The log densities of z + rest (M, L) under all components, in tiles (M, .)."""
        centred = z - self.centre
        points = torch.cat([centred.square(), centred, torch.ones_like(z[:, :1])], 1)  # (M, 2L + 1)
        for part in self.components.split(COMPONENTS) if len(self.components) else ():
            yield points @ part.T
        step = max(1, CELLS // z.numel())
        for mean, log_variance in zip(self.narrow_mean.split(step), self.narrow_log_variance.split(step), strict=True):
            if len(mean):
                gap = (z[:, None] - mean) + rest[:, None]  # exact where z is near the mean
                yield log_density(gap, torch.zeros_like(mean), log_variance).clamp(min=_LEAST)


def mixture(mean: Tensor, log_variance: Tensor) -> Mixture:
    """q(z) = (1/N) sum_n N(z; mean_n, diag exp(log_variance_n)), from (N, L) each."""
    centre = mean.double().mean(0)
    unit = torch.finfo(mean.dtype).eps / 2  # of which a z of this type is rounded
    mean, log_variance = mean.double(), log_variance.double()
    centred, precision = mean - centre, (-log_variance).exp()
    rounded = (mean.abs() * unit * precision.sqrt()).amax(1) > ROUNDED
    cancelled = (centred.square().amax(0) * precision).sum(1) * torch.finfo(torch.float64).eps > CANCELLED
    narrow = rounded | cancelled
    constant = -0.5 * (log_variance + centred.square() * precision + math.log(2 * math.pi)).sum(1, keepdim=True)
    wide = torch.cat([-0.5 * precision, centred * precision, constant], 1)[~narrow]
    return Mixture(centre, wide, mean[narrow], log_variance[narrow])


def log_mixture_density(z: Tensor, mean: Tensor, log_variance: Tensor, rest: Tensor | None = None) -> Tensor:
    """log q(z) = log (1/N) sum_n N(z_m; mean_n, diag exp(log_variance_n)), (M,) float64 nats; of z + `rest` with that.

    z, rest (M, L); mean, log_variance (N, L). The exponents -1/2 sum_l (z_l - mean_l)^2 / variance_l are one matrix
    product [z^2, z, 1] [-1/(2 v), mean / v, c]^T, in tiles whose sums of exponentials are accumulated: O(M N L)
    multiplications, O((M + N) L) memory. Draws of q itself are scored with the `rest` of `draw_mixture`.
    """
    return mixture(mean, log_variance).log_density(z, rest)


def _log_sum_exp(exponents: Iterator[Tensor], count: int) -> Tensor:
    """log sum_n exp(exponent_n) over tiles (count, .), (count,); exponentials in single precision, for their speed."""
    first = next(exponents)
    top = first.amax(1, keepdim=True)
    total = _exp(first - top).sum(1, keepdim=True).double()
    for exponent in exponents:
        above = torch.maximum(top, exponent.amax(1, keepdim=True))
        terms = _exp(exponent.sub_(above)).sum(1, keepdim=True)
        total = total * (top - above).exp() + terms
        top = above
    return (top + total.log())[:, 0]


def _exp(exponent: Tensor) -> Tensor:
    """exp(exponent) of float64, in float32, and at least e^-80: a result that underflows takes ten times as long."""
    return exponent.float().clamp_(min=-80.0).exp_()


def marginals(mean: Tensor, log_variance: Tensor) -> list[Mixture]:
    """q(z_l) of every dimension by itself; arguments as `mixture`."""
    return [mixture(*part) for part in zip(mean.split(1, 1), log_variance.split(1, 1), strict=True)]


def log_marginal_densities(z: Tensor, dimensions: Sequence[Mixture], rest: Tensor | None = None) -> Tensor:
    """log q(z_l) of every dimension by itself, (M, L) float64 nats, from z (M, L) and the `marginals` of q.

    With `rest`, of z + `rest`.
    """
    rests = [None] * z.shape[1] if rest is None else rest.split(1, 1)
    parts = zip(dimensions, z.split(1, 1), rests, strict=True)
    return torch.stack([dimension.log_density(*part) for dimension, *part in parts], 1)


class MixtureDraws(NamedTuple):
    """Draws z (M, L) of q(z), the component (M,) that each comes from, and what z lost to rounding, (M, L) float64."""

    z: Tensor
    component: Tensor
    rest: Tensor


def draw_mixture(mean: Tensor, log_variance: Tensor, count: int, seed: int) -> MixtureDraws:
    """`count` draws of q(z).

    Stratified: every component is drawn floor or ceil(count / N) times, the odd ones chosen by `seed`.
    """
    number = torch.arange(count)
    shuffled = random.keys(random.derive(seed, "order"), torch.arange(len(mean))).argsort(stable=True)
    component = shuffled[number % len(mean)]
    noise = random.normal(random.keys(random.derive(seed, "noise"), number), (mean.shape[1],)).to(mean)
    at, spread = mean[component], log_variance[component]
    z = at + (0.5 * spread).exp() * noise
    return MixtureDraws(z, component, (at.double() - z.double()) + (0.5 * spread.double()).exp() * noise.double())


def lowest(density: Tensor, count: int) -> Tensor:
    """The indices (count,) int64 of the `count` lowest of `density` (M,), lowest first. Raises ValueError if M < count.

    What FID(LP) decodes. Source: Bhalodia et al. 2020 (dpVAE), section 4.2.
    """
    if count > len(density):
        raise ValueError(f"{count} low-posterior samples were asked for of {len(density)} candidates; draw more")
    return density.argsort(stable=True)[:count]
