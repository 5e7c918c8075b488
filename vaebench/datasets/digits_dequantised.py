"""UCI handwritten digits, uniformly dequantised: real numbers in [0, 1] (8x8 from 17 levels, a density)."""

from vaebench.datasets._real import dequantised

plugin = dequantised("digits")
