"""The joint density p(x, z) as a function of the noise that makes z."""

from collections.abc import Callable
from typing import Protocol, final

from torch import Tensor

from vaebench.distributions.gaussian import State, TopDownGaussian, walk
from vaebench.distributions.latent import LatentDistribution, Latents
from vaebench.distributions.likelihoods import Likelihood


class Joint(Protocol):
    """p(x, z) for B examples x, of latents that noise makes of a distribution q."""

    @property
    def size(self) -> int:
        """E, the numbers of noise that make the latents of one example."""
        ...

    def log_weight(self, noise: Tensor) -> Tensor:
        """log p(x, z) - log q(z) at the z that `noise` (S, B, E) makes: (S, B) nats, differentiable in `noise`."""
        ...

    def noise_of(self, latents: Latents) -> Tensor:
        """The noise (S, B, E) that makes `latents` of q."""
        ...


@final
class FactoredJoint:
    """`Joint` of a prior and a likelihood that are independent computations, over the noise of `q`.

    `log_prior` is None where `q` is the prior itself, and log w is then the log-likelihood.
    """

    def __init__(
        self,
        q: LatentDistribution,
        log_prior: Callable[[Latents], Tensor] | None,
        likelihood: Callable[[Latents], Likelihood],
        x: Tensor,
    ) -> None:
        self.q, self.log_prior, self.likelihood, self.x = q, log_prior, likelihood, x

    @property
    def size(self) -> int:
        return self.q.size

    def log_weight(self, noise: Tensor) -> Tensor:
        latents, log_q = self.q.made(noise)
        log_likelihood = self.likelihood(latents).log_prob(self.x)
        return log_likelihood if self.log_prior is None else log_likelihood + self.log_prior(latents) - log_q

    def noise_of(self, latents: Latents) -> Tensor:
        return self.q.noise_of(latents)


@final
class TopDownJoint:
    """`Joint` of a hierarchy whose groups share one pass: q, p and what `decode` reads, as `gaussian.walk` has them."""

    def __init__(
        self, q: TopDownGaussian, p: TopDownGaussian, decode: Callable[[State], Likelihood], x: Tensor
    ) -> None:
        self.q, self.p, self.decode, self.x = q, p, decode, x

    @property
    def size(self) -> int:
        return self.q.size

    def log_weight(self, noise: Tensor) -> Tensor:
        done = walk(self.q, self.p, self.q.groups(noise))
        ratios = [p - q for p, q in zip(done.log_p, done.log_q, strict=True)]
        return self.decode(done.state).log_prob(self.x) + sum(ratios[1:], start=ratios[0])

    def noise_of(self, latents: Latents) -> Tensor:
        return self.q.noise_of(latents)
