"""Gaussian latents against torch.distributions, and divergences against theirs."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from vaebench.distributions.gaussian import DiagonalGaussian, TopDownGaussian
from vaebench.functional.gaussian import kl_to_standard, log_density

N = 40_000


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_log_density_is_torchs(dims: int) -> None:
    z, mean, log_variance = draw(5, 2, 3, 4), draw(2, 3, 4), draw(1, 3, 4)
    expected = Independent(Normal(mean, (0.5 * log_variance).exp().expand_as(mean)), dims).log_prob(z)
    torch.testing.assert_close(log_density(z, mean, log_variance, dims), expected)


def test_kl_to_standard_is_torchs() -> None:
    mean, log_variance = draw(6, 4), draw(7, 4)[:6]
    q, p = Normal(mean, (0.5 * log_variance).exp()), Normal(torch.zeros_like(mean), torch.ones_like(mean))
    torch.testing.assert_close(kl_to_standard(mean, log_variance), kl_divergence(q, p).sum(-1))
    assert kl_to_standard(torch.zeros(2, 4), torch.zeros(2, 4)).tolist() == [0, 0]


def test_diagonal_log_prob_is_torchs() -> None:
    mean, log_variance, z = draw(3, 4), draw(4, 4)[:3], draw(5, 3, 4)
    expected = Independent(Normal(mean, (0.5 * log_variance).exp()), 1).log_prob(z)
    torch.testing.assert_close(DiagonalGaussian(mean, log_variance).log_prob((z,)), expected)


def chain(slope: float, noise: float) -> TopDownGaussian:
    """z1 ~ N(1, 4) in one dimension for 2 examples; z2|z1 ~ N(slope z1, noise) in shape (2, 1, 1)."""
    ones = torch.ones(1, 2, 1, dtype=torch.float64)
    return TopDownGaussian(
        (
            lambda _: (ones, (4 * ones).log()),
            lambda above: tuple(  # type: ignore[arg-type, return-value]
                v[..., None, None].expand(-1, -1, 2, 1, 1)
                for v in (slope * above[0], torch.full_like(above[0], noise).log())
            ),
        )
    )


def test_top_down_log_prob_is_the_joint_normal() -> None:
    slope, noise, z1, z2 = 0.7, 0.3, draw(5, 2, 1), draw(5, 2, 2, 1, 1)
    mix = torch.tensor([[1.0, 0, 0], [slope, 1, 0], [slope, 0, 1]], dtype=torch.float64)
    covariance = mix @ torch.diag(torch.tensor([4, noise, noise], dtype=torch.float64)) @ mix.T
    joint = MultivariateNormal(torch.tensor([1, slope, slope], dtype=torch.float64), covariance)
    flat = torch.cat([z1, z2.flatten(2)], dim=-1)
    torch.testing.assert_close(chain(slope, noise).log_prob((z1, z2)), joint.log_prob(flat))


def test_top_down_draws_have_the_joint_moments() -> None:
    torch.manual_seed(0)
    z1, z2 = chain(0.7, 0.3).rsample(N)
    assert z1.shape == (N, 2, 1)
    assert z2.shape == (N, 2, 2, 1, 1)
    flat = torch.cat([z1, z2.flatten(2)], dim=-1)[:, 1]
    expected = torch.tensor([[4, 2.8, 2.8], [2.8, 2.26, 1.96], [2.8, 1.96, 2.26]], dtype=torch.float64)
    assert float((flat.mean(0) - torch.tensor([1, 0.7, 0.7])).abs().max()) < 5 * 2 / N**0.5
    assert float((flat.T.cov() - expected).abs().max()) < 5 * 4 * (2 / N) ** 0.5


def test_diagonal_draws_have_the_moments_and_carry_gradients() -> None:
    torch.manual_seed(0)
    mean = torch.tensor([[1.0, -2.0]], requires_grad=True)
    log_variance = torch.tensor([[0.0, -3.0]], requires_grad=True)
    (z,) = DiagonalGaussian(mean, log_variance).rsample(N)
    assert z.shape == (N, 1, 2)
    sigma = (0.5 * log_variance).exp()
    unit = ((z - mean) / sigma).detach()
    assert float(unit.mean(0).abs().max()) < 4.5 / N**0.5
    assert float((unit.square().mean(0) - 1).abs().max()) < 4.5 * (2 / N) ** 0.5
    slopes = torch.autograd.grad(z.sum(), (mean, log_variance))
    torch.testing.assert_close(slopes[0], torch.full_like(mean, N))
    torch.testing.assert_close(slopes[1], (0.5 * sigma * unit.sum(0)).detach(), rtol=1e-3, atol=1e-2)
