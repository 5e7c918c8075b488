"""HVAE: a Gaussian posterior sharpened by leapfrog steps on the model's own energy, with exact densities."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn

from vaebench.core.arithmetic import through
from vaebench.core.data import Space
from vaebench.core.model import Draws, LatentDistribution, Latents, LatentVariableModel, channels
from vaebench.core.tables import COUNT, LATENT, within
from vaebench.distributions.gaussian import DiagonalGaussian
from vaebench.distributions.joint import FactoredJoint
from vaebench.distributions.leapfrog import HamiltonianGaussian, PhaseSpace, TemperedLeapfrog, quadratic_cooling
from vaebench.distributions.likelihoods import LIKELIHOODS, Likelihood
from vaebench.functional.gaussian import log_density
from vaebench.models.networks.flat import NETWORKS, Activation, Network, check_widths


@dataclass(frozen=True)
class Options:
    """`hidden`, `likelihood`, `network` and `activation` are the flat family's; a smooth activation suits leapfrog.

    `steps` is K. Step sizes start at `init_step` and never reach `max_step`, both in units of z; `step_sizes` "shared"
    is one for each latent dimension, "each" one for each leapfrog step and dimension. `tempering` "none"
    keeps temperature 1; "fixed" cools by the quadratic schedule from a learnt T_0; "free" learns every alpha_k.
    `init_temperature` is where T_0 starts (unused by "none").
    """

    latent: int
    hidden: tuple[int, ...]
    likelihood: Literal[
        "bernoulli",
        "categorical",
        "discretised-logistic",
        "discretised-logistic-mixture",
        "gaussian",
        "gaussian-summary",
    ]
    network: Network = "mlp"
    activation: Activation = "silu"
    steps: int = 5
    max_step: float = 0.5
    init_step: float = 0.2
    step_sizes: Literal["shared", "each"] = "shared"
    tempering: Literal["none", "fixed", "free"] = "fixed"
    init_temperature: float = 1.5

    def __post_init__(self) -> None:
        check_widths(self.latent, self.hidden, self.network)
        within(self, latent=(1, LATENT), hidden=(1, COUNT), steps=(0, 1000))
        if self.steps == 0 and self.step_sizes == "each":
            raise ValueError("steps = 0 leaves no step to size; use step_sizes = 'shared'")
        if not 0 < self.init_step < self.max_step < math.inf:
            raise ValueError(f"init_step = {self.init_step} should lie between 0 and max_step = {self.max_step}")
        if not 1 < self.init_temperature < math.inf:
            raise ValueError(f"init_temperature = {self.init_temperature} should be more than 1")
        if self.steps == 0 and self.tempering != "none":
            raise ValueError(f"steps = 0 leaves nothing to temper; use tempering = 'none', not {self.tempering!r}")


def _logit(probability: float) -> float:
    return math.log(probability) - math.log1p(-probability)


class Leapfrog(nn.Module):
    """The learnt parts of K leapfrog steps: eps = max_step sigmoid(`step`) (L,) or (K, L), and what the cooling needs.

    "fixed": T_0 = 1 / sigmoid(`temperature`), a scalar. "free": alpha_k = sigmoid(`alpha`), (K,). Both are absent
    otherwise, and all are where K = 0.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.register_buffer("origin", torch.zeros(options.latent), persistent=False)
        self.origin: Tensor
        self.step = self.temperature = self.alpha = None
        if options.steps:
            start = _logit(options.init_step / options.max_step)
            shape = (options.latent,) if options.step_sizes == "shared" else (options.steps, options.latent)
            self.step = nn.Parameter(torch.full(shape, start))
        if options.tempering == "fixed":
            self.temperature = nn.Parameter(torch.tensor(_logit(1 / options.init_temperature)))
        if options.tempering == "free":
            start = _logit(options.init_temperature ** (-0.5 / options.steps))
            self.alpha = nn.Parameter(torch.full((options.steps,), start))

    @property
    def step_size(self) -> Tensor:
        """eps in (0, max_step), (L,) or (K, L), in units of z; zeros where there are no steps."""
        return self.origin if self.step is None else self.options.max_step * self.step.sigmoid()

    @property
    def log_alpha(self) -> Tensor:
        """log alpha_k, (K,): zeros without tempering."""
        if self.temperature is not None:
            return quadratic_cooling((-self.temperature).exp() + 1, self.options.steps)
        return self.origin.new_zeros(self.options.steps) if self.alpha is None else nn.functional.logsigmoid(self.alpha)


