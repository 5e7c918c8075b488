"""The likelihood of averages and log-variances: that of the observations behind them, exactly sampled, refused else."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Normal

from vaebench.distributions.noise import keyed
from vaebench.distributions.summary import OBSERVATIONS, GaussianSummary, log_spread_bias


def likelihood(mean: Tensor, log_sigma: Tensor) -> GaussianSummary:
    """Of parameters (S, B, d)."""
    return GaussianSummary(torch.stack([mean, log_sigma], 2), (2, mean.shape[-1]), None)


def test_it_is_that_of_the_observations_but_for_a_constant() -> None:
    generator = torch.Generator().manual_seed(0)
    sigma = torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64)
    seen = 0.3 + sigma * torch.randn(OBSERVATIONS, 3, generator=generator, dtype=torch.float64)
    x = torch.stack([seen.mean(0), seen.var(0).log()])[None]
    mean = 0.3 + 0.01 * torch.randn(20, 1, 3, generator=generator, dtype=torch.float64)
    log_sigma = sigma.log() + 0.1 * torch.randn(20, 1, 3, generator=generator, dtype=torch.float64)
    found = likelihood(mean, log_sigma).log_prob(x)[:, 0]
    whole = Normal(mean, log_sigma.exp()).log_prob(seen).sum((1, 2))
    torch.testing.assert_close(found - found[0], whole - whole[0], rtol=1e-9, atol=1e-6)


def test_it_is_a_normal_average_and_a_chi_square() -> None:
    x = torch.tensor([[[0.2501], [-1.39]]], dtype=torch.float64)
    half = torch.tensor([[[0.5]]], dtype=torch.float64)
    found = likelihood(half / 2, half.log()).log_prob(x)
    df, spread = OBSERVATIONS - 1, math.exp(-1.39)
    average = stats.norm(0.25, 0.5 / math.sqrt(OBSERVATIONS)).logpdf(0.2501)
    variance = stats.chi2(df).logpdf(df * spread / 0.25) + math.log(df * spread / 0.25)  # of the logarithm
    assert float(found) == pytest.approx(average + variance, rel=1e-10)


@torch.no_grad()
def test_samples_have_its_law() -> None:
    mean, log_sigma = torch.tensor([[[1.0, -2.0]]]).double(), torch.tensor([[[0.5, -2.0]]]).double()
    with keyed(0, torch.arange(1)):
        drawn = likelihood(mean.expand(5000, 1, 2), log_sigma.expand(5000, 1, 2)).sample()[:, 0]
    sigma, df = log_sigma[0, 0].exp(), OBSERVATIONS - 1
    for i in range(2):
        average = (drawn[:, 0, i] - mean[0, 0, i]) / sigma[i] * math.sqrt(OBSERVATIONS)
        assert stats.kstest(average.numpy(), stats.norm.cdf).pvalue > 1e-3
        spread = df * drawn[:, 1, i].exp() / sigma[i] ** 2
        assert stats.kstest(spread.numpy(), stats.chi2(df).cdf).pvalue > 1e-3
    expected = likelihood(mean, log_sigma).mean[0, 0]
    error = (drawn.mean(0) - expected) / drawn.std(0) * math.sqrt(5000)
    assert float(error.abs().max()) < 4
    assert log_spread_bias() == pytest.approx(-1 / OBSERVATIONS, rel=1e-3)


def test_one_precision_is_near_the_other() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_sigma = torch.randn(1, 4, 50, generator=generator), -2 * torch.rand(1, 4, 50, generator=generator)
    with keyed(0, torch.arange(4)):
        x = likelihood(mean, log_sigma).sample()[0]
    found, exact = likelihood(mean, log_sigma).log_prob(x), likelihood(mean.double(), log_sigma.double()).log_prob(x)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=0.05)


@pytest.mark.parametrize(("shape", "levels"), [((3, 4), None), ((2,), None), ((2, 4, 4), None), ((2, 4), 256)])
def test_other_data_are_refused(shape: tuple[int, ...], levels: int | None) -> None:
    with pytest.raises(ValueError, match=r"is of averages and log-variances.*; use 'gaussian'"):
        GaussianSummary.channels(shape, levels)
