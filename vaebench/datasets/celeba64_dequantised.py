"""CelebA faces, uniformly dequantised: real numbers in [0, 1] (3x64x64 from 256 levels, a density)."""

from vaebench.datasets._real import dequantised

plugin = dequantised("celeba64")
