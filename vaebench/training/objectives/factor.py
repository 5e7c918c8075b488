"""Negative ELBO with total correlation estimated by a discriminator (FactorVAE)."""

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from vaebench.core.model import LatentVariableModel
from vaebench.core.objective import Adam, Loss, Objective, vector
from vaebench.core.size import PARAMETERS
from vaebench.core.tables import COUNT, within
from vaebench.distributions import noise


@dataclass(frozen=True)
class Options:
    """`gamma` weighs the total correlation; `depth` hidden layers of `width` units with slope `leaky` below zero.

    `learning_rate` and `betas` are of the discriminator's Adam.
    """

    gamma: float = 10.0
    width: int = 1000
    depth: int = 5
    leaky: float = 0.2
    learning_rate: float = 1e-4
    betas: tuple[float, ...] = (0.5, 0.9)

    def __post_init__(self) -> None:
        within(self, width=(1, COUNT), depth=(1, 100))
        if (parameters := self.depth * self.width**2) > PARAMETERS:
            raise ValueError(f"width = {self.width} and depth = {self.depth} make {parameters:,} parameters, "
                             f"which should be at most {PARAMETERS:,}")  # fmt: skip
        if not 0 <= self.gamma < math.inf:
            raise ValueError(f"gamma = {self.gamma} should be at least 0")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate = {self.learning_rate} should be positive")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas = {list(self.betas)} should be two numbers in [0, 1)")


def permuted(z: Tensor, uniform: Tensor) -> Tensor:
    """Draws of prod_l q(z_l): z (B, L), each column in an order of its own, that of `uniform` (B, L)."""
    return z.gather(0, uniform.argsort(0))


@final
class Factor(Objective):
    """R + KL + gamma E_q(z)[log D(z) - log(1 - D(z))], nats per example, and the discriminator's own cross-entropy.

    D(z), a multilayer perceptron, is the probability that z is a draw of q(z) and not of prod_l q(z_l). Its loss is
    -(1/2) E[log D(z)] - (1/2) E[log(1 - D(z'))], z from the batch's first half, z' permuted draws from its second.
    Both losses are one total: the model's sees D's parameters detached, D's sees z detached, and D has an Adam of its
    own, so that steps are those of two optimisers. R, KL and the total correlation are means over the whole batch. In
    evaluation mode D's loss is not in the total. Gamma is in nats of a likelihood summed over the data's dimensions.
    Source: Kim & Mnih 2018, equation 3, algorithm 2 and appendix A.
    """

    version: ClassVar[int] = 2

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.adam = Adam(options.learning_rate, (options.betas[0], options.betas[1]))
        self.discriminator = nn.Sequential()

    def prepare(self, model: LatentVariableModel, examples: int) -> None:
        super().prepare(model, examples)
        with torch.no_grad():
            width = vector(model.prior(1).rsample(1), "factor").shape[-1]
        layers: list[nn.Module] = []
        for _ in range(self.options.depth):
            layers += [nn.Linear(width, self.options.width), nn.LeakyReLU(self.options.leaky)]
            width = self.options.width
        self.discriminator = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
        if not len(self.discriminator):
            raise RuntimeError("objective 'factor' has no discriminator yet: call prepare(model, examples) first")
        draws = model.draw(x, 1)
        z = vector(draws.latents, "factor")
        distortion = -draws.log_likelihood.mean()
        rate = (draws.log_posterior - draws.log_prior).mean()
        frozen = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        correlation = functional_call(self.discriminator, frozen, (z[0],)).mean()  # the logit is log D - log(1 - D)
        own = self._discriminate(z[0].detach(), noise.uniform(tuple(z.shape), z)[0])
        total = distortion + rate + self.options.gamma * correlation
        terms = {"distortion": distortion, "rate": rate, "total_correlation": correlation, "discriminator": own}
        return Loss(total + own if self.training else total, terms)

    def _discriminate(self, z: Tensor, uniform: Tensor) -> Tensor:
        """D's cross-entropy, nats, on z (B, L); 0 where a batch of one has no second half."""
        half = (len(z) + 1) // 2
        if half == len(z):
            return z.new_zeros(())
        joint = self.discriminator(z[:half])
        product = self.discriminator(permuted(z[half:], uniform[half:]))
        return 0.5 * (F.softplus(-joint).mean() + F.softplus(product).mean())


plugin = (Factor, Options)
