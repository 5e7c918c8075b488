"""Laws of where noise comes from: inside `keyed`, a function of (seed, example, draw, call) alone."""

import threading
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor

from vaebench.distributions import noise
from vaebench.distributions.noise import keyed

LIKE = torch.empty(())
EXAMPLES = torch.tensor([5, 2, 9, 1000])
Sampler = Callable[[tuple[int, ...], Tensor], Tensor]
pytestmark = pytest.mark.parametrize("sampler", [noise.standard_normal, noise.uniform], ids=["normal", "uniform"])


def calls(sampler: Sampler, seed: int, examples: Tensor, samples: int, first: int = 0) -> Tensor:
    """Two calls inside one block: (2, S, B, 3)."""
    with keyed(seed, examples, first):
        return torch.stack([sampler((samples, len(examples), 3), LIKE) for _ in range(2)])


def test_companions_change_nothing(sampler: Sampler) -> None:
    together = calls(sampler, 0, EXAMPLES, 6)
    for i in range(len(EXAMPLES)):
        assert calls(sampler, 0, EXAMPLES[i : i + 1], 6).equal(together[:, :, i : i + 1])


def test_order_of_examples_changes_nothing(sampler: Sampler) -> None:
    order = torch.tensor([2, 0, 3, 1])
    assert calls(sampler, 0, EXAMPLES[order], 6).equal(calls(sampler, 0, EXAMPLES, 6)[:, :, order])


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_chunks_of_draws_change_nothing(sampler: Sampler, chunk: int) -> None:
    parts = [calls(sampler, 0, EXAMPLES, min(chunk, 6 - first), first) for first in range(0, 6, chunk)]
    assert torch.cat(parts, 1).equal(calls(sampler, 0, EXAMPLES, 6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_shape_are_as_asked(sampler: Sampler, dtype: torch.dtype) -> None:
    with keyed(0, EXAMPLES):
        value = sampler((2, 4, 3), LIKE.to(dtype))
    assert value.shape == (2, 4, 3)
    assert value.dtype == dtype
    assert value.float().equal(calls(sampler, 0, EXAMPLES, 2)[0])


def test_seeds_examples_draws_and_calls_are_independent(sampler: Sampler) -> None:
    base = calls(sampler, 0, torch.arange(300), 20).double()
    others = {
        "call": (base[0], base[1]),
        "draw": (base[0, 1:], base[0, :-1]),
        "example": (base[0, :, 1:], base[0, :, :-1]),
        "seed": (base[0], calls(sampler, 1, torch.arange(300), 20)[0].double()),
    }
    for name, (a, b) in others.items():
        found = stats.pearsonr(a.flatten().numpy(), b.flatten().numpy()).statistic
        assert abs(found) < 4.5 * a.numel() ** -0.5, name


def test_the_global_generator_is_neither_read_nor_moved(sampler: Sampler) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = calls(sampler, 0, EXAMPLES, 3)
    assert torch.get_rng_state().equal(before)
    torch.manual_seed(1)
    assert calls(sampler, 0, EXAMPLES, 3).equal(first)


def test_outside_noise_is_torchs_own(sampler: Sampler) -> None:
    torch.manual_seed(3)
    found = sampler((2, 4, 3), LIKE)
    torch.manual_seed(3)
    assert found.equal((torch.randn if sampler is noise.standard_normal else torch.rand)(2, 4, 3))


def test_nested_blocks_restore_the_outer_one(sampler: Sampler) -> None:
    plain = calls(sampler, 0, EXAMPLES, 2)
    with keyed(0, EXAMPLES):
        first = sampler((2, 4, 3), LIKE)
        with keyed(1, EXAMPLES[:1]):
            inner = sampler((2, 1, 3), LIKE)
        second = sampler((2, 4, 3), LIKE)
    assert torch.stack([first, second]).equal(plain)
    assert inner.equal(calls(sampler, 1, EXAMPLES[:1], 2)[0])


def test_an_exception_closes_the_block(sampler: Sampler) -> None:
    def fail() -> None:
        with keyed(0, EXAMPLES):
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert sampler((1, 2), LIKE).shape == (1, 2)  # 2 examples: a block of 4 would refuse them


def test_a_batch_that_is_not_open_is_refused(sampler: Sampler) -> None:
    with keyed(0, EXAMPLES), pytest.raises(ValueError, match="a batch of 3 was asked for while 4 examples are open"):
        sampler((1, 3), LIKE)


def test_threads_do_not_share_a_block(sampler: Sampler) -> None:
    expected = [calls(sampler, seed, EXAMPLES, 2) for seed in range(4)]
    found: dict[int, Tensor] = {}
    barrier = threading.Barrier(4)

    def work(seed: int) -> None:
        with keyed(seed, EXAMPLES):
            values = []
            for _ in range(2):
                barrier.wait(10)
                values.append(sampler((2, 4, 3), LIKE))
        found[seed] = torch.stack(values)

    with keyed(99, EXAMPLES[:1]):  # would refuse a batch of 4 if a thread saw it
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(found[seed].equal(expected[seed]) for seed in range(4))
