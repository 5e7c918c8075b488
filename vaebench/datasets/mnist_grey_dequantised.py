"""MNIST digits in grey, uniformly dequantised: real numbers in [0, 1] (28x28 from 256 levels, a density)."""

from vaebench.datasets._real import dequantised

plugin = dequantised("mnist-grey")
