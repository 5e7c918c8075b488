"""What a training objective is: a function of a model and a batch, with whatever state belongs to it."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from .model import LatentVariableModel


class Loss(NamedTuple):
    """`total` to minimise (a scalar, nats per example), and named parts of it to log and to blame."""

    total: Tensor
    terms: dict[str, Tensor]


class Objective(nn.Module, ABC):
    """A training objective. Its parameters (a discriminator's, say) and buffers are saved and resumed with it."""

    @abstractmethod
    def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
        """The loss of a batch x (B, *shape); `progress` in [0, 1] is the fraction of training done."""
