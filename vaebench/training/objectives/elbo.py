"""Negative evidence lower bound, with a weight on the rate (the VAE; beta-VAE where beta is not 1)."""

from dataclasses import dataclass

from torch import Tensor

from vaebench.core.model import LatentVariableModel
from vaebench.core.objective import Loss, Objective


@dataclass(frozen=True)
class Options:
    """`beta` weighs the rate; `samples` posterior draws per example."""

    beta: float = 1.0
    samples: int = 1


class Elbo(Objective):
    """Mean over the batch of -E_q[log p(x|z)] + beta E_q[log q(z|x) - log p(z)], nats.

    Both expectations are over the same draws, for any prior: a decoupled prior and a standard normal one differ in
    nothing but log p(z). Source: Kingma & Welling 2014, equation 2; Higgins et al. 2017, equation 4.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
        draws = model.draw(x, self.options.samples)
        distortion = -draws.log_likelihood.mean()
        rate = (draws.log_posterior - draws.log_prior).mean()
        return Loss(distortion + self.options.beta * rate, {"distortion": distortion, "rate": rate})


plugin = (Elbo, Options)
