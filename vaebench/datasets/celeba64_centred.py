"""CelebA faces as NVAE's Gaussian decoder sees them: real numbers in [-1, 1], no noise (3x64x64, a density)."""

from vaebench.datasets._real import centred

plugin = centred("celeba64")
