"""Maximum mean discrepancy between two samples."""

import torch
from torch import Tensor


def _mean_kernel(x: Tensor, y: Tensor) -> Tensor:
    """The mean over all pairs of exp(-mean_d (x_d - y_d)^2 / D)."""
    square = (x[:, None] - y).square().mean(-1)
    return torch.exp(-square / x.shape[-1]).mean()


def squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    """MMD^2 of x (N, D) and y (M, D), a scalar >= 0 without unit: E k(x, x') + E k(y, y') - 2 E k(x, y).

    k(a, b) = exp(-mean_d (a_d - b_d)^2 / D), that is exp(-|a - b|^2 / D^2). Each mean is over all pairs, a point with
    itself among them (a V-statistic): it is biased upwards by at most 1/N + 1/M, and never negative.
    Source: Gretton et al. 2012, equation 5; the kernel is that of InfoVAE's tutorial and of dpVAE.
    """
    return _mean_kernel(x, x) + _mean_kernel(y, y) - 2 * _mean_kernel(x, y)
