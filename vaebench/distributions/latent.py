"""The abstract distribution over latents: all that a metric may ask of one, whatever its kind."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from torch import Tensor

from vaebench.distributions.errors import UnavailableError

if TYPE_CHECKING:
    from vaebench.distributions.gaussian import TopDownGaussian

Latents = tuple[Tensor, ...]
"""Latent groups, top-down; each (S, B, *event)."""


class Moments(NamedTuple):
    """Parameters of a diagonal Gaussian of one vector, each (B, L)."""

    mean: Tensor
    log_variance: Tensor


class LatentDistribution(ABC):
    """A distribution over latents for each of B examples.

    What only some kinds can do is a method that raises UnavailableError, with the reason, in all others.
    """

    chained: ClassVar[bool] = False
    """Whether the latents are groups each of which depends on those above it."""
    decoupled: ClassVar[bool] = False
    """Whether `to_base` is more than the identity."""

    @abstractmethod
    def rsample(self, samples: int) -> Latents:
        """S reparameterised draws per example, each group (S, B, *event)."""

    @abstractmethod
    def log_prob(self, latents: Latents) -> Tensor:
        """The log density of `latents`, (S, B) nats."""

    def rsample_with_log_prob(self, samples: int) -> tuple[Latents, Tensor]:
        """`rsample` and the log density of the draws, (S, B) nats.

        A kind that knows the noise of its draws scores them by it: where a variance is far below the rounding of z, no
        density at z itself is right.
        """
        latents = self.rsample(samples)
        return latents, self.log_prob(latents)

    @property
    def kind(self) -> str:
        """What to call it in a message."""
        return type(self).__name__

    def first(self) -> "LatentDistribution":
        """The distribution of the first latent group alone, as one vector (S, B, L): this one, where it has no other.

        Raises UnavailableError if that has no density of its own.
        """
        return self

    def moments(self) -> Moments:
        """Mean and log-variance, where this is a diagonal Gaussian of one vector.

        Raises UnavailableError if it is another distribution.
        """
        raise UnavailableError(f"needs a diagonal Gaussian q(z|x); this model's is a {self.kind}")

    def kl(self, other: "LatentDistribution") -> Tensor:
        """KL(self || other), (B,) nats: exact, or for a chain the sum of its groups' exact KLs along one draw of it.

        Raises UnavailableError if there is no closed form between the two.
        """
        raise UnavailableError(f"no KL between a {self.kind} and a {other.kind} has a closed form")

    def to_base(self, z: Tensor) -> Tensor:
        """u = g(z) of vectors z (..., L): what this makes standard normal, or z itself where this is a Gaussian.

        Raises UnavailableError if it is neither.
        """
        raise UnavailableError(f"generation space needs a Gaussian or decoupled prior; this model's is a {self.kind}")

    def from_base(self, u: Tensor) -> Latents:
        """Latents (1, B, ...) whose one vector is z = g^-1(u), u (B, L); what is beside the vector is drawn.

        Raises UnavailableError if latents are not one vector, or as `to_base`.
        """
        raise UnavailableError(f"generation space needs a Gaussian or decoupled prior; this model's is a {self.kind}")

    @property
    def size(self) -> int:
        """E, how many standard normal numbers make a draw for one example.

        Raises UnavailableError if a draw is not made of such.
        """
        raise UnavailableError(f"a {self.kind} does not say which noise makes its draws")

    def made(self, noise: Tensor) -> tuple[Latents, Tensor]:
        """The draws that `noise` (S, B, E) makes, and their log density (S, B) nats, scored from `noise` itself.

        Raises UnavailableError as `size`.
        """
        raise UnavailableError(f"a {self.kind} does not say which noise makes its draws")

    def noise_of(self, latents: Latents) -> Tensor:
        """The noise (S, B, E) that makes `latents`.

        Raises UnavailableError as `size`.
        """
        raise UnavailableError(f"a {self.kind} does not say which noise makes its draws")

    def chain(self) -> "TopDownGaussian":
        """This as one Gaussian group of latents after another, each with independent dimensions given those above.

        Raises UnavailableError if it is not such a chain.
        """
        raise UnavailableError(f"needs latents that are a chain of Gaussian groups; this model's are a {self.kind}")
