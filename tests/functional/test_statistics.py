"""Golden values of means and standard errors; intervals of proportions that cover."""

import math

import pytest
import torch
from scipy import stats

from vaebench.functional.statistics import mean_stderr, wilson, wilson_stderr


def test_mean_and_standard_error_of_four_numbers() -> None:
    mean, stderr = mean_stderr(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    assert mean == 3.0
    assert stderr == pytest.approx(math.sqrt(14 / 3 / 4), rel=1e-12)


def test_one_number_has_no_standard_error() -> None:
    assert mean_stderr(torch.tensor([2.5])) == (2.5, None)


def test_sums_are_double() -> None:
    mean, stderr = mean_stderr(torch.full((1000,), 1e8) + torch.arange(1000.0).mul(8))
    assert mean == 1e8 + 8 * 499.5
    assert stderr == pytest.approx(8 * math.sqrt(1000 * 1001 / 12 / 1000), rel=1e-9)


@pytest.mark.parametrize("sick", [math.nan, math.inf, -math.inf])
def test_no_example_is_left_out(sick: float) -> None:
    with pytest.raises(ValueError, match="1 of 3 examples have no finite value"):
        mean_stderr(torch.tensor([1.0, sick, 2.0]))


@pytest.mark.parametrize(
    ("part", "n", "low", "high"),
    [(0.0, 10, 0.0, 0.27754), (0.5, 10, 0.23659, 0.76341), (1.0, 360, 0.98944, 1.0), (81 / 263, 263, 0.25530, 0.36621)],
)
def test_wilsons_interval(part: float, n: int, low: float, high: float) -> None:
    """By hand; the last is Newcombe's example (1998, table I)."""
    assert wilson(part, n) == pytest.approx((low, high), abs=2e-5)


def test_wilsons_interval_covers() -> None:
    """Exactly, by the binomial masses: 95% within the oscillation that a discrete count has."""
    for n in (40, 300):
        for p in (0.05, 0.3, 0.9):
            covered = sum(
                stats.binom.pmf(k, n, p) for k in range(n + 1) if wilson(k / n, n)[0] <= p <= wilson(k / n, n)[1]
            )
            assert covered == pytest.approx(0.95, abs=0.02)


def test_wilsons_error_is_the_binomial_one_but_never_nothing() -> None:
    assert wilson_stderr(81 / 263, 263) == pytest.approx((0.36621 - 0.25530) / 3.92, abs=1e-5)
    assert wilson_stderr(0.3, 10**6) == pytest.approx((0.21 / 10**6) ** 0.5, rel=1e-4)
    for part in (0.0, 1.0):
        assert 0 < wilson_stderr(part, 100) == pytest.approx(1.96 / (2 * (100 + 1.96**2)))
