"""Kullback-Leibler divergence from samples alone, by nearest neighbours."""

import math

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor


class CoincidentError(ValueError):
    """Two samples are the same point: no distance of 0 has a logarithm."""


def knn_kl(x: Tensor, y: Tensor) -> float:
    """An estimate of KL(P || Q) in nats from x (n, d) of P and y (m, d) of Q, by exact first neighbours.

    (d/n) sum_i log(s_i / r_i) + log(m / (n - 1)), r_i the distance of x_i to the nearest other x, s_i to the nearest y.
    Consistent, but biased at any n, the more so in many dimensions: compare values of equal n and d only. Raises
    CoincidentError if two points coincide.
    Source: Perez-Cruz 2008, "Kullback-Leibler divergence estimation of continuous distributions", equation 14.
    """
    ours, theirs = x.double().numpy(), y.double().numpy()
    near, _ = cKDTree(ours).query(ours, k=2)
    far, _ = cKDTree(theirs).query(ours, k=1)
    r, s = near[:, 1], np.asarray(far)
    if not (r.min() > 0 and s.min() > 0):
        raise CoincidentError(
            "two samples coincide, so that their distance has no logarithm: the model draws constants"
        )
    ratio: Tensor = torch.from_numpy(np.log(s / r))
    n, d = ours.shape
    return float(d * ratio.mean()) + math.log(len(theirs) / (n - 1))
