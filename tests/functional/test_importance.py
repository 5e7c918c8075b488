"""Laws of the importance-weighted bounds, against direct sums in float64."""

import math

import pytest
import torch
from torch import Tensor

from vaebench.functional.importance import Bounds, ImportanceWeights
from vaebench.functional.statistics import mean_stderr

COUNTS = [1, 2, 7, 10, 100, 1003]


def bounds(log_weight: Tensor, chunk: int) -> Bounds:
    weights = ImportanceWeights(len(log_weight))
    for part in log_weight.split(chunk):
        weights.add(part)
    return weights.result()


def some(samples: int, scale: float = 3.0) -> Tensor:
    """Log weights (S, 5) around -1000 nats, where exp of a single one is 0."""
    noise = torch.randn(samples, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(samples))
    return scale * noise - 1000 * torch.arange(5)


def log_mean_exp(log_weight: Tensor) -> Tensor:
    top = log_weight.max(0).values
    return top + (log_weight - top).exp().mean(0).log()


@pytest.mark.parametrize("samples", COUNTS)
@pytest.mark.parametrize("chunk", [1, 3, 10**6])
def test_bounds_are_the_direct_sums_whatever_the_chunk(samples: int, chunk: int) -> None:
    log_weight = some(samples)
    found = bounds(log_weight, chunk)
    tenth = max(1, samples // 10)
    parts = [log_mean_exp(part) for part in log_weight.split(tenth) if len(part) == tenth]
    relative = (log_weight - log_weight.max(0).values).exp()
    expected = Bounds(
        elbo=log_weight.mean(0),
        log_marginal=log_mean_exp(log_weight),
        log_marginal_tenth=torch.stack(parts).mean(0),
        effective_samples=relative.sum(0) ** 2 / relative.square().sum(0),
    )
    for name, value in expected._asdict().items():
        torch.testing.assert_close(
            getattr(found, name), value, rtol=1e-11, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("samples", COUNTS)
def test_equal_weights_make_every_bound_equal_and_every_draw_effective(samples: int) -> None:
    found = bounds(torch.full((samples, 2), -123.25), 3)
    for bound in (found.elbo, found.log_marginal, found.log_marginal_tenth):
        torch.testing.assert_close(bound, torch.full((2,), -123.25, dtype=torch.float64))
    torch.testing.assert_close(found.effective_samples, torch.full((2,), float(samples), dtype=torch.float64))


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0)])
@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_weights_ten_thousand_nats_apart(order: tuple[int, ...], chunk: int) -> None:
    log_weight = torch.tensor([0.0, -1e4, -2e4, 5e3, 1e4], dtype=torch.float64)[list(order), None]
    found = bounds(log_weight, chunk)
    assert found.log_marginal.item() == pytest.approx(1e4 - math.log(5), rel=1e-14)
    assert found.effective_samples.item() == pytest.approx(1)


def test_float32_weights_are_summed_in_double() -> None:
    log_weight = some(1003).float()
    torch.testing.assert_close(bounds(log_weight, 7).elbo, log_weight.double().mean(0), rtol=1e-13, atol=0)


@pytest.mark.parametrize("samples", COUNTS)
@pytest.mark.parametrize("excess", [-1, 1])
def test_exactly_k_draws_are_counted(samples: int, excess: int) -> None:
    if samples + excess == 0:
        with pytest.raises(ValueError, match=r"^0 draws were added, 1 were asked for"):
            ImportanceWeights(1).result()
        return
    weights = ImportanceWeights(samples)

    def fill() -> None:
        weights.add(torch.zeros(samples + excess, 2))
        weights.result()

    with pytest.raises(ValueError, match=f"^{samples + excess} draws were added, {samples} were asked for"):
        fill()


@pytest.mark.parametrize("samples", [0, -3])
def test_no_draws_are_no_estimate(samples: int) -> None:
    with pytest.raises(ValueError, match=f"samples = {samples} should be at least 1"):
        ImportanceWeights(samples)


def test_the_bound_grows_with_k_towards_the_truth() -> None:
    """log w ~ N(-s^2/2, s^2), so that E w = 1 and log p = 0; L_1 = -s^2/2 exactly."""
    s, generator = 1.5, torch.Generator().manual_seed(0)
    log_weight = s * torch.randn(100, 20_000, generator=generator) - s * s / 2
    values = {k: bounds(log_weight[:k], k).log_marginal for k in (1, 2, 5, 20, 100)}
    mean, stderr = mean_stderr(values[1] + s * s / 2)
    assert stderr is not None
    assert abs(mean) < 4 * stderr
    for less, more in ((1, 2), (2, 5), (5, 20), (20, 100)):
        gain, stderr = mean_stderr(values[more] - values[less])
        assert stderr is not None
        assert gain > 4 * stderr
    for value in values.values():
        mean, stderr = mean_stderr(value.exp() - 1)  # unbiased for every K
        assert stderr is not None
        assert abs(mean) < 4 * stderr
