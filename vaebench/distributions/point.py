"""What an encoder gives that has no posterior: one z for each x."""

from typing import final

from torch import Tensor

from vaebench.distributions.errors import UnavailableError
from vaebench.distributions.latent import LatentDistribution, Latents


@final
class Point(LatentDistribution):
    """All mass at z (B, L): draws are equal, and there is no density."""

    def __init__(self, z: Tensor) -> None:
        self.z = z

    @property
    def kind(self) -> str:
        return "single z for each x, with no density"

    def rsample(self, samples: int) -> Latents:
        return (self.z.expand(samples, *self.z.shape),)

    def log_prob(self, latents: Latents) -> Tensor:
        raise UnavailableError(f"needs a density q(z|x); this model's is a {self.kind}")
