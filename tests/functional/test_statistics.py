"""Golden values of means and standard errors."""

import math

import pytest
import torch

from vaebench.functional.statistics import mean_stderr


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
