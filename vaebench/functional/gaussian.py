"""Densities and divergences of Gaussians with diagonal covariance."""

import math

import torch
from torch import Tensor


def log_density(z: Tensor, mean: Tensor, log_variance: Tensor, dims: int = 1) -> Tensor:
    """log N(z; mean, diag exp(log_variance)) in nats, summed over the last `dims` dimensions; shapes broadcast."""
    square = ((z - mean) * torch.exp(-0.5 * log_variance)).square()
    return (-0.5 * (square + log_variance + math.log(2 * math.pi))).flatten(-dims).sum(-1)


def log_density_of_noise(noise: Tensor, log_variance: Tensor, dims: int = 1) -> Tensor:
    """`log_density` of z = mean + exp(log_variance / 2) noise, from the noise that made it: nothing of z is rounded."""
    return (-0.5 * (noise.square() + log_variance + math.log(2 * math.pi))).flatten(-dims).sum(-1)
