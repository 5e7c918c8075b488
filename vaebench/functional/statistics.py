"""Means over examples, with their standard errors."""

import torch
from torch import Tensor

from vaebench.functional.intervals import wilson


def mean_stderr(values: Tensor) -> tuple[float, float | None]:
    """The mean of `values` (N,) and its standard error s / sqrt(N), s^2 unbiased; None for a single value.

    Raises ValueError if a value is NaN or infinite: an example is never left out of a mean.
    """
    values = values.double()
    if sick := int((~torch.isfinite(values)).sum()):
        raise ValueError(f"{sick} of {len(values)} examples have no finite value")
    stderr = float(values.std() / len(values) ** 0.5) if len(values) > 1 else None
    return float(values.mean()), stderr


def wilson_stderr(part: float, n: int) -> float:
    """Half the width of the interval `intervals.wilson`, over 1.96: above 0 also where `part` is 0 or 1."""
    low, high = wilson(part, n, 1.96)
    return (high - low) / (2 * 1.96)
