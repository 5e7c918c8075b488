"""Densities and divergences of Gaussians with diagonal covariance."""

import math

import torch
from torch import Tensor


def log_density(z: Tensor, mean: Tensor, log_variance: Tensor, dims: int = 1) -> Tensor:
    """log N(z; mean, diag exp(log_variance)) in nats, summed over the last `dims` dimensions; shapes broadcast."""
    return log_density_of_noise(standardised(z - mean, log_variance), log_variance, dims)


def standardised(difference: Tensor, log_variance: Tensor) -> Tensor:
    """`difference` / exp(log_variance / 2), by two factors, each of which single precision holds down to e^-350."""
    root = torch.exp(-0.25 * log_variance)
    return difference * root * root


def log_density_of_noise(noise: Tensor, log_variance: Tensor, dims: int = 1) -> Tensor:
    """`log_density` of z = mean + exp(log_variance / 2) noise, from the noise that made it: nothing of z is rounded."""
    return (-0.5 * (noise.square() + log_variance + math.log(2 * math.pi))).flatten(-dims).sum(-1)
