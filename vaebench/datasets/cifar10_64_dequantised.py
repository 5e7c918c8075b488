"""CIFAR-10 resized to 64x64, uniformly dequantised: real numbers in [0, 1] (3x64x64 from 256 levels, a density)."""

from vaebench.datasets._real import dequantised

plugin = dequantised("cifar10-64")
