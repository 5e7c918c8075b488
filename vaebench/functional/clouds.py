"""Distances between clouds of points, and how well a set of drawn clouds matches a set of real ones."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

CELLS = 2**18  # squared distances held at once: what a core's cache holds


def _left(x: Tensor) -> Tensor:
    """[-2 x, |x|^2, 1] of points (..., P, 3): its product with `_right` of others is their squared distances."""
    return torch.cat([-2 * x, x.square().sum(-1, keepdim=True), torch.ones_like(x[..., :1])], -1)


def _right(x: Tensor) -> Tensor:
    """[x, 1, |x|^2] of points (..., Q, 3), transposed: (..., 5, Q)."""
    found = torch.cat([x, torch.ones_like(x[..., :1]), x.square().sum(-1, keepdim=True)], -1)
    return found.transpose(-1, -2).contiguous()


def _distances(left: Tensor, rights: Tensor) -> Tensor:
    """The Chamfer distances of one cloud, (P, 5), to others, (M, 5, Q): (M,) float64.

    One product a pair gives all its squared distances, into memory that is used again and fits a core's cache: where a
    whole pair does not, in strips of the first cloud.
    """
    count, size = len(rights), rights.shape[-1]
    there, back = left.new_empty(count, len(left)), left.new_full((count, size), torch.inf)
    step = min(len(left), max(1, CELLS // size))
    held = left.new_empty(step, size)
    for start in range(0, len(left), step):
        strip = left[start : start + step]
        for right, rows, columns in zip(rights, there, back, strict=True):
            squares = torch.mm(strip, right, out=held[: len(strip)])
            torch.amin(squares, 1, out=rows[start : start + step])
            if step == len(left):
                torch.amin(squares, 0, out=columns)
            else:
                torch.minimum(columns, squares.amin(0), out=columns)
    both = (each.clamp_(min=0.0).mean(1, dtype=torch.float64) for each in (there, back))
    return sum(both, torch.zeros(count, dtype=torch.float64, device=left.device)).cpu()


@torch.no_grad()
def chamfer(a: Tensor, b: Tensor) -> Tensor:
    """The Chamfer distance of each pair of clouds a (B, P, 3), b (B, Q, 3): (B,) float64, squared units.

    Mean over a of the squared distance to the nearest point of b, plus the same from b to a. Its rounding is about 1e-7
    of the squared lengths of the points: centre them. Source: Fan, Su & Guibas 2017.
    """
    return torch.cat([_distances(left, right[None]) for left, right in zip(_left(a), _right(b), strict=True)])


@torch.no_grad()
def chamfer_matrix(a: Tensor, b: Tensor) -> Tensor:
    """`chamfer` of every cloud of a (N, P, 3) and every cloud of b (M, Q, 3): (N, M) float64."""
    rights = _right(b)
    return torch.stack([_distances(left, rights) for left in _left(a)])


def _ahead(of: Tensor, count: int) -> Tensor:
    """The numbers of the `count` // 2 clouds that follow each of `of` (B,), in a ring of `count`: (B, count // 2)."""
    return (of.unsqueeze(1) + torch.arange(1, count // 2 + 1, device=of.device)) % count


@torch.no_grad()
def chamfer_ring(x: Tensor, of: Tensor) -> Tensor:
    """`chamfer` of the clouds `of` (B,) of x (N, P, 3) and the N // 2 that follow each in a ring: (B, N // 2) float64.

    Over all N of them that is each pair once, but for clouds that face each other where N is even.
    """
    rights = _right(x)
    pairs = zip(_left(x[of]), _ahead(of, len(x)), strict=True)
    return torch.stack([_distances(left, rights[others]) for left, others in pairs])


def from_ring(ring: Tensor) -> Tensor:
    """All distances (N, N) from those of `chamfer_ring` (N, N // 2), with 0 on the diagonal."""
    of = torch.arange(len(ring), device=ring.device)
    ahead = _ahead(of, len(ring))
    whole = ring.new_zeros(len(ring), len(ring))
    whole[of.unsqueeze(1), ahead] = ring
    whole[ahead, of.unsqueeze(1)] = ring
    return whole


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
