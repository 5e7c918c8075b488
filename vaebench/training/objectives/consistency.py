"""Any objective on images and on transformed images, whose posteriors are drawn together (CR-VAE)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from vaebench.core.augmentation import Flip, Transform, refusal, transformed
from vaebench.core.data import Space
from vaebench.core.errors import UserError
from vaebench.core.model import LatentDistribution, LatentVariableModel
from vaebench.core.objective import Loss, Objective, Wrapper
from vaebench.distributions.errors import UnavailableError


@dataclass(frozen=True)
class Options:
    """`base` is the objective wrapped; `strength` (lambda) weighs the KL, `augmented` the base on transformed ones."""

    base: Mapping[str, Any] = field(default_factory=lambda: {"name": "elbo"})
    strength: float = 1e-3
    augmented: float = 1.0
    transform: Transform = "affine-small"
    flip: Flip = "none"

    def __post_init__(self) -> None:
        if self.base.get("name") == "consistency":
            raise ValueError("base = 'consistency' cannot wrap itself; use base = {name = 'elbo'}")


def _kl(q: LatentDistribution, p: LatentDistribution) -> Tensor:
    """KL(q || p), (B,) nats. Raises UserError if it has no closed form."""
    try:
        return q.kl(p)
    except UnavailableError as error:
        raise UserError(
            f"objective 'consistency' needs a Gaussian posterior, but this model's is a {q.kind}; "
            "use its base objective alone"
        ) from error


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
        other = self.transform(x, model.space)
        first: Loss = self.base(model, x, progress)
        second: Loss = self.base(model, other, progress)
        kl = _kl(model.posterior(other), model.posterior(x)).mean()
        total = first.total + self.options.augmented * second.total + self.options.strength * kl
        return Loss(total, {**first.terms, "augmented": second.total, "consistency": kl})

    @torch.no_grad()
    def transform(self, x: Tensor, space: Space) -> Tensor:
        """t(x), (B, C, H, W) uint8 in the same space."""
        if (kind := refusal(space)) is not None:
            raise UserError(
                f"objective 'consistency' transforms images of integers, but the data are {kind}; "
                "use its base objective alone"
            )
        return transformed(x, space, self.options.transform, self.options.flip)


plugin = (Consistency, Options)
