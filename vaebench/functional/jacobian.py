"""The Jacobian of a decoder in each latent coordinate, by forward-mode differentiation."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp, vmap


def latent_jacobian(decode: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """d decode(z) / d z_l for each l, (L, *decode(z).shape), of a `decode` that treats all but the last axis as batch.

    One Jacobian-vector product for each of the L basis vectors, all in one vectorised pass; differentiable once in the
    parameters of `decode`. z (..., L).
    """

    def along(tangent: Tensor) -> Tensor:
        product: Tensor = jvp(decode, (z,), (tangent.expand_as(z),))[1]
        return product

    with warnings.catch_warnings():  # the first jvp of a process loads parts of torch that use what torch deprecates
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
        derivatives: Tensor = vmap(along)(torch.eye(z.shape[-1], dtype=z.dtype, device=z.device))
    return derivatives


def jacobian_penalty(derivatives: Tensor, batch: int, power: int = 1) -> Tensor:
    """(1/B) sum |derivative|^power over latents, examples and data dimensions: a scalar, per example.

    Source: Rhodes & Lee 2021 (JL1-VAE), section 3; `power` 2 is their JL2.
    """
    size = derivatives.abs() if power == 1 else derivatives.square()
    return size.sum() / batch
