"""The masses of a logistic on bins: scipy's distribution function, and a sum of 1."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import logistic as oracle

from vaebench.functional.logistic import log_mass


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_it_is_the_difference_of_scipys_distribution_function(levels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_scale = (torch.randn(50, 1, generator=generator, dtype=torch.float64) for _ in range(2))
    x = torch.linspace(-1, 1, levels, dtype=torch.float64)
    edges = np.concatenate([[-math.inf], ((x[1:] + x[:-1]) / 2).numpy(), [math.inf]])
    expected = np.diff(oracle.cdf(edges, mean.numpy(), log_scale.exp().numpy()))
    found = log_mass(x, mean, log_scale, levels, 0.999)
    np.testing.assert_allclose(found.exp().numpy(), expected, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(found.exp().sum(1).numpy(), 1, rtol=1e-12)
