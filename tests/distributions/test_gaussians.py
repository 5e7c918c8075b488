"""Gaussian latents against torch.distributions, and divergences against theirs."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from vaebench.distributions import noise
from vaebench.distributions.errors import UnavailableError
from vaebench.distributions.gaussian import DiagonalGaussian, TopDownGaussian, walk
from vaebench.functional.gaussian import log_density

N = 40_000


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_log_density_is_torchs(dims: int) -> None:
    z, mean, log_variance = draw(5, 2, 3, 4), draw(2, 3, 4), draw(1, 3, 4)
    expected = Independent(Normal(mean, (0.5 * log_variance).exp().expand_as(mean)), dims).log_prob(z)
    torch.testing.assert_close(log_density(z, mean, log_variance, dims), expected)


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


# a chain that carries a running state, and whose groups go through bijections


class Twist:
    """(a, b) to (a, b + a^2), of unit Jacobian."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.stack([z[..., 0], z[..., 1] + z[..., 0] ** 2], -1)

    def inverse(self, z: Tensor) -> Tensor:
        return torch.stack([z[..., 0], z[..., 1] - z[..., 0] ** 2], -1)


TWISTS = (Twist(), Twist())


def carried(shift: float, width: float, twisted: bool = False) -> TopDownGaussian:
    """z_1 ~ N(shift, width I) and z_2|z_1 ~ N(s, width I), both of two numbers, where the state s is the sum of z_1."""

    def conditional(state: Tensor) -> tuple[Tensor, Tensor]:
        mean = state + shift
        return mean, torch.full_like(mean, width).log()

    def absorb(group: int, state: Tensor, z: Tensor) -> Tensor:
        return z.sum(-1, keepdim=True).expand(-1, -1, 2)

    start = torch.zeros(1, 3, 2, dtype=torch.float64)
    return TopDownGaussian([conditional, conditional], start, absorb, TWISTS if twisted else ())


@pytest.mark.parametrize("twisted", [False, True])
def test_a_carried_chain_has_the_density_of_its_draws(twisted: bool) -> None:
    torch.manual_seed(0)
    q = carried(0.3, 0.5, twisted)
    z = q.rsample(N)
    one, two = (TWISTS[0].inverse(group) if twisted else group for group in z)
    expected = Normal(0.3, 0.5**0.5).log_prob(one).sum(-1)
    expected += Normal(z[0].sum(-1, keepdim=True) + 0.3, 0.5**0.5).log_prob(two).sum(-1)
    torch.testing.assert_close(q.log_prob(z), expected)
    inner = torch.cat([one, two - z[0].sum(-1, keepdim=True)], -1) - 0.3
    torch.testing.assert_close(inner.mean(0), torch.zeros(3, 4, dtype=torch.float64), rtol=0, atol=0.02)
    torch.testing.assert_close(inner.var(0), torch.full((3, 4), 0.5, dtype=torch.float64), rtol=0.05, atol=0)


def test_means_are_the_path_without_noise() -> None:
    one, two = carried(0.3, 0.5, True).means()
    torch.testing.assert_close(one, torch.tensor([0.3, 0.39], dtype=torch.float64).expand(1, 3, 2))
    base = 0.3 + 0.69
    torch.testing.assert_close(two, torch.tensor([base, base + base**2], dtype=torch.float64).expand(1, 3, 2))


def test_a_walk_is_a_draw_scored_by_both_chains() -> None:
    q, p = carried(0.3, 0.5), carried(-0.2, 1.5)
    p.absorb = q.absorb
    eps = [draw(6, 3, 2), draw(7, 3, 2)[:6]]
    found = walk(q, p, eps)
    torch.testing.assert_close(found.latents[0], 0.3 + 0.5**0.5 * eps[0])
    torch.testing.assert_close(sum(found.log_q), q.log_prob(found.latents))
    torch.testing.assert_close(sum(found.log_p), p.log_prob(found.latents))
    kl = kl_divergence(Normal(torch.tensor(0.3), 0.5**0.5), Normal(torch.tensor(-0.2), 1.5**0.5))
    for rate in found.rates:  # the state cancels
        torch.testing.assert_close(rate, (2 * kl).double().expand(6, 3), check_dtype=False)
    torch.testing.assert_close(found.state, found.latents[1].sum(-1, keepdim=True).expand(6, 3, 2))
    torch.testing.assert_close(q.kl(p), (2 * 2 * kl).double().expand(3), check_dtype=False)


def test_a_bijection_of_both_leaves_the_kl() -> None:
    q, p = carried(0.3, 0.5, True), carried(-0.2, 1.5, True)
    torch.testing.assert_close(q.kl(p), carried(0.3, 0.5).kl(carried(-0.2, 1.5)))
    with pytest.raises(UnavailableError, match="no KL between a Gaussian carried by a flow and another chain of"):
        q.kl(carried(0.3, 0.5))


def test_draws_and_kl_take_their_noise_from_the_key() -> None:
    def found() -> tuple[Tensor, Tensor]:
        with noise.keyed(0, torch.arange(3)):
            return carried(0.3, 0.5).rsample(2)[1], chain_kl()

    def chain_kl() -> Tensor:
        return carried(0.3, 0.5).kl(carried(-0.2, 1.5))

    assert all(a.equal(b) for a, b in zip(found(), found(), strict=True))
