"""Any objective on images with random pixels: the background model of the likelihood ratio."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from vaebench.core.data import Space
from vaebench.core.errors import UserError
from vaebench.core.model import LatentVariableModel
from vaebench.core.objective import Loss, Objective, Wrapper
from vaebench.distributions import noise


@dataclass(frozen=True)
class Options:
    """`base` is the objective wrapped; `rate` (mu) the probability that a pixel is replaced."""

    base: Mapping[str, Any] = field(default_factory=lambda: {"name": "elbo"})
    rate: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate = {self.rate} must lie in [0, 1]; the paper uses 0.1 to 0.3")
        if self.base.get("name") == "mutated":
            raise ValueError("base = 'mutated' cannot wrap itself; use base = {name = 'elbo'}")


@final
class Mutated(Wrapper):
    """base(m(x)): m replaces each number of x, with probability `rate`, by a level drawn uniformly from all.

    A model trained so knows what is common to all images, pixel by pixel, but less of what these are of.
    Raises UserError if the data are not integers.
    Source: Ren et al. 2019 (Likelihood ratios for out-of-distribution detection, arXiv 1906.02845), section 3.
    """

    def __init__(self, options: Options, base: Objective) -> None:
        super().__init__(base)
        self.options = options

    def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
        loss: Loss = self.base(model, self.mutate(x, model.space), progress)
        return loss

    @torch.no_grad()
    def mutate(self, x: Tensor, space: Space) -> Tensor:
        """m(x), (B, *shape), in the same space and dtype."""
        if space.levels is None:
            raise UserError("objective 'mutated' replaces levels, but the data are real numbers; use its base alone")
        like = torch.empty((), device=x.device)
        replaced = noise.uniform((1, *x.shape), like)[0] < self.options.rate
        level = (noise.uniform((1, *x.shape), like)[0] * space.levels).to(x.dtype)  # uniform is at most 1 - 2**-24
        return torch.where(replaced, level, x)


plugin = (Mutated, Options)
