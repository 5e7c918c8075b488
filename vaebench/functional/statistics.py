"""Means over examples, with their standard errors; intervals of proportions."""

import torch
from torch import Tensor


def mean_stderr(values: Tensor) -> tuple[float, float | None]:
    """The mean of `values` (N,) and its standard error s / sqrt(N), s^2 unbiased; None for a single value.

    ValueError where a value is NaN or infinite: an example is never left out of a mean.
    """
    values = values.double()
    if sick := int((~torch.isfinite(values)).sum()):
        raise ValueError(f"{sick} of {len(values)} examples have no finite value")
    stderr = float(values.std() / len(values) ** 0.5) if len(values) > 1 else None
    return float(values.mean()), stderr


def wilson(part: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The interval of a proportion `part` seen in `n` trials: (low, high), within [0, 1].

    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n). It has a width where p is 0 or 1.
    Source: Wilson 1927; Brown, Cai & DasGupta 2001, equation 4.
    """
    centre = part + z**2 / (2 * n)
    half = z * (part * (1 - part) / n + z**2 / (4 * n**2)) ** 0.5
    return max(0.0, (centre - half) / (1 + z**2 / n)), min(1.0, (centre + half) / (1 + z**2 / n))


def wilson_stderr(part: float, n: int, z: float = 1.96) -> float:
    """Half the width of the interval `wilson`, over z: a standard error that is above 0 where `part` is 0 or 1."""
    low, high = wilson(part, n, z)
    return (high - low) / (2 * z)
