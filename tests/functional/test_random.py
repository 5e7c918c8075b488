"""Laws of the keyed random numbers: the reference generator's values, uniformity, independence."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from vaebench.functional import random
from vaebench.functional.random import GAMMA, derive, keys, mix, normal, uniform

# the first outputs of the reference SplitMix64 (Vigna's splitmix64.c) with state 1234567
STREAM = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
KEY = torch.tensor(1234567)
N = 20_000


def signed(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


def unmix(y: int) -> int:
    """The inverse of SplitMix64's finaliser, in Python's integers."""

    def unshift(x: int, bits: int) -> int:
        found = x
        for _ in range(64 // bits):
            found = x ^ (found >> bits)
        return found

    y = unshift(y, 31) * pow(0x94D049BB133111EB, -1, 2**64) % 2**64
    y = unshift(y, 27) * pow(0xBF58476D1CE4E5B9, -1, 2**64) % 2**64
    return unshift(y, 30)


def key_of(word: int) -> Tensor:
    """The key whose stream begins with `word`."""
    return torch.tensor(signed(unmix(word) - GAMMA))


def test_mix_of_a_counter_is_the_reference_generator() -> None:
    words = mix(KEY + torch.arange(1, 6) * GAMMA)
    assert [word % 2**64 for word in words.tolist()] == STREAM


def test_mix_is_a_bijection() -> None:
    words = torch.randint(-(2**63), 2**63 - 1, (100,), generator=torch.Generator().manual_seed(0))
    assert mix(torch.tensor([signed(unmix(word % 2**64)) for word in words.tolist()])).equal(words)


def test_every_input_bit_moves_half_of_the_output_bits() -> None:
    x = torch.arange(500)
    for bit in range(64):
        flipped = mix(x) ^ mix(x ^ signed(1 << bit))
        share = torch.stack([(flipped >> k) & 1 for k in range(64)]).double().mean(1)  # of each output bit
        assert float((share - 0.5).abs().max()) < 5 * 0.5 / 500**0.5


def test_uniform_reads_the_top_bits_of_the_stream() -> None:
    assert uniform(KEY, (5,)).tolist() == [((word >> 41) + 0.5) / 2**23 for word in STREAM]


def test_normal_is_box_muller_of_the_stream() -> None:
    radius = [math.sqrt(-2 * math.log(((word >> 32) + 0.5) / 2**32)) for word in STREAM]
    angle = [2 * math.pi * (word % 2**32) / 2**32 for word in STREAM]
    expected = [r * f(a) for f in (math.cos, math.sin) for r, a in zip(radius, angle, strict=True)]
    torch.testing.assert_close(normal(KEY, (10,)), torch.tensor(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("word", "value"), [(0, 2.0**-24), (2**64 - 1, 1 - 2.0**-24)])
def test_the_extreme_words_give_neither_zero_nor_one_nor_infinity(word: int, value: float) -> None:
    assert uniform(key_of(word), (1,)).tolist() == [value]
    assert normal(key_of(word), (2,)).isfinite().all()


@pytest.mark.parametrize("event", [(), (1,), (3,), (2, 5)])
def test_shapes_are_those_of_keys_and_event(event: tuple[int, ...]) -> None:
    for draw in (uniform, normal):
        value = draw(torch.arange(6).view(2, 3), event)
        assert value.shape == (2, 3, *event)
        assert value.dtype == torch.float32


@pytest.mark.parametrize("draw", [uniform, normal])
def test_a_key_fixes_its_draws_whatever_its_neighbours(draw: object) -> None:
    some = torch.tensor([7, 3, 11])
    assert draw(some, (4,))[1].equal(draw(torch.tensor([3]), (4,))[0])  # type: ignore[operator]


def test_derive_golden() -> None:
    assert derive(0, "likelihood", "test", 1) == 6082950776522104871
    assert derive() == 1665333220245342802


def test_derive_tells_parts_apart() -> None:
    parts = [(1,), ("1",), (1, 2), (12,), ("1", "2"), ((1, 2),), (1.0,), (None,), (2, 1), (-1,)]
    seeds = {derive(*part) for part in parts}
    assert len(seeds) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)


def streams(axis: str) -> Tensor:
    """N keys that differ along one axis of what keys a draw: seed, example, draw or call."""
    line, zero = torch.arange(N), torch.zeros(1, dtype=torch.int64)
    if axis == "seed":
        return torch.stack([keys(seed, zero, zero, zero + 1)[0] for seed in range(2000)])
    return keys(0, *(line if axis == name else zero for name in ("example", "draw", "call")))


AXES = ["seed", "example", "draw", "call"]


@pytest.mark.parametrize("axis", AXES)
def test_draws_of_neighbouring_keys_have_the_law_asked_for(axis: str) -> None:
    u = uniform(streams(axis), (2,)).double()
    z = normal(streams(axis), (2,)).double()
    for i in (0, 1):
        assert stats.kstest(u[:, i].numpy(), "uniform").pvalue > 1e-4
        assert stats.kstest(z[:, i].numpy(), "norm").pvalue > 1e-4
        assert stats.chisquare(torch.histc(u[:, i], 64, 0, 1).numpy()).pvalue > 1e-4


@pytest.mark.parametrize("axis", AXES)
def test_neighbouring_keys_are_uncorrelated(axis: str) -> None:
    z = normal(streams(axis), (4,)).double()
    for power in (1, 2):
        v = z**power
        v = (v - v.mean(0)) / v.std(0)
        for lag in (1, 2, 64):
            products = v[lag:] * v[:-lag]
            error = products.mean(0) / products.std(0) * len(products) ** 0.5
            assert float(error.abs().max()) < 4.5


def test_numbers_of_one_stream_have_the_law_asked_for_and_are_uncorrelated() -> None:
    u, z = uniform(KEY, (N,)).double(), normal(KEY, (N,)).double()
    assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-4
    assert stats.kstest(z.numpy(), "norm").pvalue > 1e-4
    cosine, sine = z.chunk(2)
    for a, b in ((u[1:], u[:-1]), (z[1:], z[:-1]), (cosine, sine), (cosine.square(), sine.square())):
        assert abs(stats.pearsonr(a.numpy(), b.numpy()).statistic) < 4.5 * len(a) ** -0.5


def test_normal_moments() -> None:
    z = normal(keys(1, torch.arange(4 * N)), (4,)).double().flatten()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((z**power).mean()) - moment) < 4.5 * (variance / len(z)) ** 0.5


def test_coordinates_do_not_commute() -> None:
    grid = torch.arange(100)
    table = keys(0, grid[:, None], grid[None])
    assert table.unique().numel() == 10_000
    assert random.keys(1, grid[:, None], grid[None]).eq(table).sum() == 0
