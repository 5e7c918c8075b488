"""The prior of the first latent group: its density in representation space, and the map to generation space."""

import torch
from torch import Tensor

from vaebench.core.metric import UnavailableError
from vaebench.core.model import LatentDistribution, Latents, LatentVariableModel
from vaebench.distributions.coupling import DecoupledPrior
from vaebench.distributions.gaussian import DiagonalGaussian, TopDownGaussian
from vaebench.distributions.leapfrog import PhaseSpace
from vaebench.functional.gaussian import log_density
from vaebench.metrics.shared.passes import first_group


def first_prior(model: LatentVariableModel) -> LatentDistribution:
    """p(z_1), the prior of the first latent group, for one example."""
    prior = model.prior(1)
    if isinstance(prior, PhaseSpace):
        return prior.position
    return first_group(prior) if isinstance(prior, TopDownGaussian) else prior


def log_prior(model: LatentVariableModel, z: Tensor) -> Tensor:
    """log p(z_1) with its Jacobian where the prior is decoupled, z (M, L), (M,) float64 nats."""
    device = next(model.parameters()).device
    density = first_prior(model).log_prob((z.to(device)[:, None],))
    return density[:, 0].double().cpu()


def generation(model: LatentVariableModel, z: Tensor) -> Tensor:
    """u = g(z) (M, L), what the prior makes standard normal: the flow of a decoupled prior, z itself for a Gaussian.

    UnavailableError where the prior is neither.
    """
    prior = first_prior(model)
    if isinstance(prior, DecoupledPrior):
        u: Tensor = prior.flow(z.to(prior.flow.mask.device))[0]
        return u.cpu()
    if not isinstance(prior, DiagonalGaussian):
        kind = type(prior).__name__
        raise UnavailableError(f"generation space needs a Gaussian or decoupled prior; this model's is a {kind}")
    return z


def representation(model: LatentVariableModel, u: Tensor) -> Latents:
    """Latents whose one vector is z = g^-1(u), u (B, L), `generation` undone; a momentum beside it is drawn.

    UnavailableError where there are several groups of latents, or as `generation`.
    """
    prior = model.prior(len(u))
    groups = prior.rsample(1)
    if len(groups) > 1 and not isinstance(prior, PhaseSpace):
        raise UnavailableError(f"needs one vector of latents; this model has {len(groups)} groups")
    z = prior.flow.inverse(u) if isinstance(prior, DecoupledPrior) else u
    return (z.reshape(groups[0].shape), *groups[1:])


def log_base(model: LatentVariableModel, z: Tensor) -> Tensor:
    """l(z) = log N(g(z); 0, I), (M,) float64 nats. UnavailableError as `generation`."""
    zero = torch.zeros(1, z.shape[1], dtype=torch.float64)
    return log_density(generation(model, z).double()[:, None], zero, zero)[:, 0]
