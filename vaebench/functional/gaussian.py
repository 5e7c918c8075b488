"""Densities and divergences of Gaussians with diagonal covariance."""

import math

import torch
from torch import Tensor


def log_density(z: Tensor, mean: Tensor, log_variance: Tensor, dims: int = 1) -> Tensor:
    """log N(z; mean, diag exp(log_variance)) in nats, summed over the last `dims` dimensions; shapes broadcast."""
    square = ((z - mean) * torch.exp(-0.5 * log_variance)).square()
    return (-0.5 * (square + log_variance + math.log(2 * math.pi))).flatten(-dims).sum(-1)


def kl_to_standard(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, diag exp(log_variance)) || N(0, I)) in nats over the last dimension (Kingma & Welling 2014, B)."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(-1)
