"""Draws of factors: uniform, keyed, with one held fixed or shared, and about a centre."""

import pytest
import torch
from torch import Tensor

from vaebench.functional.factors import between, fixed_factor, fixed_factor_pairs, neighbourhood, uniform_factors

SIZES = (3, 64, 10)


def uniform_enough(values: Tensor, low: int, high: int) -> bool:
    """Within 5 standard errors at every value."""
    counts = (values - low).bincount(minlength=high - low + 1).double()
    expected = len(values) / len(counts)
    return len(counts) == high - low + 1 and bool((counts - expected).abs().max() < 5 * expected**0.5)


def test_factors_are_uniform_and_belong_to_their_number() -> None:
    drawn = uniform_factors(0, SIZES, torch.arange(20_000))
    for f, size in enumerate(SIZES):
        assert uniform_enough(drawn[:, f], 0, size - 1)
    assert torch.corrcoef(drawn.double().T).fill_diagonal_(0).abs().max() < 5 / 20_000**0.5
    assert uniform_factors(0, SIZES, torch.tensor([7, 3])).equal(drawn[[7, 3]])
    assert not uniform_factors(1, SIZES, torch.arange(100)).equal(drawn[:100])


def test_a_vote_holds_one_factor_and_draws_the_others() -> None:
    which, factors = fixed_factor(0, SIZES, torch.arange(300), 64)
    varies = (factors != factors[:, :1]).any(1)
    assert varies.equal(torch.arange(3) != which[:, None])
    assert uniform_enough(which, 0, 2)
    assert uniform_enough(factors[which == 1, 0, 1], 0, 63)
    again, some = fixed_factor(0, SIZES, torch.tensor([11]), 64)
    assert (int(again), some[0].tolist()) == (int(which[11]), factors[11].tolist())


def test_pairs_share_one_factor_within_a_pair_only() -> None:
    which, factors = fixed_factor_pairs(0, SIZES, torch.arange(200), 64)
    first, second = factors[:, 0], factors[:, 1]
    shared = (first == second).all(1)
    assert shared.equal(torch.arange(3) == which[:, None])
    assert (first != first[:, :1]).any(1).all()
    assert factors.shape == (200, 2, 64, 3)


@pytest.mark.parametrize(("rho", "low", "high"), [(0.1, [2, 0, 8], [2, 9, 9]), (0.3, [2, 0, 6], [2, 22, 9]),
                                                  (1.0, [2, 0, 0], [2, 63, 9])])  # fmt: skip
def test_a_neighbourhood_is_cut_off_at_the_ends_and_closed_to_small_factors(
    rho: float, low: list[int], high: list[int]
) -> None:
    found = neighbourhood(torch.tensor([[2, 3, 9]]), SIZES, rho)
    assert [found[0].tolist(), found[1].tolist()] == [[low], [high]]
    drawn = between(0, *found, torch.arange(5000))
    for f in range(3):
        assert uniform_enough(drawn[:, f], low[f], high[f])
