"""A draw is scored by the noise that made it: whatever rounding does to it, -E[log q] is the entropy of q."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vaebench.distributions import noise
from vaebench.distributions.coupling import CouplingFlow, DecoupledPrior
from vaebench.distributions.gaussian import DiagonalGaussian, TopDownGaussian, walk
from vaebench.distributions.latent import LatentDistribution
from vaebench.distributions.leapfrog import HamiltonianGaussian, PhaseSpace, TemperedLeapfrog, quadratic_cooling
from vaebench.models.oracles import affine_flow

S, B, L = 4000, 3, 4
LOG_VARIANCES = (0.0, -20.0, -34.0, -80.0, -140.0, -200.0)
MEANS = (0.0, 1.0, 50.0)
PRECISIONS = (torch.float32, torch.float64)


class Turned:
    """A bijection that keeps volume."""

    def forward(self, z: Tensor) -> Tensor:
        return z.roll(1, -1)

    def inverse(self, z: Tensor) -> Tensor:
        return z.roll(-1, -1)


TURN = Turned()


def gaussian(mean: float, log_variance: float, dtype: torch.dtype) -> DiagonalGaussian:
    at = mean * torch.linspace(-1, 1, B * L, dtype=dtype).reshape(B, L)
    return DiagonalGaussian(at, torch.full_like(at, log_variance))


def chain(mean: float, log_variance: float, dtype: torch.dtype, turned: bool = False) -> TopDownGaussian:
    at = gaussian(mean, log_variance, dtype).mean[None]

    def second(above: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return at + 0.5 * above[0], torch.full_like(above[0], log_variance)

    conditionals = (lambda _: (at, torch.full_like(at, log_variance)), second)
    return TopDownGaussian(conditionals, bijections=(TURN, TURN) if turned else ())


def leapfrog(mean: float, log_variance: float, dtype: torch.dtype, *, hot: float = 1.0) -> HamiltonianGaussian:
    cooling = quadratic_cooling(torch.tensor(hot, dtype=dtype), 3)
    flow = TemperedLeapfrog(lambda z: 0.5 * z.square().sum(-1), torch.full((L,), 0.1, dtype=dtype), cooling)
    return HamiltonianGaussian(gaussian(mean, log_variance, dtype), flow)


def own(log_variance: float, groups: int = 1) -> float:
    """The entropy of `groups` vectors of L numbers of this log-variance."""
    return 0.5 * groups * L * (log_variance + 1 + math.log(2 * math.pi))


Make = Callable[[float, float, torch.dtype], LatentDistribution]
KINDS: dict[str, tuple[Make, Callable[[float], float]]] = {
    "gaussian": (gaussian, own),
    "chain": (chain, lambda v: own(v, 2)),
    "carried": (lambda m, v, t: chain(m, v, t, True), lambda v: own(v, 2)),
    "leapfrog": (leapfrog, lambda v: own(v) + own(0.0)),
    "tempered": (lambda m, v, t: leapfrog(m, v, t, hot=1.5), lambda v: own(v) + own(0.0)),
    "phase space": (lambda m, v, t: PhaseSpace(gaussian(m, v, t), gaussian(m, 0.0, t)), lambda v: own(v) + own(0.0)),
}


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("log_variance", LOG_VARIANCES)
@pytest.mark.parametrize("kind", KINDS)
def test_minus_the_mean_of_log_q_is_the_entropy(
    kind: str, log_variance: float, mean: float, dtype: torch.dtype
) -> None:
    make, entropy = KINDS[kind]
    with noise.keyed(0, torch.arange(B)):
        latents, log_q = make(mean, log_variance, dtype).rsample_with_log_prob(S)
    assert log_q.shape == (S, B)
    assert log_q.dtype == dtype
    assert all(torch.isfinite(group).all() for group in latents)
    error = float(log_q.double().std()) / (S * B) ** 0.5
    assert abs(float(-log_q.double().mean()) - entropy(log_variance)) < 4.5 * error + 1e-5 * abs(entropy(log_variance))


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.5, 1e-4])
def test_a_decoupled_prior_too(temperature: float, dtype: torch.dtype) -> None:
    """An affine flow moves the entropy by its log determinant."""
    flow = affine_flow(L, torch.Generator().manual_seed(0)).to(dtype).requires_grad_(False)
    zero = torch.zeros(L, dtype=dtype)
    spread = (flow.inverse(zero + 1) - flow.inverse(zero)).abs().log().sum()
    with noise.keyed(0, torch.arange(B)):
        _, log_p = DecoupledPrior(flow, B, temperature).rsample_with_log_prob(S)
    exact = own(2 * math.log(temperature)) + float(spread)
    assert abs(float(-log_p.double().mean()) - exact) < 4.5 * float(log_p.double().std()) / (S * B) ** 0.5 + 1e-4


def test_the_jacobian_of_a_draw_is_the_flows_there() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flow = CouplingFlow(L).double().requires_grad_(False)
    u = torch.randn(50, L, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z, log_det = flow.inverse_with_log_det(u)
    back, expected = flow(z)
    torch.testing.assert_close(back, u)
    torch.testing.assert_close(log_det, expected)
    with noise.keyed(0, torch.arange(B)):
        prior = DecoupledPrior(flow, B, 0.7)
        latents, log_p = prior.rsample_with_log_prob(20)
    torch.testing.assert_close(log_p, prior.log_prob(latents))


@pytest.mark.parametrize("kind", KINDS)
def test_an_ordinary_draw_has_the_density_of_where_it_is(kind: str) -> None:
    q = KINDS[kind][0](1.0, -2.0, torch.float64)
    with noise.keyed(0, torch.arange(B)):
        latents, log_q = q.rsample_with_log_prob(20)
    with noise.keyed(0, torch.arange(B)):
        again = q.rsample(20)
    assert all(torch.equal(a, b) for a, b in zip(latents, again, strict=True))
    torch.testing.assert_close(log_q, q.log_prob(latents))


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("log_variance", LOG_VARIANCES)
def test_a_walk_scores_by_its_noise_and_both_chains_alike(
    log_variance: float, turned: bool, dtype: torch.dtype
) -> None:
    """By a prior that is q itself, a draw is as likely as by q: rounding would swamp both."""
    q = chain(50.0, log_variance, dtype, turned)
    p = chain(50.0, log_variance, dtype)
    p.absorb = q.absorb
    eps = [torch.randn(S, B, L, generator=torch.Generator().manual_seed(g), dtype=dtype) for g in range(2)]
    found = walk(q, p, eps)
    for log_q in found.log_q:
        error = float(log_q.double().std()) / (S * B) ** 0.5
        assert abs(float(-log_q.double().mean()) - own(log_variance)) < 4.5 * error + 1e-5 * abs(own(log_variance))
    if not turned:  # what has been carried is a number like any other, and a prior scores it as such
        for log_q, log_p, rate in zip(found.log_q, found.log_p, found.rates, strict=True):
            torch.testing.assert_close(log_p, log_q)
            assert rate.abs().max() == 0
