"""The prior of the first latent group: its density in representation space, and the map to generation space."""

import torch
from torch import Tensor

from vaebench.core.model import Latents, LatentVariableModel
from vaebench.functional.gaussian import log_density


def log_prior(model: LatentVariableModel, z: Tensor) -> Tensor:
    """log p(z_1) with its Jacobian where the prior is decoupled, z (M, L), (M,) float64 nats."""
    density = model.prior(1).first().log_prob((z.to(_device(model))[:, None],))
    return density[:, 0].double().cpu()


def generation(model: LatentVariableModel, z: Tensor) -> Tensor:
    """u = g(z) (M, L), what the prior makes standard normal: the flow of a decoupled prior, z itself for a Gaussian.

    Raises UnavailableError if the prior is neither.
    """
    return model.prior(1).first().to_base(z.to(_device(model))).cpu()


def representation(model: LatentVariableModel, u: Tensor) -> Latents:
    """Latents whose one vector is z = g^-1(u), u (B, L), `generation` undone; a momentum beside it is drawn.

    Raises UnavailableError if there are several groups of latents, or as `generation`.
    """
    return model.prior(len(u)).from_base(u)


def log_base(model: LatentVariableModel, z: Tensor) -> Tensor:
    """l(z) = log N(g(z); 0, I), (M,) float64 nats. UnavailableError as `generation`."""
    zero = torch.zeros(1, z.shape[1], dtype=torch.float64)
    return log_density(generation(model, z).double()[:, None], zero, zero)[:, 0]


def _device(model: LatentVariableModel) -> torch.device:
    return next(model.parameters()).device
