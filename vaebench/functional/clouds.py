"""Distances between clouds of points, and how well a set of drawn clouds matches a set of real ones."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

CELLS = 2**22  # squared distances held at once


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances (..., P, Q) of points (..., P, 3) to points (..., Q, 3), at least 0.

    By the product a b', whose rounding is of the order of 1e-7 of the squared lengths: clouds are centred first.
    """
    product = torch.baddbmm(b.square().sum(-1).unsqueeze(-2), a, b.transpose(-1, -2), alpha=-2.0)
    return product.add_(a.square().sum(-1, keepdim=True)).clamp_(min=0.0)


def chamfer(a: Tensor, b: Tensor) -> Tensor:
    """The Chamfer distance of each pair of clouds a (B, P, 3), b (B, Q, 3): (B,) float64, squared units.

    Mean over a of the squared distance to the nearest point of b, plus the same from b to a.
    Source: Fan, Su & Guibas 2017.
    """
    step = max(1, CELLS // (a.shape[1] * b.shape[1]))
    parts = [_both_ways(_squares(x, y)) for x, y in zip(a.split(step), b.split(step), strict=True)]
    return torch.cat(parts)


def _both_ways(squares: Tensor) -> Tensor:
    return squares.amin(2).double().mean(1) + squares.amin(1).double().mean(1)


def chamfer_matrix(a: Tensor, b: Tensor) -> Tensor:
    """`chamfer` of every cloud of a (N, P, 3) and every cloud of b (M, Q, 3): (N, M) float64.

    A block of clouds of b is laid end to end, so that one product gives a cloud of a against all of them; memory is
    bounded by `CELLS` whatever N and M.
    """
    count, size = b.shape[:2]
    step = max(1, CELLS // (a.shape[1] * size))
    found = torch.empty(len(a), count, dtype=torch.float64)
    for start in range(0, count, step):
        block = b[start : start + step]
        flat = block.reshape(1, -1, 3)
        for i, cloud in enumerate(a):
            squares = _squares(cloud[None], flat)[0].view(a.shape[1], len(block), size)
            there = squares.amin(2).double().mean(0)
            found[i, start : start + len(block)] = there + squares.amin(0).double().mean(1)
    return found


def earth_mover(a: Tensor, b: Tensor) -> Tensor:
    """The earth mover's distance of each pair of clouds (B, P, 3) of equal size: (B,) float64, units.

    The mean distance between points that the best one-to-one assignment pairs: exact, O(P^3).
    Source: Rubner, Tomasi & Guibas 2000; scipy's assignment (Jonker & Volgenant).
    """
    if a.shape != b.shape:
        raise ValueError(f"clouds of shape {tuple(a.shape)} and {tuple(b.shape)} cannot be assigned one to one")
    costs = [torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist").numpy()
             for x, y in zip(a.cpu(), b.cpu(), strict=True)]  # fmt: skip
    return torch.tensor([float(cost[linear_sum_assignment(cost)].mean()) for cost in costs], dtype=torch.float64)


class SetMatch(NamedTuple):
    """How a set of drawn clouds matches as many real ones; `nearest` is (N + M,) 0 or 1, whose mean is 1-NNA."""

    one_nna: float
    coverage: float
    mmd: float
    nearest: Tensor


def set_match(real: Tensor, cross: Tensor, drawn: Tensor) -> SetMatch:
    """1-NNA, COV and MMD from distances within real clouds (N, N), real to drawn (N, M), within drawn ones (M, M).

    1-NNA is how often a cloud's nearest neighbour, itself left out, is of its own set: 1/2 where the sets cannot be
    told apart, 1 where they are apart. COV is the fraction of real clouds that are the nearest one of a drawn cloud,
    MMD the mean distance of a real cloud to the nearest drawn one. Source: Yang et al. 2019 (PointFlow), section 5.1.
    """
    alone_real, alone_drawn = (
        square + torch.diag(torch.full((len(square),), torch.inf, dtype=square.dtype)) for square in (real, drawn)
    )
    from_real = alone_real.amin(1) < cross.amin(1)
    from_drawn = alone_drawn.amin(1) < cross.amin(0)
    nearest = torch.cat([from_real, from_drawn]).double()
    covered = len(np.unique(cross.argmin(0).numpy())) / len(cross)
    return SetMatch(float(nearest.mean()), covered, float(cross.amin(1).mean()), nearest)
