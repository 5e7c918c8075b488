"""The Frechet distance between two sets of feature vectors, each taken for a Gaussian."""

from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """What is kept of `size` feature vectors, in float64: their mean (F,) and scatter sum (f - mean)(f - mean)^T."""

    size: int
    mean: Tensor
    scatter: Tensor

    @property
    def covariance(self) -> Tensor:
        """scatter / (size - 1), (F, F). Raises ValueError for fewer than 2 vectors."""
        if self.size < 2:
            raise ValueError(f"{self.size} feature vectors have no covariance; use more samples")
        return self.scatter / (self.size - 1)


def moments(features: Tensor) -> Moments:
    """The moments of `features` (n, F), n >= 1. Raises ValueError for a value that is not finite."""
    features = features.double()
    if not bool(torch.isfinite(features).all()):
        raise ValueError("features are NaN or infinite")
    mean = features.mean(0)
    centred = features - mean
    return Moments(len(features), mean, centred.T @ centred)


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of the vectors of `a` and `b` together, so that no more than a part need be held at once.

    scatter = S_a + S_b + (n_a n_b / n) d d^T, d = mean_b - mean_a. Source: Chan, Golub & LeVeque 1983.
    """
    size, difference = a.size + b.size, b.mean - a.mean
    mean = a.mean + difference * (b.size / size)
    between = (a.size * b.size / size) * difference.outer(difference)
    return Moments(size, mean, a.scatter + b.scatter + between)


def gaussian_distance(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """||m_a - m_b||^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) of two Gaussians, not below 0 but for rounding.

    Means (F,), covariances (F, F) of any rank, in float64. The trace of the root is the sum of the roots of the
    eigenvalues of the symmetric S_a^(1/2) S_b S_a^(1/2), taken as the singular values of S_b^(1/2) S_a^(1/2): rounding
    near 0, which a root would magnify, then stays rounding. Source: Dowson & Landau 1982; Heusel et al. 2017 (FID).
    """
    mean_a, mean_b = mean_a.double(), mean_b.double()
    roots = [_root(covariance.double()) for covariance in (covariance_a, covariance_b)]
    cross = torch.linalg.svdvals(roots[0].mT @ roots[1]).sum()
    total = sum(root.square().sum() for root in roots)  # tr S = ||S^(1/2)||^2
    return float((mean_a - mean_b).square().sum() + total - 2 * cross)


def _root(covariance: Tensor) -> Tensor:
    """R (F, F) with R R^T = `covariance`: eigenvectors times roots of eigenvalues, those below 0 by rounding as 0."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp(min=0).sqrt()
    return root


def frechet_distance(a: Moments, b: Moments) -> float:
    """`gaussian_distance` of the Gaussians with the moments of two sets of features."""
    return gaussian_distance(a.mean, a.covariance, b.mean, b.covariance)
