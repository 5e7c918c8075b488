"""Negative ELBO whose rate is held at a capacity that grows during training (beta-VAE-B)."""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from vaebench.core.model import LatentVariableModel
from vaebench.core.objective import Loss, Objective


@dataclass(frozen=True)
class Options:
    """`gamma` weighs the distance to the capacity, which rises from 0 to `capacity` nats until the fraction `until`."""

    gamma: float = 15.0
    capacity: float = 25.0
    until: float = 1.0

    def __post_init__(self) -> None:
        if min(self.gamma, self.capacity) < 0 or not 0 < self.until <= 1:
            raise ValueError(
                f"gamma = {self.gamma} and capacity = {self.capacity} should be at least 0, "
                f"and until = {self.until} lie in (0, 1]"
            )


@final
class Capacity(Objective):
    """R + gamma |KL - C_t|, nats per example, R and KL = E_q[log q(z|x) - log p(z)] means over the batch.

    C_t = capacity min(1, progress / until). The absolute value is of the mean over the batch, not of its sum, so that
    gamma and capacity mean the same at any batch size. Source: Burgess et al. 2018, equation 8.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
        draws = model.draw(x, 1)
        distortion = -draws.log_likelihood.mean()
        rate = (draws.log_posterior - draws.log_prior).mean()
        excess = rate - self.options.capacity * min(1.0, progress / self.options.until)
        return Loss(distortion + self.options.gamma * excess.abs(), {"distortion": distortion, "rate": rate})


plugin = (Capacity, Options)
