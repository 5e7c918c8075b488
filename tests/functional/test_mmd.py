"""Maximum mean discrepancy: a direct double sum, Gaussians in closed form, the sign of a square."""

import math

import pytest
import torch
from torch import Tensor

from vaebench.functional.mmd import squared_mmd


def samples(n: int, d: int, shift: float = 0.0, seed: int = 0) -> Tensor:
    return shift + torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def direct(x: Tensor, y: Tensor, divide: bool = True, own: bool = True) -> float:
    """One pair at a time."""

    def mean(a: list[list[float]], b: list[list[float]], same: bool) -> float:
        total, count = 0.0, 0
        for i, p in enumerate(a):
            for j, q in enumerate(b):
                if same and i == j and not own:
                    continue
                square = sum((s - t) ** 2 for s, t in zip(p, q, strict=True))
                total += math.exp(-square / (len(p) ** 2 if divide else len(p)))
                count += 1
        return total / count

    one, two = x.tolist(), y.tolist()
    return mean(one, one, True) + mean(two, two, True) - 2 * mean(one, two, False)


@pytest.mark.parametrize(("n", "m", "d"), [(7, 7, 3), (5, 9, 2), (1, 1, 4), (6, 6, 1)])
def test_equals_the_double_sum(n: int, m: int, d: int) -> None:
    x, y = samples(n, d), samples(m, d, 0.7, 1)
    assert float(squared_mmd(x, y)) == pytest.approx(direct(x, y), rel=1e-12, abs=1e-15)


def test_the_double_sum_tells_kernels_and_statistics_apart() -> None:
    x, y = samples(7, 3), samples(7, 3, 0.7, 1)
    for wrong in (direct(x, y, divide=False), direct(x, y, own=False)):
        assert float(squared_mmd(x, y)) != pytest.approx(wrong, rel=1e-3)


def test_equals_the_closed_form_between_gaussians() -> None:
    d, shift, n = 3, 0.9, 400
    width = d**2

    def kernel(mean: float, variance: float) -> float:  # E exp(-|a|^2 / width), a ~ N(mean, variance I)
        one = math.exp(-(mean**2) / (width + 2 * variance)) / (1 + 2 * variance / width) ** 0.5
        return float(one**d)

    among = kernel(0, 2)
    truth = 2 * (among + (1 - among) / n) - 2 * kernel(shift, 2)
    found = torch.stack([squared_mmd(samples(n, d, 0, 2 * i), samples(n, d, shift, 2 * i + 1)) for i in range(8)])
    assert abs(found.mean() - truth) < 4.5 * found.std() / 8**0.5
    assert abs(found.mean() - truth / 2) > 4.5 * found.std() / 8**0.5


def test_is_never_negative_and_zero_for_equal_samples() -> None:
    x = samples(20, 4)
    assert float(squared_mmd(x, x)) == pytest.approx(0, abs=1e-12)
    assert all(float(squared_mmd(samples(9, 4, 0, i), samples(9, 4, 0, i + 50))) >= 0 for i in range(20))
