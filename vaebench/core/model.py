"""The waist of the suite: what a metric may ask of a model, whatever its family."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, NamedTuple

from torch import Tensor, nn

from vaebench.core.data import Space
from vaebench.distributions.errors import UnavailableError
from vaebench.distributions.joint import FactoredJoint, Joint
from vaebench.distributions.latent import LatentDistribution as LatentDistribution
from vaebench.distributions.latent import Latents as Latents
from vaebench.distributions.likelihoods import Likelihood
from vaebench.functional.divergence import kl_gaussian


def channels(kind: type[Likelihood], space: Space) -> int:
    """How many numbers a decoder of examples of `space` gives in place of `space.shape[0]`, for a likelihood `kind`.

    Raises ValueError, with the remedy, if that is not a likelihood of such examples.
    """
    found = kind.channels(space.shape, space.levels)
    if kind.interval is not None and kind.interval != space.interval:
        low, high = kind.interval
        told = "have no interval" if space.interval is None else f"lie in {list(space.interval)}"
        raise ValueError(f"a {kind.family} likelihood is of numbers in [{low:g}, {high:g}], but the data {told}; "
                         "use 'gaussian'")  # fmt: skip
    return found


class Draws(NamedTuple):
    """S posterior draws for each of B examples, scored; every score (S, B) nats."""

    latents: Latents
    log_likelihood: Tensor
    """log p(x|z)"""
    log_prior: Tensor
    """log p(z)"""
    log_posterior: Tensor
    """log q(z|x)"""

    @property
    def log_weight(self) -> Tensor:
        """log p(x, z) - log q(z|x), (S, B): its exponential's mean over S is unbiased for p(x)."""
        return self.log_likelihood + self.log_prior - self.log_posterior


class LatentVariableModel(nn.Module, ABC):
    """A model p(z) p(x|z) with an inference distribution q(z|x). Adapters are final subclasses.

    `x` is as the dataset stores it: integers where the space has levels, real numbers otherwise. `remark` is what each
    of its rows should say of it: what of it was found on training data.
    """

    remark: str = ""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space

    @abstractmethod
    def prior(self, batch: int, temperature: float = 1.0) -> LatentDistribution:
        """p(z) for `batch` examples; `temperature` multiplies the scale of every draw."""

    @abstractmethod
    def posterior(self, x: Tensor) -> LatentDistribution:
        """q(z|x) for x (B, *shape)."""

    @abstractmethod
    def likelihood(self, latents: Latents) -> Likelihood:
        """p(x|z) for latents (S, B, *event): batch shape (S, B), nats on `space.measure`."""

    @abstractmethod
    def draw(self, x: Tensor, samples: int) -> Draws:
        """`samples` draws of q(z|x), scored. What depends on x alone is computed once for all of them."""

    def drawer(self, x: Tensor) -> Callable[[int], Draws]:
        """`draw` of x, for any number of calls: a function of the number of draws."""
        return partial(self.draw, x)

    def draw_with_rate(self, x: Tensor, samples: int) -> tuple[Draws, Tensor]:
        """`draw`, and the rate E_q[log q(z|x) - log p(z)] of each example, (B,) nats.

        It is exact between diagonal Gaussians, and the mean over the same draws otherwise.
        """
        draws = self.draw(x, samples)
        return draws, (draws.log_posterior - draws.log_prior).mean(0)

    def joint(self, x: Tensor, start: Literal["posterior", "prior"] = "posterior") -> Joint:
        """p(x, z) for x (B, *shape), over the noise that makes z of q(z|x) or of the prior.

        Raises UnavailableError if z is not made of normal noise; this is so unless an adapter says otherwise.
        """
        raise UnavailableError(f"{type(self).__name__} does not say which noise makes its latents")

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """A deterministic representation, (B, F)."""

    @abstractmethod
    def inference_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The named parameters that q(z|x) depends on and p(x, z) does not."""


class FactoredModel(LatentVariableModel, ABC):
    """A model whose three distributions are independent computations, so that `draw` composes them."""

    def draw(self, x: Tensor, samples: int) -> Draws:
        return self.drawer(x)(samples)

    def drawer(self, x: Tensor) -> Callable[[int], Draws]:
        return partial(self._scored, x, self.posterior(x), self.prior(len(x)))

    def draw_with_rate(self, x: Tensor, samples: int) -> tuple[Draws, Tensor]:
        posterior, prior = self.posterior(x), self.prior(len(x))
        draws = self._scored(x, posterior, prior, samples)
        try:
            return draws, kl_gaussian(*posterior.moments(), *prior.moments())
        except UnavailableError:
            return draws, (draws.log_posterior - draws.log_prior).mean(0)

    def _scored(self, x: Tensor, posterior: LatentDistribution, prior: LatentDistribution, samples: int) -> Draws:
        latents, log_posterior = posterior.rsample_with_log_prob(samples)
        return Draws(latents, self.likelihood(latents).log_prob(x), prior.log_prob(latents), log_posterior)

    def joint(self, x: Tensor, start: Literal["posterior", "prior"] = "posterior") -> Joint:
        prior = self.prior(len(x))
        q = self.posterior(x) if start == "posterior" else prior
        return FactoredJoint(q, prior.log_prob if start == "posterior" else None, self.likelihood, x)


class HierarchicalModel(LatentVariableModel, ABC):
    """A model of latent groups that form scales, for objectives that weigh groups."""

    groups_per_scale: tuple[int, ...]
    """From the lowest resolution, which is the first, to the highest."""

    @abstractmethod
    def draw_groups(self, x: Tensor, samples: int) -> tuple[Draws, Tensor]:
        """`draw`, and each group's rate, (G, S, B) nats, whose expectation is E KL(q(z_g|z_<g, x) || p(z_g|z_<g)).

        It is that KL given the groups above where it has a closed form, else log q - log p of the draw.
        """
