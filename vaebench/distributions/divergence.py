"""The KL between two Gaussian latent distributions, in one vector or in a chain of groups."""

from torch import Tensor

from vaebench.distributions.gaussian import DiagonalGaussian, TopDownGaussian
from vaebench.functional.divergence import kl_gaussian

Gaussians = DiagonalGaussian | TopDownGaussian


def divergence(q: Gaussians, p: Gaussians) -> Tensor:
    """KL(q || p), (B,) nats: exact between diagonal Gaussians; between chains, the sum of the groups' exact KLs.

    A chain's groups are conditioned on one draw of q, the same for both, so that the sum is unbiased. TypeError where
    the two are of different kinds.
    """
    if isinstance(q, DiagonalGaussian) and isinstance(p, DiagonalGaussian):
        return kl_gaussian(q.mean, q.log_variance, p.mean, p.log_variance)
    if isinstance(q, TopDownGaussian) and isinstance(p, TopDownGaussian):
        return q.kl(p)
    raise TypeError(f"no KL between a {type(q).__name__} and a {type(p).__name__}")
