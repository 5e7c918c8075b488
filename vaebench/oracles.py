"""Models whose answers are known: linear-Gaussian systems with exact log p(x), exact posterior, exact ELBO.

Each is an ordinary model with x = W z + b + sigma * noise, so that what is tested on it is what runs on a trained
network. `slack` spoils the exact posterior on purpose: its mean is moved and its scale stretched, so that importance
weights vary; at 0, every single log weight equals log p(x).
"""

import math
from collections.abc import Iterator
from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from .data import Dataset, Space, Split, fingerprint
from .distributions.coupling import CouplingFlow, DecoupledPrior
from .distributions.gaussian import Conditional, DiagonalGaussian, TopDownGaussian
from .distributions.likelihoods import Gaussian, Likelihood
from .functional.gaussian import log_density
from .model import FactoredModel, LatentDistribution, Latents

SIGMA = 0.5


class Oracle(NamedTuple):
    """A model, data drawn from it, and per-example exact answers (N,) by the likelihood metric's value names."""

    name: str
    model: FactoredModel
    dataset: Dataset
    exact: dict[str, Tensor]


def _likelihood(mean: Tensor) -> Gaussian:
    """N(mean, SIGMA^2 I) with mean (S, B, D)."""
    raw = torch.cat([mean, torch.full_like(mean, math.log(SIGMA))], dim=-1)
    return Gaussian(raw, tuple(mean.shape[2:]), None)


def _weights(generator: torch.Generator, rows: int, columns: int) -> Tensor:
    """A (rows, columns) matrix with orthogonal columns of different lengths: exact posteriors are then diagonal."""
    q, _ = torch.linalg.qr(torch.randn(rows, columns, generator=generator, dtype=torch.float64))
    weights: Tensor = q * torch.linspace(0.6, 1.4, columns, dtype=torch.float64)
    return weights.float()


