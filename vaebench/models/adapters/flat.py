"""One Gaussian latent vector: MLP or convolutional nets, a standard normal or decoupled prior, any likelihood."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn

from vaebench.core.arithmetic import through
from vaebench.core.data import Space
from vaebench.core.model import FactoredModel, LatentDistribution, Latents
from vaebench.distributions.coupling import CouplingFlow, DecoupledPrior
from vaebench.distributions.gaussian import DiagonalGaussian
from vaebench.distributions.likelihoods import LIKELIHOODS, Likelihood
from vaebench.models.networks.flat import NETWORKS, Activation


@dataclass(frozen=True)
class Options:
    """`prior` "normal" is N(0, I); "coupling" is dpVAE's six affine couplings over it.

    `hidden` lists an MLP's widths from the data inwards, or a convolutional net's channels and then its dense width.
    """

    latent: int
    hidden: tuple[int, ...]
    likelihood: Literal[
        "bernoulli",
        "categorical",
        "discretised-logistic",
        "discretised-logistic-mixture",
        "gaussian",
        "fixed-gaussian",
    ]
    network: Literal["mlp", "conv"] = "mlp"
    prior: Literal["normal", "coupling"] = "normal"
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        if self.latent < 1 or not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"latent = {self.latent} and hidden = {list(self.hidden)} should be positive widths")


@final
class Flat(FactoredModel):
    """q(z|x) = N(mean(x), diag variance(x)), p(z) = N(0, I) or decoupled, p(x|z) as `options.likelihood`.

    Source: Kingma & Welling 2014; Bhalodia et al. 2020 for the decoupled prior.
    """

    def __init__(self, space: Space, options: Options) -> None:
        super().__init__(space)
        self.options = options
        channels = LIKELIHOODS[options.likelihood].channels(space.shape, space.levels)
        build = NETWORKS[options.network]
        self.encoder, self.decoder = build(space, channels, options.latent, options.hidden, options.activation)
        self.flow = CouplingFlow(options.latent) if options.prior == "coupling" else None
        self.register_buffer("origin", torch.zeros(options.latent), persistent=False)
        self.origin: Tensor

    def prior(self, batch: int, temperature: float = 1.0) -> LatentDistribution:
        if self.flow is not None:
            return DecoupledPrior(self.flow, batch, temperature)
        log_variance = self.origin + 2 * torch.tensor(temperature).log().item()
        return DiagonalGaussian(self.origin.expand(batch, -1), log_variance.expand(batch, -1))

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        self.space.check(x)
        mean, log_variance = through(self.encoder, x).chunk(2, dim=1)
        return DiagonalGaussian(mean, log_variance)

    def likelihood(self, latents: Latents) -> Likelihood:
        (z,) = latents
        return LIKELIHOODS[self.options.likelihood](through(self.decoder, z), self.space.shape, self.space.levels)

    def embed(self, x: Tensor) -> Tensor:
        return self.posterior(x).mean

    def inference_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return self.encoder.named_parameters(prefix="encoder")


plugin = (Flat, Options)
