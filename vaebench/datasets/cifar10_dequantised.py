"""CIFAR-10, uniformly dequantised: real numbers in [0, 1] (3x32x32 from 256 levels, a density)."""

from vaebench.datasets._real import dequantised

plugin = dequantised("cifar10")
