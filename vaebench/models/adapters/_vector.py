"""What the families of one Gaussian latent vector share: the prior, standard or decoupled, and the posterior."""

from abc import ABC
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from vaebench.core.arithmetic import through
from vaebench.core.data import Space
from vaebench.core.model import FactoredModel, LatentDistribution
from vaebench.distributions.coupling import CouplingFlow, DecoupledPrior
from vaebench.distributions.gaussian import DiagonalGaussian

Prior = Literal["normal", "coupling"]


class VectorModel(FactoredModel, ABC):
    """q(z|x) = N(mean(x), diag variance(x)) by `encoder`, x (B, *shape) -> (B, 2 latent); p(z) = N(0, I) or decoupled.

    A subclass builds the networks, and makes a likelihood of what `decoder` gives.

    Source: Kingma & Welling 2014; Bhalodia et al. 2020 for the decoupled prior.
    """

    origin: Tensor

    def __init__(self, space: Space, encoder: nn.Module, decoder: nn.Module, latent: int, prior: Prior) -> None:
        super().__init__(space)
        self.encoder, self.decoder = encoder, decoder
        self.flow = CouplingFlow(latent) if prior == "coupling" else None
        self.register_buffer("origin", torch.zeros(latent), persistent=False)

    def prior(self, batch: int, temperature: float = 1.0) -> LatentDistribution:
        if self.flow is not None:
            return DecoupledPrior(self.flow, batch, temperature)
        log_variance = self.origin + 2 * torch.tensor(temperature).log().item()
        return DiagonalGaussian(self.origin.expand(batch, -1), log_variance.expand(batch, -1))

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        self.space.check(x)
        mean, log_variance = through(self.encoder, x).chunk(2, dim=1)
        return DiagonalGaussian(mean, log_variance)

    def embed(self, x: Tensor) -> Tensor:
        return self.posterior(x).mean

    def inference_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return self.encoder.named_parameters(prefix="encoder")
