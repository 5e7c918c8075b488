"""Gaussian latents: one vector, or a chain of groups in which each depends on those above it."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Protocol, final

import torch
from torch import Tensor

from vaebench.distributions import noise
from vaebench.distributions.errors import UnavailableError
from vaebench.distributions.latent import LatentDistribution, Latents, Moments
from vaebench.functional.divergence import kl_gaussian
from vaebench.functional.gaussian import log_density, log_density_of_noise, standardised


@final
class DiagonalGaussian(LatentDistribution):
    """N(mean, diag(exp(log_variance))) for B examples: `mean`, `log_variance` (B, L)."""

    def __init__(self, mean: Tensor, log_variance: Tensor) -> None:
        self.mean, self.log_variance = mean, log_variance

    def rsample(self, samples: int) -> tuple[Tensor, ...]:
        """One group of reparameterised draws: ((S, B, L),)."""
        return self.rsample_with_log_prob(samples)[0]

    def rsample_with_log_prob(self, samples: int) -> tuple[Latents, Tensor]:
        return self.made(noise.standard_normal((samples, *self.mean.shape), self.mean))

    def log_prob(self, latents: tuple[Tensor, ...]) -> Tensor:
        """log N(z; mean, variance) summed over L: (S, B) nats."""
        return log_density(latents[0], self.mean, self.log_variance)

    def moments(self) -> Moments:
        return Moments(self.mean, self.log_variance)

    def kl(self, other: LatentDistribution) -> Tensor:
        return kl_gaussian(*self.moments(), *other.moments())

    def to_base(self, z: Tensor) -> Tensor:
        return z

    def from_base(self, u: Tensor) -> Latents:
        return (u[None],)

    @property
    def size(self) -> int:
        """L, as many numbers of noise as make a draw."""
        return self.mean.shape[-1]

    def made(self, noise: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The draws that `noise` (S, B, L) makes, and their log density (S, B), from the noise itself."""
        z = self.mean + (0.5 * self.log_variance).exp() * noise
        return (z,), log_density_of_noise(noise, self.log_variance)

    def noise_of(self, latents: tuple[Tensor, ...]) -> Tensor:
        """The noise that makes the first group of `latents`."""
        return standardised(latents[0] - self.mean, self.log_variance)

    def chain(self) -> "TopDownGaussian":
        return TopDownGaussian([lambda _: (self.mean[None], self.log_variance[None])])


State = Any
"""What a group's conditional reads: by default the tuple of the groups above it, each (S, B, ...)."""
Conditional = Callable[[State], tuple[Tensor, Tensor]]
"""From the state to a group's mean and log-variance, each (S or 1, B, *event). The first group's ignores the state."""
Absorb = Callable[[int, State, Tensor], State]
"""From a group's number, its state and its latents to the state of the next group."""


class Bijection(Protocol):
    """A map of latents (S, B, *event) that keeps volume."""

    def forward(self, z: Tensor) -> Tensor:
        """From what is Gaussian to the latents."""
        ...

    def inverse(self, z: Tensor) -> Tensor:
        """Back again."""
        ...


def collect(group: int, state: State, z: Tensor) -> State:
    """The groups above the next one."""
    return (*state, z)


