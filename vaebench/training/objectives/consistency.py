"""Any objective on examples and on transformed examples, whose posteriors are drawn together (CR-VAE)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from vaebench.core.arithmetic import once, still_statistics
from vaebench.core.augmentation import Flip, Jitter, Transform, kind, transformed, transforms
from vaebench.core.data import Space, Split
from vaebench.core.errors import UserError
from vaebench.core.model import LatentDistribution, LatentVariableModel
from vaebench.core.objective import Loss, Objective, Wrapper
from vaebench.distributions.errors import UnavailableError


@dataclass(frozen=True)
class Options:
    """`base` is the objective wrapped; `strength` (lambda, nats per image) weighs the KL, `augmented` base on t(x).

    `transform`, `flip` and `colour` say what t is.
    """

    base: Mapping[str, Any] = field(default_factory=lambda: {"name": "elbo"})
    strength: float = 0.1
    augmented: float = 1.0
    transform: Transform = "affine-small"
    flip: Flip = "none"
    colour: Jitter = "none"

    def __post_init__(self) -> None:
        if self.base.get("name") == "consistency":
            raise ValueError("base = 'consistency' cannot wrap itself; use base = {name = 'elbo'}")
        if not (0 <= self.strength < float("inf") and 0 <= self.augmented < float("inf")):
            raise ValueError(f"strength = {self.strength} and augmented = {self.augmented} should be at least 0")


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

    t is a random affine map of each stored image (nearest neighbour, level 0 outside), made before it is binarised; x
    and t(x) are then binarised apart. On a stored cloud of points t is a turn about the vertical, a scale and
    jitter. Each passes the encoder once; of latent groups, the KL's are along one path drawn from q(z|t(x)). x
    and t(x) have batch norms of their own in training, whose running statistics are of x alone. With both weights
    0 it is base(x), to the bit. Raises UserError if the data cannot have this transform.
    Source: Sinha & Dieng 2021 (arXiv 2105.14859), the objective with weight 1 on both bounds.
    """

    version: ClassVar[int] = 2

    def __init__(self, options: Options, base: Objective) -> None:
        super().__init__(base)
        self.options = options

    def prepare(self, model: LatentVariableModel, examples: int) -> None:
        _check(model.space, self.options.transform)
        super().prepare(model, examples)

    def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
        return self.loss(model, Split("batch", x), progress)

    def loss(self, model: LatentVariableModel, stored: Split, progress: float) -> Loss:
        o, x = self.options, stored.read(stored.x)
        if not (o.strength or o.augmented):
            alone: Loss = self.base(model, x, progress)
            return alone
        other = self.transform(stored, model.space)
        with once(x, other):
            first: Loss = self.base(model, x, progress)
            total, terms = first.total, dict(first.terms)
            with still_statistics(model):
                if o.augmented:
                    second: Loss = self.base(model, other, progress)
                    total, terms["augmented"] = total + o.augmented * second.total, second.total
                q, p = model.posterior(other), model.posterior(x)
                with torch.set_grad_enabled(torch.is_grad_enabled() and o.strength > 0):  # else only logged
                    kl = _kl(q, p).mean()
        return Loss(total + o.strength * kl, {**terms, "consistency": kl})

    @torch.no_grad()
    def transform(self, stored: Split, space: Space) -> Tensor:
        """A reading of t(x), (B, *shape) in `space`."""
        o = self.options
        _check(space, o.transform)
        return stored.read(transformed(stored, space, o.transform, o.flip, o.colour))


def _check(space: Space, transform: Transform) -> None:
    if transform not in (known := transforms(space)):
        remedy = f"use one of {', '.join(known)}" if known else "use its base objective alone"
        raise UserError(
            f"objective 'consistency' cannot transform {kind(space)} by transform = {transform!r}, which is for "
            f"{'images of integers' if transform.startswith('affine') else 'clouds of points'}; {remedy}"
        )


plugin = (Consistency, Options)
