"""The largest singular values of many matrices, by power iteration."""

import torch
from torch import Tensor
from torch.nn import functional as F


def power_iteration(weights: Tensor, left: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """sigma (M,) and u (M, R): the largest singular value of each of `weights` (M, R, C), about, and its left vector.

    `rounds` >= 1 times v = normalised W^T u, u = normalised W v, from u = `left` (M, R); then sigma = u^T W v, which
    is at most the singular value, and differentiable in `weights` with u and v held fixed.
    Source: Miyato et al. 2018 (spectral normalisation), algorithm 1.
    """
    right = left.new_zeros(weights.shape[0], weights.shape[2])
    with torch.no_grad():
        for _ in range(rounds):
            right = F.normalize(torch.einsum("mr,mrc->mc", left, weights), dim=1)
            left = F.normalize(torch.einsum("mrc,mc->mr", weights, right), dim=1)
    return torch.einsum("mr,mrc,mc->m", left, weights, right), left
