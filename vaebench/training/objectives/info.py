"""Negative ELBO with a discrepancy between aggregate posterior and prior (InfoVAE)."""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from vaebench.core.model import LatentVariableModel
from vaebench.core.objective import Loss, Objective, vector
from vaebench.functional.mmd import squared_mmd


@dataclass(frozen=True)
class Options:
    """`alpha` is the weight on mutual information, `strength` (lambda) that on the divergence of q(z) from p(z)."""

    alpha: float = 0.0
    strength: float = 1000.0


@final
class Info(Objective):
    """R + (1 - alpha) KL + (alpha + strength - 1) MMD^2({z ~ q(z|x)}, {z ~ p(z)}), means over the batch.

    R and KL in nats per example; MMD^2 without unit, between one posterior draw per example and as many prior draws
    (through the flow, where the prior is decoupled). Source: Zhao, Song & Ermon 2019, equation 6; the kernel
    (`functional.mmd`) as in dpVAE, Bhalodia et al. 2020.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
        draws = model.draw(x, 1)
        z = vector(draws.latents, "info")
        distortion = -draws.log_likelihood.mean()
        rate = (draws.log_posterior - draws.log_prior).mean()
        mmd = squared_mmd(z[0], vector(model.prior(len(x)).rsample(1), "info")[0])
        weight = self.options.alpha + self.options.strength - 1
        total = distortion + (1 - self.options.alpha) * rate + weight * mmd
        return Loss(total, {"distortion": distortion, "rate": rate, "mmd": mmd})


plugin = (Info, Options)
