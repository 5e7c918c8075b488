"""Coding: a pop undoes a push, lengths are those of information theory, bins are of equal mass."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from vaebench.functional import codes
from vaebench.functional.codes import Stack


def stack(bits: int = 10_000, seed: int = 0) -> Stack:
    return Stack(codes.start(seed, bits))


def masses(rows: int, levels: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(rows, levels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** 4


def test_a_pop_undoes_a_push_and_a_push_a_pop() -> None:
    one, table = stack(), masses(50, 300)
    before = one.words
    symbols = torch.arange(50)
    one.push(symbols, table)
    one.push_uniform(symbols, 4096)
    assert torch.equal(one.pop_uniform(50, 4096), symbols)
    assert torch.equal(one.pop(table), symbols)
    assert np.array_equal(one.words, before)
    found = one.pop(table)
    assert not np.array_equal(one.words, before)
    one.push(found, table)
    assert np.array_equal(one.words, before)


def test_a_symbol_costs_its_information() -> None:
    one, table = stack(), masses(500, 30)
    symbols = torch.multinomial(table, 1, generator=torch.Generator().manual_seed(1))[:, 0]
    before = one.bits
    one.push(symbols, table)
    wanted = -(table[torch.arange(500), symbols] / table.sum(1)).log2().sum()
    assert one.bits - before == pytest.approx(float(wanted), rel=1e-4, abs=2)
    before = one.bits
    one.push_uniform(torch.zeros(100), 4096)
    assert one.bits - before == pytest.approx(1200, abs=2)


def test_popping_from_random_bits_samples_the_masses() -> None:
    table = torch.tensor([[0.5, 0.25, 0.125, 0.125]], dtype=torch.float64).expand(4000, -1)
    seen = torch.bincount(stack(20_000).pop(table), minlength=4)
    assert stats.chisquare(seen.numpy(), 4000 * table[0].numpy()).pvalue > 1e-4


def test_every_symbol_can_be_coded_whatever_its_mass() -> None:
    one = stack()
    table = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    one.push(torch.tensor([0]), table)
    assert one.pop(table).tolist() == [0]


def test_an_empty_stack_is_an_error_and_no_symbols() -> None:
    one = stack(100)
    with pytest.raises(EOFError, match="run out of bits"):
        one.pop_uniform(100, 4096)


def test_words_that_were_never_reached_can_be_left_away() -> None:
    begin, table = codes.start(0, 50_000), masses(40, 4096)
    one = Stack(begin.copy())
    symbols = one.pop(table)
    spared = codes.untouched(one)
    assert len(begin) - spared < 60
    short = Stack(begin[spared:].copy())
    assert torch.equal(short.pop(table), symbols)
    assert np.array_equal(short.words, one.words[spared:])


def test_random_words_end_in_one_that_is_not_zero() -> None:
    assert all(codes.start(seed, 10)[-1] >= 1 << 31 for seed in range(20))
    assert np.array_equal(codes.start(3, 100), codes.start(3, 100))
    assert not np.array_equal(codes.start(3, 100), codes.start(4, 100))
    assert 32 * len(codes.start(0, 10_000)) >= 10_000


@pytest.mark.parametrize("bins", [1, 4, 12])
def test_bins_have_equal_mass_under_the_prior(bins: int) -> None:
    zero, one = torch.zeros(1), torch.ones(1)
    torch.testing.assert_close(
        codes.normal_masses(zero, one, bins), torch.full((1, 2**bins), 2.0**-bins, dtype=torch.float64)
    )
    middle = codes.centres(bins).numpy()
    np.testing.assert_allclose(stats.norm.cdf(middle), (np.arange(2**bins) + 0.5) / 2**bins)


def test_masses_are_those_of_the_normal_between_the_edges() -> None:
    mean, scale = torch.tensor([0.3, -2.0]), torch.tensor([0.05, 0.7])
    edges = stats.norm.ppf(np.arange(257) / 256)
    found = codes.normal_masses(mean, scale, 8)
    for i in range(2):
        wanted = np.diff(stats.norm.cdf(edges, float(mean[i]), float(scale[i])))
        np.testing.assert_allclose(found[i].numpy(), wanted, atol=1e-12)
    torch.testing.assert_close(found.sum(1), torch.ones(2, dtype=torch.float64))


def test_a_posterior_between_the_bins_is_told_with_the_bins_that_it_needs() -> None:
    mean, scale = torch.tensor([0.0, 0.01, 4.5]), torch.tensor([1.0, 1e-4, 0.1])
    assert codes.coarse(mean, scale, 4).tolist() == [False, True, True]
    needed = codes.enough(mean[:2], scale[:2])
    assert needed is not None
    assert not bool(codes.coarse(mean[:2], scale[:2], needed).any())
    assert bool(codes.coarse(mean[:2], scale[:2], needed - 1).any())
    assert codes.enough(torch.tensor([9.0]), torch.tensor([0.1])) is None
    assert math.isclose(float(codes.centres(4)[8]), stats.norm.ppf(8.5 / 16))
