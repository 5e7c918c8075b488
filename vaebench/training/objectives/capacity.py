"""Negative ELBO whose rate is held at a capacity that grows during training (beta-VAE-B)."""

import math
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from vaebench.core.model import LatentVariableModel
from vaebench.core.objective import Loss, Objective


@dataclass(frozen=True)
class Options:
    """`gamma` weighs the distance to the capacity, which rises from 0 to C until the fraction `until` of training.

    C = `fraction` times `rate`, the rate in nats of the plain VAE on the dataset.
    """

    rate: float
    fraction: float = 0.5
    gamma: float = 15.0
    until: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction = {self.fraction} of the plain VAE's rate should lie in (0, 1]")
        if not 0 < self.rate < math.inf or not 0 <= self.gamma < math.inf or not 0 < self.until <= 1:
            raise ValueError(
                f"rate = {self.rate} should be positive, gamma = {self.gamma} at least 0, "
                f"and until = {self.until} lie in (0, 1]"
            )

    @property
    def capacity(self) -> float:
        """C, nats."""
        return self.fraction * self.rate


@final
class Capacity(Objective):
    """R + gamma |KL - C_t|, nats per example, R and KL = E_q[log q(z|x) - log p(z)] means over the batch.

    C_t = C min(1, progress / until). The absolute value is of the mean over the batch, not of its sum, so that gamma
    and C mean the same at any batch size. A prior with parameters is always trained to make -log p(z) small, with
    weight 1: neither gamma nor a rate below C, which would make it large, is its business.
    Source: Burgess et al. 2018, equation 8; for a decoupled prior Bhalodia et al. 2020.
    """

    version: ClassVar[int] = 2

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
        draws = model.draw(x, 1)
        distortion = -draws.log_likelihood.mean()
        rate = (draws.log_posterior - draws.log_prior).mean()
        excess = rate - self.options.capacity * min(1.0, progress / self.options.until)
        total = distortion + self.options.gamma * excess.abs()
        held = tuple(group.detach() for group in draws.latents)
        prior = -model.prior(len(x)).log_prob(held).mean()  # a function of the prior's parameters alone
        if prior.requires_grad:
            weight = 1 - self.options.gamma * excess.detach().sign()
            total = total + weight * (prior - prior.detach())
        return Loss(total, {"distortion": distortion, "rate": rate})


plugin = (Capacity, Options)
