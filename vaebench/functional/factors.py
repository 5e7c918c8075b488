"""Draws of the factors of rendered data: at random, about a centre, with one held fixed.

A factor's values are 0..size-1, independent and uniform. Every draw is a function of the seed and its numbers.
"""

import math

import torch
from torch import Tensor

from vaebench.functional import random

FEW = 10
"""A factor with fewer values is not a continuum: it is held fixed about a centre (JL1-VAE's continuity cutoff)."""


def between(seed: int, low: Tensor, high: Tensor, *coordinates: Tensor) -> Tensor:
    """Uniform integers low..high (..., F), both included: (*shape, F) int64 at the broadcast `coordinates`."""
    uniform = random.uniform(random.keys(seed, *coordinates), (low.shape[-1],)).double()
    return low + (uniform * (high - low + 1)).long()


def uniform_factors(seed: int, sizes: tuple[int, ...], *coordinates: Tensor) -> Tensor:
    """Factors drawn uniformly, (*shape, F) int64, at the broadcast `coordinates`."""
    high = torch.tensor(sizes) - 1
    return between(seed, torch.zeros_like(high), high, *coordinates)


def fixed_factor(seed: int, sizes: tuple[int, ...], vote: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """What FactorVAE's score votes on: which factor is fixed in each vote (V,), and factors (V, points, F).

    In a vote's points, one factor has the same value, all others are drawn anew.
    Source: Kim & Mnih 2018, section 4.
    """
    factors = uniform_factors(random.derive(seed, "points"), sizes, vote[:, None], torch.arange(points))
    which = uniform_factors(random.derive(seed, "which"), (len(sizes),), vote)[:, 0]
    held = torch.arange(len(sizes)) == which[:, None, None]
    return which, torch.where(held, factors[:, :1], factors)


def fixed_factor_pairs(seed: int, sizes: tuple[int, ...], vote: Tensor, pairs: int) -> tuple[Tensor, Tensor]:
    """What the beta-VAE score tells apart: the factor shared in each vote (V,), and factors (V, 2, pairs, F).

    The two of a pair share the value of that factor, and pairs of a vote do not.
    Source: Higgins et al. 2017, section 3.
    """
    number = torch.arange(2 * pairs)
    factors = uniform_factors(random.derive(seed, "points"), sizes, vote[:, None], number).unflatten(1, (2, pairs))
    which = uniform_factors(random.derive(seed, "which"), (len(sizes),), vote)[:, 0]
    shared = torch.arange(len(sizes)) == which[:, None, None, None]
    return which, torch.where(shared, factors[:, :1], factors)


def neighbourhood(centre: Tensor, sizes: tuple[int, ...], rho: float) -> tuple[Tensor, Tensor]:
    """The lowest and highest value (..., F) of each factor about `centre` (..., F): floor(`rho` size) to either side.

    Cut off at 0 and size - 1; a factor of fewer than `FEW` values stays at the centre.
    Source: Rhodes & Lee 2021 (JL1-VAE), as its code has it.
    """
    size = torch.tensor(sizes)
    reach = torch.tensor([math.floor(rho * s) if s >= FEW else 0 for s in sizes])
    return (centre - reach).clamp(min=0), torch.minimum(centre + reach, size - 1)
