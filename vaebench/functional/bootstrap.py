"""Standard errors of statistics that are not means, by resampling."""

from collections.abc import Callable

import torch
from torch import Tensor

from vaebench.functional import random


def bootstrap_stderr(statistic: Callable[[Tensor], float], count: int, seed: int, resamples: int = 100) -> float:
    """The standard deviation of `statistic(index)` over resamples: index (count,) int64, drawn with replacement.

    Raises ValueError for fewer than two resamples. Source: Efron 1979.
    """
    if resamples < 2:
        raise ValueError(f"resamples = {resamples} should be at least 2")
    values = []
    for number in range(resamples):
        uniform = random.uniform(random.keys(seed, torch.tensor([number])), (count,))[0]
        values.append(statistic((uniform.double() * count).long()))
    return float(torch.tensor(values, dtype=torch.float64).std())
