"""What is evaluated: a model with its weights, on a dataset, under a name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import final

from vaebench.core import files
from vaebench.core.content import tensors_identity
from vaebench.core.data import Dataset
from vaebench.core.errors import DataError, UserError
from vaebench.core.model import LatentVariableModel
from vaebench.core.names import check_name
from vaebench.models import card as cards
from vaebench.models import loading
from vaebench.models.card import Card
from vaebench.models.fitting import fit


@final
@dataclass(frozen=True, eq=False)
class Entry:
    """A model under its `name` on the board, and the dataset that it is evaluated on.

    `build` makes the model, weights included; `architecture` names its code and options by content, `weights_sha256`
    its weights. `weights` is their file, where there is one, and `trajectory` the folder of checkpoints along the
    training: None for the one beside the weights.
    """

    name: str
    dataset: Dataset
    build: Callable[[], LatentVariableModel]
    architecture: str
    weights_sha256: str
    weights: Path | None = None
    trajectory: Path | None = None

    @cached_property
    def model(self) -> LatentVariableModel:
        """The model, in evaluation mode, made when first asked for. Raises UserError or DataError if it cannot be."""
        return self.build().eval()


def of_card(
    card: Card, weights: Path, dataset: Dataset, *, trajectory: Path | None = None, name: str | None = None
) -> Entry:
    """The entry of a card with the `weights` of a file, under the card's name or another.

    Whether the weights fit the card is seen when the model is made. Raises DataError if they cannot be read, UserError
    as `check_own`.
    """
    if name is not None and name != card.name:
        check_own(name, dataset.name)
    if not weights.is_file():
        what = "a folder" if weights.is_dir() else "absent"
        raise DataError(f"weights {weights} are {what}; name a safetensors file")
    build = partial(_loaded, card, dataset, weights)
    sha256 = files.sha256(weights)
    return Entry(name or card.name, dataset, build, loading.architecture(card), sha256, weights, trajectory)


def of_model(model: LatentVariableModel, dataset: Dataset, name: str) -> Entry:
    """The entry of a model in memory, whose weights are named by content: names, types, shapes and bytes."""
    kind = type(model)
    return Entry(name, dataset, lambda: model, f"{kind.__module__}.{kind.__qualname__}", tensors_identity(model))


def check_own(name: str, dataset: str) -> str:
    """`name`, where a model that is not of the zoo can have it on a board. Raises UserError if it cannot."""
    try:
        check_name("model", name)
    except ValueError as error:
        raise UserError(str(error)) from error
    if (dataset, name) in cards.ids():
        raise UserError(f"{name!r} is a model of the zoo on {dataset}; give another name")
    return name


def _loaded(card: Card, dataset: Dataset, weights: Path) -> LatentVariableModel:
    model = loading.build_model(card, dataset.space)
    loading.load_weights(model, weights)
    return fit(model, dataset)
