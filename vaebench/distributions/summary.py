"""A Gaussian that is seen through the average and the spread of many observations."""

import math
from typing import ClassVar, final

import torch
from scipy.special import digamma, gammaincinv
from torch import Tensor
from torch.types import _size

from vaebench.distributions import noise
from vaebench.distributions.likelihood import Likelihood

_NONE = torch.Size()
OBSERVATIONS = 10_000
"""N, behind each example."""
_HALF = (OBSERVATIONS - 1) / 2  # degrees of freedom of s^2, halved
_LOG_SCALE = _HALF * math.log(_HALF) - _HALF - math.lgamma(_HALF)


def log_spread_bias() -> float:
    """E[log s^2] - log sigma^2 of N observations: digamma((N - 1) / 2) - log((N - 1) / 2), about -1 / N."""
    return float(digamma(_HALF)) - math.log(_HALF)


@final
class GaussianSummary(Likelihood):
    """x = (mean, log s^2) of N = 10,000 observations, each N(m, diag sigma^2) given z, in every dimension.

    `raw` holds m, then log sigma (clamped at -7), each (S, B, 1, d); x is (2, d), s^2 the variance over N - 1. The two
    are independent given z: mean ~ N(m, sigma^2 / N), (N - 1) s^2 / sigma^2 ~ chi^2_{N-1}. They are sufficient, so that
    log p(x|z) is log p(observations|z) but for a number that depends on neither z nor m nor sigma.
    """

    family = "gaussian-summary"
    LEAST: ClassVar[float] = -7.0

    @staticmethod
    def channels(shape: tuple[int, ...], levels: int | None) -> int:
        if levels is not None or len(shape) != 2 or shape[0] != 2:
            raise ValueError(f"a gaussian-summary likelihood is of averages and log-variances, real (2, features), not "
                             f"of examples of shape {shape}; use 'gaussian'")  # fmt: skip
        return 2

    def _parameters(self) -> tuple[Tensor, Tensor]:
        mean, log_sigma = self.raw.chunk(2, dim=2)
        return mean, log_sigma.clamp(min=self.LEAST)

    def log_prob(self, x: Tensor) -> Tensor:
        mean, log_sigma = self._parameters()
        average, log_spread = x.to(mean.dtype).chunk(2, dim=-len(self.event_shape))
        square = ((average - mean) * (-log_sigma).exp()).square() * OBSERVATIONS
        above = log_spread - 2 * log_sigma  # log(s^2 / sigma^2)
        position = -0.5 * (square + math.log(2 * math.pi / OBSERVATIONS)) - log_sigma
        return (position + _LOG_SCALE - _HALF * (torch.expm1(above) - above)).flatten(2).sum(-1)

    @property
    def mean(self) -> Tensor:
        mean, log_sigma = self._parameters()
        return torch.cat([mean, 2 * log_sigma + log_spread_bias()], 2)

    def sample(self, sample_shape: _size = _NONE) -> Tensor:
        mean, log_sigma = self._parameters()
        uniform = self._noise(sample_shape)[:, :, 1:]
        spread = gammaincinv(_HALF, uniform.double().cpu().numpy()) / _HALF
        normal = noise.standard_normal(tuple(mean.shape), mean)
        average = mean + (log_sigma - 0.5 * math.log(OBSERVATIONS)).exp() * normal
        return torch.cat([average, 2 * log_sigma + torch.from_numpy(spread).log().to(mean)], 2)
