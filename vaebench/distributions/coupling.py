"""The decoupled prior: a standard normal seen through a stack of affine couplings.

Source: Bhalodia, Lee & Elhabian 2020 (dpVAE, arXiv 1911.10506), equations 3 to 5; the coupling layer is that of
Dinh, Sohl-Dickstein & Bengio 2017 (RealNVP), equations 7 and 8.
"""

import math
from typing import ClassVar, NoReturn, cast, final

import torch
from torch import Tensor, nn

from vaebench.distributions import noise
from vaebench.distributions.errors import UnavailableError
from vaebench.distributions.latent import LatentDistribution, Latents
from vaebench.functional.gaussian import log_density_of_noise


def _net(width: int, hidden: int) -> nn.Sequential:
    layers = [nn.Linear(width, hidden), nn.LeakyReLU(), nn.Linear(hidden, hidden), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, width), nn.Tanh())


@final
class CouplingFlow(nn.Module):
    """The bijection between generation space u and representation space z: `couplings` affine couplings.

    Coupling k, from u to z, with mask b: y = b u + (1 - b) (u exp(s(b u)) + t(b u)). Masks are alternating halves
    (single coordinates for L = 2). The map g of the paper, z to u, is `forward`; `inverse` is g^-1.
    Buffers and parameters: `mask` (couplings, L), `s.k`, `t.k`, as in the paper's release.
    """

    mask: Tensor

    def __init__(self, width: int, couplings: int = 6, hidden: int = 64) -> None:
        super().__init__()
        if width < 2:
            raise ValueError(f"a decoupled prior needs at least 2 latent dimensions, not {width}")
        half = (torch.arange(width) < width // 2).float()
        self.register_buffer("mask", torch.stack([half if k % 2 == 0 else 1 - half for k in range(couplings)]))
        self.s = nn.ModuleList(_net(width, hidden) for _ in range(couplings))
        self.t = nn.ModuleList(_net(width, hidden) for _ in range(couplings))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """u = g(z) (..., L), and log |det dg/dz| (...)."""
        log_det = torch.zeros(z.shape[:-1], dtype=z.dtype, device=z.device)
        for mask, s, t in zip(reversed(self.mask), reversed(self.s), reversed(self.t), strict=True):
            kept = mask * z
            scale = (1 - mask) * s(kept)
            z = kept + (1 - mask) * (z - t(kept)) * torch.exp(-scale)
            log_det = log_det - scale.sum(-1)
        return z, log_det

    def inverse(self, u: Tensor) -> Tensor:
        """z = g^-1(u), (..., L)."""
        return self.inverse_with_log_det(u)[0]

    def inverse_with_log_det(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """z = g^-1(u) (..., L), and log |det dg/dz| at z (...)."""
        log_det = torch.zeros(u.shape[:-1], dtype=u.dtype, device=u.device)
        for mask, s, t in zip(self.mask, self.s, self.t, strict=True):
            kept = mask * u
            scale = s(kept)
            u = kept + (1 - mask) * (u * torch.exp(scale) + t(kept))
            log_det = log_det - ((1 - mask) * scale).sum(-1)
        return u, log_det


@final
class DecoupledPrior(LatentDistribution):
    """p(z) = N(g(z); 0, t^2 I) |det dg/dz| for B examples: `flow` is g, t the temperature."""

    decoupled: ClassVar[bool] = True

    def __init__(self, flow: CouplingFlow, batch: int, temperature: float = 1.0) -> None:
        self.flow, self.batch, self.temperature = flow, batch, temperature

    def rsample(self, samples: int) -> tuple[Tensor, ...]:
        """One group: ((S, B, L),), z = g^-1(t eps)."""
        return self.rsample_with_log_prob(samples)[0]

    def rsample_with_log_prob(self, samples: int) -> tuple[Latents, Tensor]:
        return self.made(noise.standard_normal((samples, self.batch, self.size), self.flow.mask))

    def log_prob(self, latents: tuple[Tensor, ...]) -> Tensor:
        """log p(z) = log N(g(z); 0, t^2 I) + log |det dg/dz|, (S, B) nats."""
        u, log_det = self.flow(latents[0])
        width = u.shape[-1]
        square = u.square().sum(-1) / self.temperature**2
        normal: Tensor = -0.5 * (square + width * math.log(2 * math.pi * self.temperature**2))
        return normal + cast(Tensor, log_det)

    def chain(self) -> NoReturn:
        raise UnavailableError("needs a q(z|x) that factorises in the prior's noise, which a decoupled prior bends")

    def to_base(self, z: Tensor) -> Tensor:
        u: Tensor = self.flow(z)[0]
        return u

    def from_base(self, u: Tensor) -> Latents:
        return (self.flow.inverse(u)[None],)

    @property
    def size(self) -> int:
        """L, as many numbers of noise as make a draw."""
        return self.flow.mask.shape[1]

    def made(self, noise: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The draws g^-1(t noise) that `noise` (S, B, L) makes, and their log density (S, B), from the noise itself."""
        z, log_det = self.flow.inverse_with_log_det(self.temperature * noise)
        return (z,), log_density_of_noise(noise, torch.full_like(noise[0], 2 * math.log(self.temperature))) + log_det

    def noise_of(self, latents: tuple[Tensor, ...]) -> Tensor:
        """The noise g(z) / t that makes `latents`."""
        u, _ = self.flow(latents[0])
        return cast(Tensor, u) / self.temperature
