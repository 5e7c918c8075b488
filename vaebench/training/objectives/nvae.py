"""NVAE's bound: a rate that warms up with its groups balanced, and penalties on convolutions and batch norm."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vaebench.core.errors import UserError
from vaebench.core.model import HierarchicalModel, LatentVariableModel
from vaebench.core.objective import Loss, Objective
from vaebench.functional.spectral import power_iteration
from vaebench.models.networks.nvae_cells import Conv

SMALLEST_BETA, FLOOR = 1e-4, 0.01  # of beta; added to each group's rate when groups are balanced
FIRST_ROUNDS, ROUNDS = 40, 4  # of power iteration


@dataclass(frozen=True)
class Options:
    """`warmup` and `constant` are fractions of training: beta is 1e-4 through `constant`, then rises to 1 in `warmup`.

    `balance` weighs the groups' rates while beta is below 1. `penalty` (lambda) weighs the largest singular value of
    every convolution and the largest scale of every batch norm; with `initial_penalty` it goes from there to `penalty`
    as beta does, log-linearly.
    """

    warmup: float = 0.3
    constant: float = 1e-4
    balance: bool = True
    penalty: float = 1e-2
    initial_penalty: float | None = None

    def __post_init__(self) -> None:
        if self.warmup <= 0 or self.constant < 0 or self.warmup + self.constant > 1:
            raise ValueError(f"warmup = {self.warmup} and constant = {self.constant} should be fractions of training")
        if self.penalty < 0 or (self.initial_penalty is not None and min(self.penalty, self.initial_penalty) <= 0):
            raise ValueError("penalty should be at least 0, and positive where it has an initial_penalty")


def alpha(groups_per_scale: Sequence[int]) -> Tensor:
    """The weight of each group's rate, (G,), from the lowest resolution: (2^i)^2 / groups of scale i, smallest 1.

    Source: Vahdat & Kautz 2020, appendix A.
    """
    weights = torch.tensor([4.0**i / count for i, count in enumerate(groups_per_scale) for _ in range(count)])
    return weights / weights.min()


def balance(rates: Tensor, weights: Tensor) -> Tensor:
    """gamma (G,), of mean 1, from `rates` (G, B) and `weights` alpha (G,): (E|KL_g| + 0.01) sum_j (...) / alpha_g.

    No gradient goes through it. Source: Vahdat & Kautz 2020, appendix A.
    """
    size = rates.detach().abs().mean(1) + FLOOR
    raw = size * size.sum() / weights.to(size)
    return raw / raw.mean()


class Nvae(Objective):
    """Mean of -E_q[log p(x|z)] + beta sum_g gamma_g KL_g, plus lambda (sum sigma_max(W) + sum max |scale|), nats.

    beta = max(min((t - constant) / warmup, 1), 1e-4) with t the fraction of training done; gamma is `balance` while
    beta < 1, else 1. W is each convolution's effective weight, out x rest, and sigma_max follows by power iteration
    (4 rounds a step, 40 before the first), whose vectors are saved and resumed. In evaluation mode the loss is the
    negative ELBO. Raises UserError for a model without groups.
    Source: Vahdat & Kautz 2020 (arXiv 2007.03898), sections 3.2 and 4, appendix A.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    def prepare(self, model: LatentVariableModel, examples: int) -> None:
        super().prepare(model, examples)
        if self.options.penalty == 0:
            return
        for i, weights in enumerate(_stacked(model)):
            _, vectors = power_iteration(weights.detach(), torch.randn(weights.shape[:2]).to(weights), FIRST_ROUNDS)
            self.register_buffer(f"left{i}", vectors)

    def beta(self, progress: float) -> float:
        """The weight of the rate."""
        o = self.options
        return max(min((progress - o.constant) / o.warmup, 1.0), SMALLEST_BETA)

    def strength(self, beta: float) -> float:
        """lambda."""
        first, last = self.options.initial_penalty, self.options.penalty
        return last if first is None else math.exp((1 - beta) * math.log(first) + beta * math.log(last))

    def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
        if not isinstance(model, HierarchicalModel):
            raise UserError(
                f"objective 'nvae' needs a model of latent groups, but this one is a {type(model).__name__}; use 'elbo'"
            )
        beta = self.beta(progress)
        draws, rates = model.draw_groups(x, 1)
        distortion, each = -draws.log_likelihood.mean(), rates[:, 0]
        rate = each.sum(0).mean()
        weighed = rate
        if self.training and self.options.balance and beta < 1:
            gamma = balance(each, alpha(model.groups_per_scale))
            weighed = (gamma[:, None] * each).sum(0).mean()
        terms = {"distortion": distortion, "rate": rate}
        total = distortion + beta * weighed
        if self.training and self.options.penalty:
            terms |= self.penalties(model)
            total = total + self.strength(beta) * (terms["spectral"] + terms["batch_norm"])
        return Loss(total, terms)

    def penalties(self, model: LatentVariableModel) -> dict[str, Tensor]:
        """sum_layers sigma_max(W) and sum_norms max |scale|; the vectors of the power iteration move on."""
        device = next(model.parameters()).device
        spectral = scales = torch.zeros((), device=device)
        for i, weights in enumerate(_stacked(model)):
            sigma, vectors = power_iteration(weights, self.get_buffer(f"left{i}"), ROUNDS)
            self.get_buffer(f"left{i}").copy_(vectors)
            spectral = spectral + sigma.sum()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                scales = scales + module.weight.abs().max()
        return {"spectral": spectral, "batch_norm": scales}


def _stacked(model: LatentVariableModel) -> list[Tensor]:
    """The effective weights of all convolutions as matrices (out, rest), those of a shape together: (M, R, C) each."""
    shapes: dict[Any, list[Tensor]] = {}
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.effective_weight() if isinstance(module, Conv) else module.weight
            shapes.setdefault(tuple(weight.flatten(1).shape), []).append(weight.flatten(1))
    return [torch.stack(weights) for weights in shapes.values()]


plugin = (Nvae, Options)
