"""The Gaussian problem of HVAE's first figure: N observations around one latent vector, offset and rescaled.

z ~ N(0, I_d), and x_i|z ~ N(z + Delta, diag sigma^2) for i = 1..N, N = 10,000. With r_j = j - (d - 1) / 2, j = 0..d-1,
Delta_j = r_j / 5, and sigma_j = 0.1 + 3.6 r_j^2 / (d - 1)^2 goes from 0.1 in the middle to 1 at both ends.

An example is one set of N observations with a z of its own, as the average and log-variance of each dimension. They are
sufficient for (z, Delta, sigma), and are drawn by their own law: it is exact, and N times cheaper. The paper estimates
(Delta, sigma) from one set, ten times over, where |Delta' - Delta|^2 is about d by |z|^2 alone; here many sets share
them.

Source: Caterini, Doucet & Sejdinovic 2018 (arXiv 1805.11328), section 4.1, and its published code for the constants.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaebench.core.data import Source, Space, Split
from vaebench.core.law import Law
from vaebench.distributions.summary import OBSERVATIONS, log_spread_bias

SIZES = {"train": 1_000, "test": 200}


def parameters(dims: int) -> dict[str, Tensor]:
    """The true Delta and sigma, each (d,) float64."""
    r = torch.arange(dims, dtype=torch.float64) - (dims - 1) / 2
    return {"delta": r / 5, "sigma": 0.1 + 3.6 * (r / (dims - 1)).square()}


def of_mean(mean: Tensor) -> dict[str, Tensor]:
    """Delta and sigma, each (d,), of E[x] (2, d): Delta = E[mean], log sigma^2 = E[log s^2] - its bias."""
    average, log_spread = mean.double()
    return {"delta": average, "sigma": (0.5 * (log_spread - log_spread_bias())).exp()}


def toy(dims: int, fingerprint: str) -> Source:
    """The problem in `dims` dimensions, with its law."""
    return Source(
        name=f"gaussian-toy-{dims}",
        space=Space((2, dims), None, "density"),
        read=partial(_read, dims),
        origin="rendered; the design is of Caterini et al. 2018 (HVAE)",
        licence="none needed: rendered, not collected",
        fingerprint=fingerprint,
        bundled=True,
        law=Law(parameters(dims), of_mean),
    )


def _read(dims: int, root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" (1,000, seed 0) and "test" (200, seed 1) of numpy's frozen generator, rounded to 1e-6.

    Logarithms differ in their last bit between builds of numpy: rounding takes it away, and is far below the noise.
    """
    delta, sigma = (value.numpy() for value in parameters(dims).values())
    return {split: _render(split, size, seed, delta, sigma) for seed, (split, size) in enumerate(SIZES.items())}


def _render(split: str, size: int, seed: int, delta: np.ndarray, sigma: np.ndarray) -> Split:
    generator, shape = np.random.RandomState(seed), (size, len(delta))
    z, noise = generator.standard_normal(shape), generator.standard_normal(shape)
    spread = sigma**2 * generator.chisquare(OBSERVATIONS - 1, shape) / (OBSERVATIONS - 1)
    x = np.stack([z + delta + sigma / OBSERVATIONS**0.5 * noise, np.log(spread)], 1)
    return Split(split, torch.from_numpy(np.round(x, 6).astype(np.float32)))
