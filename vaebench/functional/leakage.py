"""Where the aggregate posterior puts mass and the prior does not: dpVAE's leakage score over thresholds."""

import math
from typing import NamedTuple

import torch
from scipy import stats
from torch import Tensor

FIXED = (-90.0, -70.0, -50.0, -30.0, -10.0, -1.0)
TAILS = (0.5, 0.1, 0.01, 1e-3, 1e-4)


def threshold(latent: int, tail: float) -> float:
    """tau with P(log N(u; 0, I) < tau) = `tail` for u ~ N(0, I_latent), nats: -(1/2) (chi^2 quantile + L log 2 pi)."""
    return -0.5 * (float(stats.chi2.isf(tail, latent)) + latent * math.log(2 * math.pi))


def thresholds(latent: int) -> list[float]:
    """The quantiles `TAILS` of the base density in `latent` dimensions and dpVAE's `FIXED` ones, ascending, nats."""
    return sorted({*FIXED, *(threshold(latent, tail) for tail in TAILS)})


class Leakage(NamedTuple):
    """Per-draw terms at one threshold: F (S,), and whether each draw leaked (S,)."""

    term: Tensor
    leaked: Tensor


def leakage(log_aggregate: Tensor, log_base: Tensor, tau: float) -> Leakage:
    """F_tau(z) = log q(z) - l(z) where l(z) < tau, else 0, of draws z ~ q(z): both arguments (S,) nats.

    l(z) = log N(g(z); 0, I), g the map to generation space. The score is the mean of F, lower is better.
    Source: Bhalodia et al. 2020 (dpVAE), equation 6.
    """
    leaked = log_base < tau
    return Leakage(torch.where(leaked, log_aggregate - log_base, 0.0), leaked)


def below_tail(log_density: Tensor, own: Tensor, tail: float) -> Tensor:
    """Which of the points with `log_density` (M,) lie where the density's `own` draws (S,) hardly ever come: (M,) bool.

    Below the k-th lowest of `own`, k = tail (S + 1) rounded: of draws of that density itself, a share k / (S + 1) is.
    Raises ValueError if S is too small for the tail.
    """
    rank = round(tail * (len(own) + 1))
    if not 1 <= rank <= len(own):
        raise ValueError(f"a tail of {tail} cannot be told from {len(own)} draws; take more draws or another tail")
    return log_density < own.kthvalue(rank).values