@final
class LinearGaussian(FactoredModel):
    """z ~ N(c, diag d^2), x|z ~ N(W z + b, SIGMA^2 I); the prior is N(0, I), or a coupling flow that yields c and d."""

    def __init__(self, weight: Tensor, bias: Tensor, slack: float, flow: CouplingFlow | None = None) -> None:
        super().__init__(Space((len(bias),), None, "density"))
        width = weight.shape[1]
        self.flow = flow
        self.decoder = nn.Linear(width, len(bias))
        self.head = nn.Linear(len(bias), width)  # q's mean
        self.log_variance = nn.Parameter(torch.zeros(width))  # q's
        with torch.no_grad():
            zero, one = torch.zeros(width), torch.ones(width)
            centre = zero if flow is None else flow.inverse(zero)
            spread = one if flow is None else flow.inverse(one) - centre  # the flow is affine and elementwise
            self.decoder.weight.copy_(weight)
            self.decoder.bias.copy_(bias)
            precision = spread**-2 + weight.square().sum(0) / SIGMA**2  # W has orthogonal columns
            self.head.weight.copy_(weight.T / SIGMA**2 / precision[:, None])
            self.head.bias.copy_((centre * spread**-2 - weight.T @ bias / SIGMA**2) / precision)
            self.head.bias.add_(slack * precision**-0.5)
            self.log_variance.copy_(-precision.log() + 2 * math.log1p(slack))
        self.register_buffer("centre", centre, persistent=False)
        self.register_buffer("spread", spread, persistent=False)
        self.centre: Tensor
        self.spread: Tensor

    def prior(self, batch: int, temperature: float = 1.0) -> LatentDistribution:
        if self.flow is not None:
            return DecoupledPrior(self.flow, batch, temperature)
        log_variance = (2 * math.log(temperature) + torch.zeros_like(self.centre)).expand(batch, -1)
        return DiagonalGaussian(self.centre.expand(batch, -1), log_variance)

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        mean = self.head(x)
        return DiagonalGaussian(mean, self.log_variance.expand_as(mean))

    def likelihood(self, latents: Latents) -> Likelihood:
        return _likelihood(self.decoder(latents[0]))

    def embed(self, x: Tensor) -> Tensor:
        return self.posterior(x).mean

    def inference_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from self.head.named_parameters(prefix="head")
        yield "log_variance", self.log_variance

    def exact(self, x: Tensor) -> dict[str, Tensor]:
        """Per-example nll, elbo, rate, distortion (N,) in float64."""
        q, x = self.posterior(x), x.double()
        weight, bias = self.decoder.weight.double(), self.decoder.bias.double()
        centre, spread = self.centre.double(), self.spread.double()
        mean, variance = q.mean.double(), q.log_variance.double().exp()
        marginal = MultivariateNormal(
            weight @ centre + bias, weight * spread**2 @ weight.T + SIGMA**2 * torch.eye(len(bias), dtype=x.dtype)
        )
        noise = torch.full_like(x, 2 * math.log(SIGMA))
        blur = (weight.square().sum(0) * variance).sum(-1) / (2 * SIGMA**2)
        distortion = blur - log_density(x, mean @ weight.T + bias, noise)
        standard = ((mean - centre) / spread).square() + variance / spread**2
        rate = 0.5 * (standard - (variance / spread**2).log() - 1).sum(-1)
        return {"nll": -marginal.log_prob(x), "elbo": -distortion - rate, "rate": rate, "distortion": distortion}

    def marginal(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` draws of x, (N, D) float32."""
        z = self.centre + self.spread * torch.randn(count, len(self.centre), generator=generator)
        mean: Tensor = self.decoder(z)
        return mean + SIGMA * torch.randn(count, len(self.decoder.bias), generator=generator)


@final
class TwoLevelGaussian(FactoredModel):
    """z1 ~ N(0, I), z2|z1 ~ N(a z1, (1 - a^2) I), x|z2 ~ N(W z2 + b, SIGMA^2 I): z2 is N(0, I) marginally.

    q(z1|x) q(z2|z1, x) is the exact posterior where `slack` is 0.
    """

    LINK = 0.8  # a

    def __init__(self, weight: Tensor, bias: Tensor, slack: float) -> None:
        super().__init__(Space((len(bias),), None, "density"))
        self.decoder = nn.Linear(weight.shape[1], len(bias))
        self.slack = nn.Parameter(torch.tensor(slack))
        with torch.no_grad():
            self.decoder.weight.copy_(weight)
            self.decoder.bias.copy_(bias)
        self.register_buffer("evidence", weight.square().sum(0) / SIGMA**2, persistent=False)
        self.register_buffer("projection", weight.T / SIGMA**2, persistent=False)
        self.register_buffer("shift", bias, persistent=False)
        self.evidence: Tensor
        self.projection: Tensor
        self.shift: Tensor

    def prior(self, batch: int, temperature: float = 1.0) -> LatentDistribution:
        zero = torch.zeros(1, batch, len(self.evidence), dtype=self.slack.dtype, device=self.slack.device)
        warm = 2 * math.log(temperature)

        def second(above: Latents) -> tuple[Tensor, Tensor]:
            return self.LINK * above[0], torch.full_like(above[0], math.log(1 - self.LINK**2) + warm)

        return TopDownGaussian((lambda _: (zero, zero + warm), second))

    def _spoilt(self, mean: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
        log_variance = 2 * torch.log1p(self.slack) - precision.log()
        return mean + self.slack * precision**-0.5, log_variance.expand_as(mean)

    def posterior(self, x: Tensor) -> TopDownGaussian:
        signal = ((x - self.shift) @ self.projection.T)[None]  # (1, B, L)
        noise = 1 - self.LINK**2
        seen = 1 / (1 / self.evidence + noise)  # precision of z1's evidence, z2 integrated out

        def first(_: Latents) -> tuple[Tensor, Tensor]:
            precision = 1 + self.LINK**2 * seen
            return self._spoilt(self.LINK * seen * signal / self.evidence / precision, precision)

        def second(above: Latents) -> tuple[Tensor, Tensor]:
            precision = self.evidence + 1 / noise
            return self._spoilt((signal + self.LINK * above[0] / noise) / precision, precision)

        conditionals: tuple[Conditional, ...] = (first, second)
        return TopDownGaussian(conditionals)

    def likelihood(self, latents: Latents) -> Likelihood:
        return _likelihood(self.decoder(latents[1]))

    def embed(self, x: Tensor) -> Tensor:
        return (x - self.shift) @ self.projection.T

    def inference_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield "slack", self.slack


def _oracle(name: str, model: FactoredModel, x: Tensor, exact: dict[str, Tensor]) -> Oracle:
    splits = {"test": Split("test", x)}
    dataset = Dataset(name, model.space, splits, fingerprint(splits))
    return Oracle(name, model, dataset, exact)


def affine_flow(width: int, generator: torch.Generator) -> CouplingFlow:
    """A coupling flow whose every s and t is a constant: an elementwise affine map with a known Jacobian."""
    flow = CouplingFlow(width)
    with torch.no_grad():
        for net in (*flow.s, *flow.t):
            for parameter in net.parameters():
                parameter.zero_()
            net[4].bias.copy_(0.4 * torch.randn(width, generator=generator))
    return flow


@torch.no_grad()
def oracles(count: int = 400, dims: int = 6, latent: int = 4, slack: float = 0.3, seed: int = 0) -> list[Oracle]:
    """The flat, decoupled and two-level oracles, each with `count` examples drawn from itself."""
    generator = torch.Generator().manual_seed(seed)
    weight, bias = _weights(generator, dims, latent), torch.randn(dims, generator=generator)
    flat = LinearGaussian(weight, bias, slack)
    decoupled = LinearGaussian(weight, bias, slack, affine_flow(latent, generator))
    x, y = flat.marginal(count, generator), decoupled.marginal(count, generator)
    # the two-level model's z2 is standard normal, so its x has the flat model's law
    return [
        _oracle("flat", flat, x, flat.exact(x)),
        _oracle("decoupled", decoupled, y, decoupled.exact(y)),
        _oracle("two-level", TwoLevelGaussian(weight, bias, slack), x, {"nll": flat.exact(x)["nll"]}),
    ]
