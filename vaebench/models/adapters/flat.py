"""One Gaussian latent vector: MLP or convolutional nets, a standard normal or decoupled prior, any likelihood."""

import math
from dataclasses import dataclass
from typing import Literal, final

from vaebench.core.arithmetic import through
from vaebench.core.data import Space
from vaebench.core.model import Latents, channels
from vaebench.core.tables import COUNT, LATENT, within
from vaebench.distributions.likelihoods import LIKELIHOODS, Likelihood
from vaebench.models.adapters._vector import Prior, VectorModel
from vaebench.models.adapters._wiring import WITH_SCALE, with_scale
from vaebench.models.networks.flat import (
    NETWORKS,
    WITHOUT_LAYERS,
    Activation,
    Network,
    check_widths,
    start_log_variance,
)


@dataclass(frozen=True)
class Options:
    """`prior` "normal" is N(0, I); "coupling" is dpVAE's six affine couplings over it.

    `init_log_variance` is where the encoder's bias of q's log-variance starts (None: as any other bias).
    `hidden` lists an MLP's widths from the data inwards, or a convolutional net's channels and then its dense width.
    With `output` "unit" the decoder ends in a sigmoid and gives means alone, in [0, 1]; `scale` is then the standard
    deviation (gaussian) or scale (discretised-logistic) in those units, which is not learnt.
    """

    latent: int
    hidden: tuple[int, ...]
    likelihood: Literal[
        "bernoulli",
        "continuous-bernoulli",
        "categorical",
        "discretised-logistic",
        "discretised-logistic-mixture",
        "gaussian",
        "fixed-gaussian",
        "gaussian-summary",
    ]
    network: Network = "mlp"
    prior: Prior = "normal"
    activation: Activation = "relu"
    init_log_variance: float | None = None
    output: Literal["raw", "unit"] = "raw"
    scale: float | None = None

    def __post_init__(self) -> None:
        check_widths(self.latent, self.hidden, self.network)
        within(self, latent=(1, LATENT), hidden=(1, COUNT))
        if (self.output == "unit") != (self.scale is not None):
            raise ValueError(
                f"output = {self.output!r}, scale = {self.scale}: means in [0, 1] have a scale, others none"
            )
        if self.init_log_variance is not None and self.network in WITHOUT_LAYERS:
            raise ValueError(f"init_log_variance = {self.init_log_variance} is of networks with layers; leave it out")
        if self.scale is not None and self.likelihood not in WITH_SCALE:
            raise ValueError(f"scale = {self.scale} is of {' and '.join(WITH_SCALE)} alone; leave it out")
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ValueError(f"scale = {self.scale} should be positive")


@final
class Flat(VectorModel):
    """q(z|x) = N(mean(x), diag variance(x)), p(z) = N(0, I) or decoupled, p(x|z) as `options.likelihood`.

    Source: Kingma & Welling 2014; Bhalodia et al. 2020 for the decoupled prior.
    """

    def __init__(self, space: Space, options: Options) -> None:
        outputs = channels(LIKELIHOODS[options.likelihood], space)
        outputs = outputs if options.scale is None else space.shape[0]
        build = NETWORKS[options.network]
        networks = build(space, outputs, options.latent, options.hidden, options.activation)
        super().__init__(space, *networks, options.latent, options.prior)
        if options.init_log_variance is not None:
            start_log_variance(networks[0], options.init_log_variance)
        self.options = options

    def likelihood(self, latents: Latents) -> Likelihood:
        (z,) = latents
        raw, o = through(self.decoder, z), self.options
        if o.scale is not None:
            raw = with_scale(raw.sigmoid(), o.scale, o.likelihood, "unit", self.space, 2)
        return LIKELIHOODS[o.likelihood](raw, self.space.shape, self.space.levels)


plugin = (Flat, Options)
