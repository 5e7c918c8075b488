"""The optimiser of a recipe: one for all parameters, with groups that a rate and a norm of gradients are of."""

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from vaebench.core.errors import UserError
from vaebench.core.objective import Objective
from vaebench.models.card import Recipe


@final
@dataclass(frozen=True)
class Steps:
    """`optimiser`, and how many of its groups, the first ones, follow the recipe's rate and share one norm."""

    optimiser: torch.optim.Optimizer
    scheduled: int

    def rate(self, learning_rate: float) -> None:
        """Set the rate of the groups that follow the recipe's."""
        for group in self.optimiser.param_groups[: self.scheduled]:
            group["lr"] = learning_rate

    def _groups(self) -> list[list[nn.Parameter]]:
        groups: list[list[nn.Parameter]] = [group["params"] for group in self.optimiser.param_groups]
        return [[p for group in groups[: self.scheduled] for p in group], *groups[self.scheduled :]]

    def norms(self) -> list[Tensor]:
        """The norm of the gradient of each part that has a rate of its own."""
        return [get_total_norm([p.grad for p in group if p.grad is not None]) for group in self._groups()]

    def clip(self, most: float, norms: list[Tensor]) -> None:
        """Scale each part's gradient down to the norm `most`."""
        for group, norm in zip(self._groups(), norms, strict=True):
            clip_grads_with_norm_(group, most, norm)


def build(recipe: Recipe, model: nn.Module, objective: Objective) -> Steps:
    """The recipe's optimiser of both, in which an objective that has an Adam of its own keeps its settings.

    Adam's steps of a group depend on nothing of another's: they are those of an optimiser of its own. UserError where
    the objective has an Adam and the recipe's optimiser is another.
    """
    betas, own = (recipe.betas[0], recipe.betas[1]), objective.adam
    groups: list[dict[str, Any]] = [{"params": list(part.parameters())} for part in (model, objective)]
    if own is not None:
        groups[1] |= {"lr": own.learning_rate, "betas": own.betas, "eps": 1e-8, "weight_decay": 0.0}
    groups = [group for group in groups if group["params"]]
    scheduled = len(groups) if own is None else 1
    rest = (recipe.learning_rate, betas, recipe.eps, recipe.weight_decay)
    if recipe.optimiser == "adam":
        return Steps(torch.optim.Adam(groups, *rest, fused=True), scheduled)
    if own is not None:
        raise UserError(f"the objective has an Adam of its own beside optimiser = {recipe.optimiser!r}; use 'adam'")
    return Steps(torch.optim.Adamax(groups, *rest), scheduled)
