"""The largest singular values of many matrices, by power iteration."""

import torch
from torch import Tensor
from torch.nn import functional as F


def power_iteration(weights: Tensor, left: Tensor, right: Tensor, rounds: int) -> tuple[Tensor, Tensor, Tensor]:
    """sigma, u, v: estimates of the largest singular value of each of `weights` (M, R, C), (M,), and its vectors.

    `rounds` times v = normalised W^T u, u = normalised W v, from u = `left` (M, R), v = `right` (M, C); then
    sigma = u^T W v, at most the singular value, differentiable in `weights` with u and v held fixed.
    Source: Miyato et al. 2018 (spectral normalisation), algorithm 1.
    """
    with torch.no_grad():
        for _ in range(rounds):
            right = F.normalize(torch.einsum("mr,mrc->mc", left, weights), dim=1, eps=1e-3)
            left = F.normalize(torch.einsum("mrc,mc->mr", weights, right), dim=1, eps=1e-3)
    return torch.einsum("mr,mrc,mc->m", left, weights, right), left, right
