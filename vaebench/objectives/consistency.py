"""Any objective on images and on transformed images, whose posteriors are drawn together (CR-VAE)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, final

import torch
from torch import Tensor

from ..data import Space
from ..distributions import noise
from ..distributions.gaussian import DiagonalGaussian, TopDownGaussian
from ..errors import UserError
from ..functional.augment import affine, stochastic_round
from ..functional.divergence import kl_gaussian
from ..model import LatentDistribution, LatentVariableModel
from ..objective import Loss, Objective, Wrapper

RANGES = {"affine-small": (15.0, 0.05, 0.1), "affine-large": (30.0, 0.10, 0.25)}
"""How far each way: degrees, shift as a fraction of the side, change of scale."""


@dataclass(frozen=True)
class Options:
    """`base` is the objective wrapped; `strength` (lambda) weighs the KL, `augmented` the base on moved images."""

    base: Mapping[str, Any] = field(default_factory=lambda: {"name": "elbo"})
    strength: float = 1e-3
    augmented: float = 1.0
    transform: Literal["affine-small", "affine-large"] = "affine-small"
    flip: Literal["none", "horizontal", "vertical"] = "none"

    def __post_init__(self) -> None:
        if self.base.get("name") == "consistency":
            raise ValueError("base = 'consistency' cannot wrap itself; use base = {name = 'elbo'}")


def divergence(q: LatentDistribution, p: LatentDistribution) -> Tensor:
    """KL(q || p), (B,) nats: exact between diagonal Gaussians; between chains, the sum of the groups' exact KLs.

    A chain's groups are conditioned on one draw of q, the same for both. UserError for other distributions.
    """
    if isinstance(q, DiagonalGaussian) and isinstance(p, DiagonalGaussian):
        return kl_gaussian(q.mean, q.log_variance, p.mean, p.log_variance)
    if isinstance(q, TopDownGaussian) and isinstance(p, TopDownGaussian):
        return q.kl(p)
    raise UserError(
        f"objective 'consistency' needs a Gaussian posterior, but this model's is a {type(q).__name__}; "
        "use its base objective alone"
    )


@final
class Consistency(Wrapper):
    """base(x) + augmented base(t(x)) + strength KL(q(z|t(x)) || q(z|x)), nats per example, means over the batch.

    t is a random affine map of each image (bilinear, level 0 outside), rounded at random to integers with the same
    mean: binary images are binarised afresh. UserError where the data are no images of integers.
    Source: Sinha & Dieng 2021 (arXiv 2105.14859), the objective with weight 1 on both bounds.
    """

    def __init__(self, options: Options, base: Objective) -> None:
        super().__init__(base)
        self.options = options

    def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
        moved = self.transform(x, model.space)
        first: Loss = self.base(model, x, progress)
        second: Loss = self.base(model, moved, progress)
        kl = divergence(model.posterior(moved), model.posterior(x)).mean()
        total = first.total + self.options.augmented * second.total + self.options.strength * kl
        return Loss(total, {**first.terms, "augmented": second.total, "consistency": kl})

    @torch.no_grad()
    def transform(self, x: Tensor, space: Space) -> Tensor:
        """t(x), (B, C, H, W) uint8 in the same space."""
        if space.levels is None or len(space.shape) != 3:
            kind = "real numbers" if space.levels is None else "integers"
            raise UserError(
                f"objective 'consistency' transforms images of integers, but the data are {kind} of shape "
                f"{list(space.shape)}; use its base objective alone"
            )
        degrees, shift, change = RANGES[self.options.transform]
        like = torch.empty((), device=x.device)
        u = 2 * noise.uniform((1, len(x), 5), like)[0] - 1
        signs = torch.ones_like(u[:, :2])
        if self.options.flip != "none":
            signs[:, 0 if self.options.flip == "horizontal" else 1] = torch.where(u[:, 4] < 0, -1.0, 1.0)
        value = affine(x.float(), degrees * u[:, 0], shift * u[:, 1:3], 1 + change * u[:, 3], signs)
        return stochastic_round(value, noise.uniform((1, *x.shape), like)[0], space.levels)


plugin = (Consistency, Options)
