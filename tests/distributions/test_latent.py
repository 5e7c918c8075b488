"""What a metric may ask of a distribution: each kind gives it or says why it does not have it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vaebench.distributions.coupling import CouplingFlow, DecoupledPrior
from vaebench.distributions.errors import UnavailableError
from vaebench.distributions.gaussian import DiagonalGaussian, TopDownGaussian
from vaebench.distributions.latent import LatentDistribution
from vaebench.distributions.leapfrog import HamiltonianGaussian, PhaseSpace, TemperedLeapfrog
from vaebench.functional.divergence import kl_gaussian

B, L = 3, 4


class Turned:
    """A bijection that keeps volume."""

    def forward(self, z: Tensor) -> Tensor:
        return z.roll(1, -1)

    def inverse(self, z: Tensor) -> Tensor:
        return z.roll(-1, -1)


TURN = Turned()


def gaussian(seed: int = 0) -> DiagonalGaussian:
    generator = torch.Generator().manual_seed(seed)
    return DiagonalGaussian(torch.randn(B, L, generator=generator), torch.randn(B, L, generator=generator) - 1)


def chain(groups: int = 2, turned: bool = False, seed: int = 0) -> TopDownGaussian:
    base = gaussian(seed)

    def conditional(above: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        moved = base.mean + (0.5 * above[-1] if above else 0)
        shape = (*torch.broadcast_shapes((1, B, L), moved.shape)[:2], 2, 2)
        return moved.expand(*shape[:2], L).reshape(shape), base.log_variance.expand(*shape[:2], L).reshape(shape)

    def absorb(group: int, state: tuple[Tensor, ...], z: Tensor) -> tuple[Tensor, ...]:
        return (*state, z.flatten(2))

    return TopDownGaussian([conditional] * groups, (), absorb, (TURN,) * groups if turned else ())


def coupling() -> DecoupledPrior:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DecoupledPrior(CouplingFlow(L).requires_grad_(False), B, 0.8)


def leapfrog() -> HamiltonianGaussian:
    flow = TemperedLeapfrog(lambda z: 0.5 * z.square().sum(-1), torch.full((L,), 0.1), torch.zeros(2))
    return HamiltonianGaussian(gaussian(), flow)


class Other(LatentDistribution):
    """A kind from outside that can be drawn and scored, and no more."""

    def rsample(self, samples: int) -> tuple[Tensor, ...]:
        return gaussian().rsample(samples)

    def log_prob(self, latents: tuple[Tensor, ...]) -> Tensor:
        return gaussian().log_prob(latents)


KINDS: dict[str, Callable[[], LatentDistribution]] = {
    "gaussian": gaussian,
    "chain": chain,
    "one group": lambda: chain(1),
    "carried": lambda: chain(turned=True),
    "coupling": coupling,
    "leapfrog": leapfrog,
    "phase space": lambda: PhaseSpace(gaussian(), gaussian(1)),
    "other": Other,
}
CAN: dict[str, set[str]] = {
    "first": {"gaussian", "chain", "one group", "coupling", "phase space", "other"},
    "moments": {"gaussian"},
    "kl": {"gaussian", "chain", "one group", "carried"},
    "to_base": {"gaussian", "coupling", "phase space"},
    "from_base": {"gaussian", "one group", "coupling", "phase space"},
}
ASK: dict[str, Callable[[LatentDistribution], object]] = {
    "first": lambda d: d.first(),
    "moments": lambda d: d.moments(),
    "kl": lambda d: d.kl(d),
    "to_base": lambda d: d.to_base(torch.zeros(2, L)),
    "from_base": lambda d: d.from_base(torch.zeros(B, L)),
}


@pytest.mark.parametrize("what", ASK)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_gives_it_or_says_why_not(kind: str, what: str) -> None:
    if kind in CAN[what]:
        ASK[what](KINDS[kind]())
        return
    with pytest.raises(UnavailableError) as caught:
        ASK[what](KINDS[kind]())
    assert "this model" in str(caught.value) or "KL" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_flags_say_what_the_latents_are() -> None:
    assert {kind for kind, make in KINDS.items() if make().chained} == {"chain", "one group", "carried"}
    assert {kind for kind, make in KINDS.items() if make().decoupled} == {"coupling"}


@pytest.mark.parametrize("kind", sorted(CAN["first"]))
def test_the_first_group_has_the_law_of_its_draws(kind: str) -> None:
    whole = KINDS[kind]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        z = whole.rsample(40_000)[0].flatten(2)
        torch.manual_seed(1)
        other = whole.first().rsample(40_000)[0]
    for moment in (1, 2, 3):
        a, b = z.double().pow(moment), other.double().pow(moment)
        error = ((a.var(0) + b.var(0)) / len(a)).sqrt()
        assert float(((a.mean(0) - b.mean(0)) / error).abs().max()) < 5
    assert whole.first().log_prob((z[:2],)).shape == (2, B)


@pytest.mark.parametrize("kind", sorted(CAN["from_base"]))
def test_from_base_undoes_to_base(kind: str) -> None:
    whole, u = KINDS[kind](), gaussian(5).mean
    latents = whole.from_base(u)
    assert [group.shape for group in latents] == [group.shape for group in whole.rsample(1)]
    z = latents[0].flatten(2)[0]
    torch.testing.assert_close(whole.first().to_base(z), u, rtol=1e-4, atol=1e-4)
    assert torch.equal(z, u) == (not whole.decoupled)


def test_the_kl_of_vectors_is_exact_and_of_other_kinds_none() -> None:
    q, p = gaussian(0), gaussian(1)
    torch.testing.assert_close(q.kl(p), kl_gaussian(q.mean, q.log_variance, p.mean, p.log_variance))
    for other in (chain(), coupling(), leapfrog()):
        with pytest.raises(UnavailableError):
            q.kl(other)
    with pytest.raises(UnavailableError, match="no KL between"):
        chain().kl(q)
