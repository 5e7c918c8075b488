"""CIFAR-10 as NVAE's Gaussian decoder sees them: real numbers in [-1, 1], no noise (3x32x32, a density)."""

from vaebench.datasets._real import centred

plugin = centred("cifar10")
