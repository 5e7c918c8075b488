"""Hamiltonian importance sampling: a Gaussian carried by leapfrog steps with cooling, and its exact density.

Latents are two groups, position z and momentum rho, each (S, B, L).
Source: Caterini, Doucet & Sejdinovic 2018 (HVAE, arXiv 1805.11328), section 3.
"""

from collections.abc import Callable
from typing import NoReturn, final

import torch
from torch import Tensor

from vaebench.distributions import noise
from vaebench.distributions.errors import UnavailableError
from vaebench.distributions.gaussian import DiagonalGaussian
from vaebench.distributions.latent import LatentDistribution, Latents
from vaebench.functional.gaussian import log_density, log_density_of_noise
from vaebench.functional.transforms import transformed

Potential = Callable[[Tensor], Tensor]
"""U(z) = -log p(x, z) up to a constant: z (S, B, L) to (S, B) nats."""


def quadratic_cooling(temperature: Tensor, steps: int) -> Tensor:
    """log alpha_k for k = 1..K, (K,), with alpha_k^2 = T_k / T_{k-1} and T_k = (1 - T_0) k^2 / K^2 + T_0.

    `temperature` is T_0 > 0 (a scalar). T_K = 1, so that prod_k alpha_k^2 = 1 / T_0.
    Source: Caterini, Doucet & Sejdinovic 2018 (arXiv 1805.11328), section 3.
    """
    fraction = (torch.arange(steps + 1, dtype=temperature.dtype, device=temperature.device) / steps).square()
    return 0.5 * ((1 - temperature) * fraction + temperature).log().diff()


@final
class TemperedLeapfrog:
    """The bijection of (z, rho) made of K = len(log_alpha) leapfrog steps on `potential` U, each followed by cooling.

    Step k: rho' = rho - eps/2 dU(z), z <- z + eps rho', rho'' = rho' - eps/2 dU(z), rho <- alpha_k rho''.
    `step` is eps > 0, (L,) or one for each step, (K, L); `log_alpha` is log alpha_k (K,). Each leapfrog step is three
    shears, so that log |det| = L sum_k log alpha_k whatever U is. Where gradients are on, the map is differentiable in
    (z, rho), in eps, in alpha and in what U depends on; where they are off, no graph is kept. dU is computed K + 1
    times.
    """

    def __init__(self, potential: Potential, step: Tensor, log_alpha: Tensor) -> None:
        self.potential, self.step, self.log_alpha = potential, step, log_alpha

    @property
    def log_det(self) -> Tensor:
        """log |det d(z_K, rho_K) / d(z_0, rho_0)| = L sum_k log alpha_k: a scalar, for it does not depend on where."""
        return self.step.shape[-1] * self.log_alpha.sum()

    @property
    def log_temperature(self) -> Tensor:
        """log T_0 of the momentum that the steps cool to temperature 1: prod_k alpha_k^2 = 1 / T_0. A scalar."""
        return -2 * self.log_alpha.sum()

    def _steps(self) -> list[tuple[Tensor, Tensor]]:
        """eps (L,) and alpha of each step."""
        sizes = self.step.expand(len(self.log_alpha), -1)
        return list(zip(sizes.unbind(), self.log_alpha.exp().unbind(), strict=True))

    def _force(self, z: Tensor) -> Tensor:
        """-dU/dz, (S, B, L)."""
        if transformed(z):  # inside torch.func.vmap, which refuses autograd.grad
            slope: Tensor = torch.func.grad(lambda at: self.potential(at).sum())(z)
            return -slope
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad():
            at = z if differentiable and z.requires_grad else z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.potential(at).sum(), at, create_graph=differentiable)
        return -gradient

    def forward(self, z: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
        """(z_K, rho_K) from (z_0, rho_0)."""
        if not len(self.log_alpha):
            return z, rho
        force = self._force(z)
        for step, alpha in self._steps():
            rho = rho + 0.5 * step * force
            z = z + step * rho
            force = self._force(z)
            rho = alpha * (rho + 0.5 * step * force)
        return z, rho

    def inverse(self, z: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
        """(z_0, rho_0) from (z_K, rho_K): the shears undone in reverse, exact up to rounding."""
        if not len(self.log_alpha):
            return z, rho
        force = self._force(z)
        for step, alpha in reversed(self._steps()):
            rho = rho / alpha - 0.5 * step * force
            z = z - step * rho
            force = self._force(z)
            rho = rho - 0.5 * step * force
        return z, rho


@final
class HamiltonianGaussian(LatentDistribution):
    """q(z, rho): z_0 ~ `base` and rho_0 ~ N(0, T_0 I) carried through `flow`, for B examples."""

    def __init__(self, base: DiagonalGaussian, flow: TemperedLeapfrog) -> None:
        self.base, self.flow = base, flow

    def chain(self) -> NoReturn:
        raise UnavailableError("needs a q(z|x) with a density in z alone; a Hamiltonian model's has one with momenta")

    def rsample(self, samples: int) -> tuple[Tensor, ...]:
        """(z_K, rho_K): two groups (S, B, L)."""
        return self.rsample_with_log_prob(samples)[0]

    def rsample_with_log_prob(self, samples: int) -> tuple[Latents, Tensor]:
        """`rsample` and its `log_prob`, from where the draws started and so without inverting the flow."""
        (z,), log_q = self.base.rsample_with_log_prob(samples)  # first: its noise is what `base` alone would use
        eps, heat = noise.standard_normal(tuple(z.shape), z), self.flow.log_temperature
        latents = self.flow.forward(z, (0.5 * heat).exp() * eps)
        return latents, log_q + log_density_of_noise(eps, heat) - self.flow.log_det

    def log_prob(self, latents: tuple[Tensor, ...]) -> Tensor:
        """log q(z_K, rho_K) = log q(z_0) + log N(rho_0; 0, T_0 I) - L sum_k log alpha_k, (S, B) nats."""
        z, rho = self.flow.inverse(*latents)
        momentum = log_density(rho, torch.zeros_like(rho), self.flow.log_temperature)
        return self.base.log_prob((z,)) + momentum - self.flow.log_det

    def first(self) -> LatentDistribution:
        raise UnavailableError(f"needs a diagonal Gaussian q(z|x); this model's is a {self.kind}")


@final
class PhaseSpace(LatentDistribution):
    """p(z) p(rho) for B examples: the product of two independent Gaussians."""

    def __init__(self, position: DiagonalGaussian, momentum: DiagonalGaussian) -> None:
        self.position, self.momentum = position, momentum

    def rsample(self, samples: int) -> tuple[Tensor, ...]:
        """(z, rho): two groups (S, B, L)."""
        return self.rsample_with_log_prob(samples)[0]

    def rsample_with_log_prob(self, samples: int) -> tuple[Latents, Tensor]:
        z, log_z = self.position.rsample_with_log_prob(samples)
        rho, log_rho = self.momentum.rsample_with_log_prob(samples)
        return (*z, *rho), log_z + log_rho

    def log_prob(self, latents: tuple[Tensor, ...]) -> Tensor:
        """log p(z) + log p(rho), (S, B) nats."""
        z, rho = latents
        return self.position.log_prob((z,)) + self.momentum.log_prob((rho,))

    def first(self) -> DiagonalGaussian:
        return self.position

    def to_base(self, z: Tensor) -> Tensor:
        return self.position.to_base(z)

    def from_base(self, u: Tensor) -> Latents:
        _, momentum = self.rsample(1)
        return (*self.position.from_base(u), momentum)
