"""Negative ELBO with a penalty on the decoder's derivative in each latent coordinate (JL1-VAE)."""

from dataclasses import dataclass
from typing import Literal, final

from torch import Tensor

from vaebench.core.model import LatentVariableModel
from vaebench.core.objective import Loss, Objective, vector
from vaebench.functional.jacobian import jacobian_penalty, latent_jacobian


@dataclass(frozen=True)
class Options:
    """`beta` weighs the rate, `gamma` the penalty of `power` 1 (JL1) or 2 (JL2); both rise linearly until `until`.

    `examples` of each batch carry the penalty, whose mean over them is unbiased for that over all (None: all).
    """

    beta: float = 4.0
    gamma: float = 0.1
    until: float = 1 / 3
    power: Literal[1, 2] = 1
    examples: int | None = None

    def __post_init__(self) -> None:
        if self.examples is not None and self.examples < 1:
            raise ValueError(f"examples = {self.examples} should be at least 1")
        if not 0 < self.until <= 1:
            raise ValueError(f"until = {self.until} should lie in (0, 1]")


def penalty(model: LatentVariableModel, z: Tensor, power: int) -> Tensor:
    """(1/B) sum |d g(z) / d z_l|^power over l, examples and data dimensions, at z (1, B, L): gradients reach only g.

    g is the likelihood's mean, from 0 to 1 where the data have levels.
    """
    scale = 1.0 if model.space.levels is None else 1.0 / (model.space.levels - 1)
    derivatives = latent_jacobian(lambda at: model.likelihood((at,)).mean * scale, z.detach())
    return jacobian_penalty(derivatives, z.shape[1], power)


@final
class Jacobian(Objective):
    """R + a beta KL + a gamma (1/B) sum_{b, l, d} |d g_d(z_b) / d z_bl|, R and KL in nats per example.

    g is the decoder's mean on [0, 1], z the posterior draws, held fixed in the penalty, so that it regularises the
    decoder alone; a = min(1, progress / until). Source: Rhodes & Lee 2021, equation 4, with exact derivatives in place
    of finite differences.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
        draws = model.draw(x, 1)
        z = vector(draws.latents, "jacobian")
        distortion = -draws.log_likelihood.mean()
        rate = (draws.log_posterior - draws.log_prior).mean()
        jacobian = penalty(model, z[:, : self.options.examples], self.options.power)
        warm = min(1.0, progress / self.options.until)
        total = distortion + warm * (self.options.beta * rate + self.options.gamma * jacobian)
        return Loss(total, {"distortion": distortion, "rate": rate, "jacobian": jacobian})


plugin = (Jacobian, Options)
