"""What a training objective is: a function of a model and a batch, with whatever state belongs to it."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from vaebench.core.data import Split
from vaebench.core.errors import UserError
from vaebench.core.model import Latents, LatentVariableModel


class Loss(NamedTuple):
    """`total` to minimise (a scalar, nats per example), and named parts of it to log and to blame."""

    total: Tensor
    terms: dict[str, Tensor]


class Adam(NamedTuple):
    """An Adam at a constant rate, for the parameters of an objective."""

    learning_rate: float
    betas: tuple[float, float]


class Objective(nn.Module, ABC):
    """A training objective. Its parameters (a discriminator's, say) and buffers are saved and resumed with it."""

    version: ClassVar[int] = 1
    """Raised when equal options come to mean another training: older states are then not resumed"""
    examples: int = 1
    """N, the size of the training set, once prepared"""
    adam: Adam | None = None
    """The optimiser of its parameters; None for that of the model's"""

    def prepare(self, model: LatentVariableModel, examples: int) -> None:
        """Called once, before the first step or a resumed one: `model` is to be trained on `examples` examples.

        An objective whose parameters depend on the model makes them here. Raises UserError if it cannot train `model`.
        """
        self.examples = examples

    @abstractmethod
    def forward(self, model: LatentVariableModel, x: Tensor, progress: float) -> Loss:
        """The loss of a batch x (B, *shape); `progress` in [0, 1] is the fraction of training done."""

    def loss(self, model: LatentVariableModel, stored: Split, progress: float) -> Loss:
        """The loss of the examples of `stored`, which are read here: by default, `forward` of one reading."""
        found: Loss = self(model, stored.read(stored.x), progress)
        return found


class Wrapper(Objective, ABC):
    """An objective around another, `base`, which its options name in a table `base`: {"name": ..., its options}."""

    def __init__(self, base: Objective) -> None:
        super().__init__()
        self.base = base
        self.adam = base.adam

    def prepare(self, model: LatentVariableModel, examples: int) -> None:
        super().prepare(model, examples)
        self.base.prepare(model, examples)


def vector(latents: Latents, objective: str) -> Tensor:
    """The only group of `latents`, (S, B, L). Raises UserError if there are more, or if it is not a vector."""
    if len(latents) != 1 or latents[0].ndim != 3:
        groups = ", ".join(str(list(group.shape[2:])) for group in latents)
        raise UserError(
            f"objective {objective!r} acts on one latent vector, but the model's latent groups have shapes {groups}; "
            "use objective 'elbo' or 'iwae'"
        )
    return latents[0]