@final
class TopDownGaussian(LatentDistribution):
    """prod_g N(z_g; mean_g(z_<g), diag variance_g(z_<g)) for B examples.

    `conditionals[g]` gives group g's mean and log-variance from its state, which begins as `start` and which `absorb`
    carries past each group: work on the groups above is then done once. With `bijections`, what is Gaussian is
    f_g^-1(z_g), one f_g of unit Jacobian for each group.
    """

    chained: ClassVar[bool] = True

    def __init__(
        self,
        conditionals: Sequence[Conditional],
        start: State = (),
        absorb: Absorb = collect,
        bijections: Sequence[Bijection] = (),
    ) -> None:
        self.conditionals, self.start, self.absorb, self.bijections = tuple(conditionals), start, absorb, bijections

    @property
    def kind(self) -> str:
        return "Gaussian carried by a flow" if self.bijections else "chain of Gaussians"

    def first(self) -> DiagonalGaussian:
        if self.bijections:
            raise UnavailableError(f"needs a diagonal Gaussian q(z|x); this model's is a {self.kind}")
        mean, log_variance = self.conditionals[0](self.start)
        return DiagonalGaussian(mean[0].flatten(1), log_variance[0].flatten(1))

    def chain(self) -> "TopDownGaussian":
        return super().chain() if self.bijections else self  # the first says why not

    def from_base(self, u: Tensor) -> Latents:
        if len(self.conditionals) > 1:
            raise UnavailableError(f"needs one vector of latents; this model has {len(self.conditionals)} groups")
        (group,) = self.means()
        return (self.first().from_base(u)[0].reshape(1, len(u), *group.shape[2:]),)

    def carried(self, group: int, z: Tensor) -> Tensor:
        """The latents of what is Gaussian."""
        return self.bijections[group].forward(z) if self.bijections else z

    def _descend(self, noise_of: Callable[[Tensor], Tensor]) -> tuple[Latents, Tensor]:
        """The latents that the noise makes, and their log density by that noise."""
        latents, terms, state = list[Tensor](), list[Tensor](), self.start
        for g, conditional in enumerate(self.conditionals):
            mean, log_variance = conditional(state)
            eps = noise_of(mean)
            latents.append(self.carried(g, mean + (0.5 * log_variance).exp() * eps))
            terms.append(log_density_of_noise(eps, log_variance, dims=eps.ndim - 2))
            if g + 1 < len(self.conditionals):
                state = self.absorb(g, state, latents[g])
        return tuple(latents), sum(terms[1:], start=terms[0])

    def rsample(self, samples: int) -> tuple[Tensor, ...]:
        """Every group, top-down: (S, B, *event) each."""
        return self.rsample_with_log_prob(samples)[0]

    def rsample_with_log_prob(self, samples: int) -> tuple[Latents, Tensor]:
        return self._descend(lambda mean: noise.standard_normal((samples, *mean.shape[1:]), mean))

    def means(self) -> tuple[Tensor, ...]:
        """Every group's mean given the means above it, carried through its bijection: (1, B, *event) each."""
        return self._descend(torch.zeros_like)[0]

    def log_prob(self, latents: tuple[Tensor, ...]) -> Tensor:
        """The sum of the groups' conditional log densities: (S, B) nats."""
        terms: list[Tensor] = []
        state = self.start
        for g, (conditional, z) in enumerate(zip(self.conditionals, latents, strict=True)):
            inner = self.bijections[g].inverse(z) if self.bijections else z
            terms.append(log_density(inner, *conditional(state), dims=z.ndim - 2))
            if g + 1 < len(latents):
                state = self.absorb(g, state, z)
        return sum(terms[1:], start=terms[0])

    @cached_property
    def _events(self) -> list[torch.Size]:
        """The shape of each group's latents of one example."""
        return [mean.shape[2:] for mean in self.means()]

    @property
    def size(self) -> int:
        """How many numbers of noise make a draw of all groups."""
        return sum(event.numel() for event in self._events)

    def groups(self, noise: Tensor) -> list[Tensor]:
        """`noise` (S, B, E) as each group's part of it, top-down: (S, B, *event)."""
        parts = noise.split([event.numel() for event in self._events], -1)
        return [part.unflatten(-1, tuple(event)) for part, event in zip(parts, self._events, strict=True)]

    def made(self, noise: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The draws that `noise` (S, B, E) makes, and their log density (S, B), from the noise itself."""
        parts = iter(self.groups(noise))
        return self._descend(lambda mean: next(parts))

    def noise_of(self, latents: tuple[Tensor, ...]) -> Tensor:
        """The noise (S, B, E) that makes `latents`."""
        parts, state = list[Tensor](), self.start
        for g, (conditional, z) in enumerate(zip(self.conditionals, latents, strict=True)):
            mean, log_variance = conditional(state)
            inner = self.bijections[g].inverse(z) if self.bijections else z
            parts.append(standardised(inner - mean, log_variance).flatten(2))
            if g + 1 < len(latents):
                state = self.absorb(g, state, z)
        return torch.cat(parts, -1)

    def kl(self, other: LatentDistribution) -> Tensor:
        """KL(self || other), (B,) nats: the groups' exact KLs, conditioned on one draw of self, the same for both.

        Bijections leave each group's KL as it is. Raises UnavailableError unless both are chains of the same ones.
        """
        if not isinstance(other, TopDownGaussian) or list(self.bijections) != list(other.bijections):
            raise UnavailableError(f"no KL between a {self.kind} and another {other.kind} has a closed form")
        terms: list[Tensor] = []
        shared, state, theirs = self.absorb == other.absorb, self.start, other.start
        for g, (conditional, peer) in enumerate(zip(self.conditionals, other.conditionals, strict=True)):
            mean, log_variance = conditional(state)
            terms.append(kl_gaussian(mean, log_variance, *peer(theirs), dims=mean.ndim - 2)[0])
            eps = noise.standard_normal((1, *mean.shape[1:]), mean)
            z = self.carried(g, mean + (0.5 * log_variance).exp() * eps)
            if g + 1 < len(self.conditionals):
                state = self.absorb(g, state, z)
                theirs = state if shared else other.absorb(g, theirs, z)
        return sum(terms[1:], start=terms[0])


class Walk(NamedTuple):
    """Draws of q from one pass down two chains, scored: each list has one (S, B) for each group, nats."""

    latents: tuple[Tensor, ...]
    log_q: list[Tensor]
    log_p: list[Tensor]
    rates: list[Tensor]
    """KL(q_g || p_g) given the draws above, exact; where q has bijections, log q - log p of the draw"""
    state: State
    """After the last group"""


def walk(q: TopDownGaussian, p: TopDownGaussian, eps: Sequence[Tensor]) -> Walk:
    """The draws that standard normal `eps`, (S, B, *event) for each group, make of q, scored by q and p from `eps`.

    q and p have one `start` and one `absorb`, which is called once for each group; p has no bijections.
    """
    assert q.absorb == p.absorb
    assert not p.bijections
    done, state = Walk((), [], [], [], None), q.start
    for g, (ours, prior) in enumerate(zip(q.conditionals, p.conditionals, strict=True)):
        mean, log_variance = ours(state)
        other = prior(state)
        z, dims = q.carried(g, mean + (0.5 * log_variance).exp() * eps[g]), eps[g].ndim - 2
        done.log_q.append(log_density_of_noise(eps[g], log_variance, dims))
        if q.bijections:
            done.log_p.append(log_density(z, *other, dims))
        else:  # the noise that would make z of p, without the rounding of z
            wider = (0.5 * (log_variance - other[1])).exp()
            theirs = standardised(mean - other[0], other[1]) + wider * eps[g]
            done.log_p.append(log_density_of_noise(theirs, other[1], dims))
        rate = done.log_q[g] - done.log_p[g] if q.bijections else kl_gaussian(mean, log_variance, *other, dims)
        done.rates.append(rate.expand(z.shape[:2]))
        done, state = done._replace(latents=(*done.latents, z)), q.absorb(g, state, z)
    return done._replace(state=state)