@final
class Hamiltonian(LatentVariableModel):
    """p(z, rho) = N(z; 0, I) N(rho; 0, I), p(x|z) as `options.likelihood`, q(z_K, rho_K|x) by tempered leapfrog.

    z_0 ~ N(mean(x), diag variance(x)), rho_0 ~ N(0, T_0 I), then K steps on U(z) = -log p(x|z) - log N(z; 0, I), each
    followed by rho <- alpha_k rho with prod_k alpha_k^2 = 1 / T_0. Weights are over the extended space,
    log p(x|z_K) + log N(z_K; 0, I) + log N(rho_K; 0, I) - log q(z_0|x) - log N(rho_0; 0, T_0 I) + L sum_k log alpha_k,
    and their mean is unbiased for p(x); with K = 0 they are the flat VAE's. Two groups of latents (S, B, L), nats.
    U reads the decoder, which therefore also shapes q, but belongs to p.

    Source: Caterini, Doucet & Sejdinovic 2018 (arXiv 1805.11328), section 3 and algorithm 1.
    """

    def __init__(self, space: Space, options: Options) -> None:
        super().__init__(space)
        self.options = options
        outputs = channels(LIKELIHOODS[options.likelihood], space)
        build = NETWORKS[options.network]
        self.encoder, self.decoder = build(space, outputs, options.latent, options.hidden, options.activation)
        self.leapfrog = Leapfrog(options)

    def prior(self, batch: int, temperature: float = 1.0) -> LatentDistribution:
        origin = self.leapfrog.origin.expand(batch, -1)
        normal = DiagonalGaussian(origin, origin + 2 * math.log(temperature))
        return PhaseSpace(normal, normal)

    def posterior(self, x: Tensor) -> HamiltonianGaussian:
        flow = TemperedLeapfrog(lambda z: self._energy(x, z), self.leapfrog.step_size, self.leapfrog.log_alpha)
        return HamiltonianGaussian(self._base(x), flow)

    def _base(self, x: Tensor) -> DiagonalGaussian:
        """q(z_0|x)."""
        self.space.check(x)
        mean, log_variance = through(self.encoder, x).chunk(2, dim=1)
        return DiagonalGaussian(mean, log_variance)

    def _energy(self, x: Tensor, z: Tensor) -> Tensor:
        """U(z) = -log p(x|z) - log N(z; 0, I), (S, B) nats."""
        origin = self.leapfrog.origin
        return -self._likelihood(z).log_prob(x) - log_density(z, origin, origin)

    def _likelihood(self, z: Tensor) -> Likelihood:
        return LIKELIHOODS[self.options.likelihood](through(self.decoder, z), self.space.shape, self.space.levels)

    def likelihood(self, latents: Latents) -> Likelihood:
        z, _ = latents
        return self._likelihood(z)

    def draw(self, x: Tensor, samples: int) -> Draws:
        latents, log_posterior = self.posterior(x).rsample_with_log_prob(samples)
        log_likelihood = self.likelihood(latents).log_prob(x)
        return Draws(latents, log_likelihood, self.prior(len(x)).log_prob(latents), log_posterior)

    def joint(self, x: Tensor, start: Literal["posterior", "prior"] = "posterior") -> FactoredJoint:
        """p(x, z), over the noise of q(z_0|x): z alone, for momenta integrate to 1."""
        origin = self.leapfrog.origin.expand(len(x), -1)
        prior = DiagonalGaussian(origin, origin)
        q = self._base(x) if start == "posterior" else prior
        return FactoredJoint(q, prior.log_prob if start == "posterior" else None, lambda z: self._likelihood(z[0]), x)

    def embed(self, x: Tensor) -> Tensor:
        return self._base(x).mean

    def inference_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from self.encoder.named_parameters(prefix="encoder")
        yield from self.leapfrog.named_parameters(prefix="leapfrog")


plugin = (Hamiltonian, Options)
