"""Models whose answers are known: linear-Gaussian systems with exact log p(x), exact posterior, exact ELBO.

Each is an ordinary model with x = W z + b + sigma * noise, so that what is tested on it is what runs on a trained
network. `slack` spoils the exact posterior on purpose: its mean is moved and its scale stretched, so that importance
weights vary; at 0, every single log weight equals log p(x).
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from vaebench.core.data import Dataset, Space, Split, fingerprint
from vaebench.core.model import Draws, FactoredModel, LatentDistribution, Latents, LatentVariableModel
from vaebench.distributions.coupling import CouplingFlow, DecoupledPrior
from vaebench.distributions.gaussian import Conditional, DiagonalGaussian, TopDownGaussian
from vaebench.distributions.joint import Joint
from vaebench.distributions.leapfrog import HamiltonianGaussian, PhaseSpace, TemperedLeapfrog, quadratic_cooling
from vaebench.distributions.likelihoods import Gaussian, Likelihood
from vaebench.functional.gaussian import log_density

SIGMA = 0.5


class Oracle(NamedTuple):
    """A model, data drawn from it, and per-example exact answers (N,) by the likelihood metric's value names."""

    name: str
    model: LatentVariableModel
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
        distortion = self.distortion(x, mean, variance)
        standard = ((mean - centre) / spread).square() + variance / spread**2
        rate = 0.5 * (standard - (variance / spread**2).log() - 1).sum(-1)
        return {"nll": -marginal.log_prob(x), "elbo": -distortion - rate, "rate": rate, "distortion": distortion}

    def distortion(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """E[-log p(x|z)] for z ~ N(mean, diag variance), (N,) float64: x (N, D), mean (N, L), variance (N or 1, L)."""
        weight, bias = self.decoder.weight.double(), self.decoder.bias.double()
        noise = torch.full_like(x, 2 * math.log(SIGMA))
        blur = (weight.square().sum(0) * variance).sum(-1) / (2 * SIGMA**2)
        return blur - log_density(x, mean @ weight.T + bias, noise)

    def aggregate(self) -> tuple[Tensor, Tensor]:
        """Mean and variance (L,) float64 of E_x q(z|x) over the model's own x, a Gaussian with independent z_l."""
        weight, bias, head = (t.double() for t in (self.decoder.weight, self.decoder.bias, self.head.weight))
        spread, noise = weight * self.spread.double(), SIGMA**2 * torch.eye(len(bias), dtype=torch.float64)
        mean = head @ (weight @ self.centre.double() + bias) + self.head.bias.double()
        variance = (head @ (spread @ spread.T + noise) @ head.T).diagonal() + self.log_variance.double().exp()
        return mean, variance

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


@final
class LeapfrogGaussian(LatentVariableModel):
    """`LinearGaussian` on (z, rho), its posterior carried by tempered leapfrog steps that mend part of the slack.

    eps is `slack` times 1.8 posterior standard deviations, so that nothing moves where there is nothing to mend.
    """

    STEPS, TEMPERATURE = 3, 1.3  # K, T_0

    def __init__(self, weight: Tensor, bias: Tensor, slack: float) -> None:
        flat = LinearGaussian(weight, bias, slack)
        super().__init__(flat.space)
        self.flat = flat
        self.register_buffer("precision", 1 + weight.square().sum(0) / SIGMA**2, persistent=False)  # of p(z|x)
        self.precision: Tensor
        self.step = nn.Parameter(1.8 * slack * self.precision**-0.5)
        self.temperature = nn.Parameter(torch.tensor(self.TEMPERATURE))

    def prior(self, batch: int, temperature: float = 1.0) -> LatentDistribution:
        log_variance = (2 * math.log(temperature) + torch.zeros_like(self.step)).expand(batch, -1)
        normal = DiagonalGaussian(torch.zeros_like(log_variance), log_variance)
        return PhaseSpace(normal, normal)

    def posterior(self, x: Tensor) -> HamiltonianGaussian:
        def energy(z: Tensor) -> Tensor:
            zero = torch.zeros_like(z)
            return -self.flat.likelihood((z,)).log_prob(x) - log_density(z, zero, zero)

        flow = TemperedLeapfrog(energy, self.step, quadratic_cooling(self.temperature, self.STEPS))
        return HamiltonianGaussian(self.flat.posterior(x), flow)

    def likelihood(self, latents: Latents) -> Likelihood:
        return self.flat.likelihood(latents[:1])

    def draw(self, x: Tensor, samples: int) -> Draws:
        latents, log_posterior = self.posterior(x).rsample_with_log_prob(samples)
        log_likelihood = self.likelihood(latents).log_prob(x)
        return Draws(latents, log_likelihood, self.prior(len(x)).log_prob(latents), log_posterior)

    def joint(self, x: Tensor, start: Literal["posterior", "prior"] = "posterior") -> Joint:
        return self.flat.joint(x, start)

    def embed(self, x: Tensor) -> Tensor:
        return self.flat.embed(x)

    def inference_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from ((f"flat.{name}", parameter) for name, parameter in self.flat.inference_parameters())
        yield from (("step", self.step), ("temperature", self.temperature))

    def exact(self, x: Tensor) -> dict[str, Tensor]:
        """Per-example nll, elbo, rate, distortion (N,) in float64: every step is linear in (z - E[z|x], rho).

        U = 1/2 precision (z - E[z|x])^2 in each dimension, so that q(z_K, rho_K) is Gaussian.
        """
        q, nll, x = self.flat.posterior(x), self.flat.exact(x)["nll"], x.double()
        precision, step, hot = self.precision.double(), self.step.double(), self.temperature.double()
        weight, bias = self.flat.decoder.weight.double(), self.flat.decoder.bias.double()
        centre = (x - bias) @ weight / SIGMA**2 / precision
        one, zero = torch.ones_like(step), torch.zeros_like(step)

        def matrix(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:  # (L, 2, 2)
            return torch.stack([torch.stack([a, b], -1), torch.stack([c, d], -1)], -2)

        half, drift = matrix(one, zero, -0.5 * step * precision, one), matrix(one, step, zero, one)
        path = [(1 - hot) * (k / self.STEPS) ** 2 + hot for k in range(self.STEPS + 1)]
        total = matrix(one, zero, zero, one)
        for before, after in pairwise(path):
            total = matrix(one, zero, zero, (after / before).sqrt() * one) @ half @ drift @ half @ total
        start = matrix(q.log_variance[0].double().exp(), zero, zero, hot * one)
        covariance = total @ start @ total.mT  # (L, 2, 2)
        mean = (q.mean.double() - centre)[..., None] * total[:, :, 0]  # (N, L, 2)
        metric = torch.stack([precision, one], -1)  # of the target, diagonal
        square = (metric * (covariance.diagonal(dim1=1, dim2=2) + mean.square())).sum(-1)
        gap = 0.5 * (square - 2 - covariance.logdet() - precision.log()).sum(-1)  # KL(q || p(z|x) p(rho))
        distortion = self.flat.distortion(x, centre + mean[..., 0], covariance[:, 0, 0])
        return {"nll": nll, "elbo": -nll - gap, "rate": nll + gap - distortion, "distortion": distortion}


def _oracle(name: str, model: LatentVariableModel, x: Tensor, exact: dict[str, Tensor]) -> Oracle:
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
    """The flat, decoupled, two-level and Hamiltonian oracles, each with `count` examples drawn from itself."""
    generator = torch.Generator().manual_seed(seed)
    weight, bias = _weights(generator, dims, latent), torch.randn(dims, generator=generator)
    flat = LinearGaussian(weight, bias, slack)
    decoupled = LinearGaussian(weight, bias, slack, affine_flow(latent, generator))
    x, y = flat.marginal(count, generator), decoupled.marginal(count, generator)
    hamiltonian = LeapfrogGaussian(weight, bias, slack)
    # the two-level model's z2 is standard normal, so its x has the flat model's law, as the Hamiltonian one's has
    return [
        _oracle("flat", flat, x, flat.exact(x)),
        _oracle("decoupled", decoupled, y, decoupled.exact(y)),
        _oracle("two-level", TwoLevelGaussian(weight, bias, slack), x, {"nll": flat.exact(x)["nll"]}),
        _oracle("hamiltonian", hamiltonian, x, hamiltonian.exact(x)),
    ]
