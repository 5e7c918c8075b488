"""The VAE of Likelihood Regret: DCGAN-style nets for 32x32 images, a 256-way categorical for each pixel and colour."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from vaebench.core.arithmetic import through
from vaebench.core.data import Space
from vaebench.core.model import FactoredModel, LatentDistribution, Latents
from vaebench.core.tables import LATENT, within
from vaebench.distributions.gaussian import DiagonalGaussian
from vaebench.distributions.likelihoods import Categorical, Likelihood
from vaebench.models.networks.dcgan import LEVELS, SIDE, Decoder, Encoder


@dataclass(frozen=True)
class Options:
    """`latent` is nz of the release, `width` its ngf: 100 and 32 on Fashion-MNIST, 200 and 64 on CIFAR-10."""

    latent: int = 100
    width: int = 32

    def __post_init__(self) -> None:
        if self.latent < 1 or self.width < 1:
            raise ValueError(f"latent = {self.latent} and width = {self.width} should be positive")
        within(self, latent=(1, LATENT))


@final
class LikelihoodRegret(FactoredModel):
    """q(z|x) = N(mean(x), diag variance(x)), p(z) = N(0, I), p(x|z) = prod_d Categorical(x_d; 256 logits).

    Batch norm uses the batch in training mode and its running statistics in evaluation. The state dict is that of the
    release, with `encoder.` before the names of netE_pixel.pth and `decoder.` before those of netG_pixel.pth.
    The nets see 32x32 images of 256 levels and nothing else (ValueError). The release resizes the images of 28x28 sets;
    resizing changes the data, and so is a dataset's business and not a model's: a dataset plug-in of 32x32 images.

    Source: Xiao, Yan & Amit 2020 (Likelihood Regret, arXiv 2003.02977).
    """

    def __init__(self, space: Space, options: Options) -> None:
        super().__init__(space)
        if not space.is_image or space.shape[1:] != (SIDE, SIDE) or space.levels != LEVELS:
            raise ValueError(
                f"these nets need {LEVELS}-level images of shape (colours, {SIDE}, {SIDE}), not examples of shape "
                f"{space.shape} with levels = {space.levels}; use a dataset of images resized to {SIDE}x{SIDE}"
            )
        self.options = options
        self.encoder = Encoder(space.shape[0], options.latent, options.width)
        self.decoder = Decoder(space.shape[0], options.latent, options.width)
        self.register_buffer("origin", torch.zeros(options.latent), persistent=False)
        self.origin: Tensor

    def prior(self, batch: int, temperature: float = 1.0) -> LatentDistribution:
        log_variance = self.origin + 2 * torch.tensor(temperature).log().item()
        return DiagonalGaussian(self.origin.expand(batch, -1), log_variance.expand(batch, -1))

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        self.space.check(x)
        mean, log_variance = through(self.encoder, x).chunk(2, dim=1)
        return DiagonalGaussian(mean, log_variance)

    def likelihood(self, latents: Latents) -> Likelihood:
        (z,) = latents
        return Categorical(through(self.decoder, z), self.space.shape, self.space.levels)

    def embed(self, x: Tensor) -> Tensor:
        return self.posterior(x).mean

    def inference_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return self.encoder.named_parameters(prefix="encoder")


plugin = (LikelihoodRegret, Options)
