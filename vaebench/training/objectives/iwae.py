"""Negative importance-weighted bound (IWAE)."""

import math
from dataclasses import dataclass
from typing import final

from torch import Tensor

from vaebench.core.model import LatentVariableModel
from vaebench.core.objective import Loss, Objective
from vaebench.core.tables import within


@dataclass(frozen=True)
class Options:
    """`samples` posterior draws per example."""

    samples: int = 50

    def __post_init__(self) -> None:
        within(self, samples=(1, 100_000))


@final
class Iwae(Objective):
    """Mean over the batch of -L_K(x) = -log (1/K) sum_k p(x, z_k) / q(z_k|x), z_k ~ q(z|x), nats per example.

    K = 1 is the negative ELBO; more draws never loosen the bound in expectation. The logged distortion and rate are
    means over the same draws. Source: Burda, Grosse & Salakhutdinov 2016, equation 8.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
        draws = model.draw(x, self.options.samples)
        bound = draws.log_weight.logsumexp(0) - math.log(self.options.samples)
        rate = (draws.log_posterior - draws.log_prior).mean()
        return Loss(-bound.mean(), {"distortion": -draws.log_likelihood.mean(), "rate": rate})


plugin = (Iwae, Options)
