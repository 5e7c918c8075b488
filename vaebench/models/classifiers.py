"""The classifiers that the zoo ships for fd-domain: found by the dataset they serve, and loaded."""

from vaebench.core import files
from vaebench.core import tables as tables_
from vaebench.core.errors import DataError
from vaebench.models import card as cards
from vaebench.models import loading
from vaebench.models.card import Card
from vaebench.models.networks.features import FeatureNet, Options

FAMILY = "classifier"


def options(card: Card) -> Options:
    """The card's network. Raises UserError if its table does not fit."""
    return tables_.build(Options, card.model, f"card {card.id} [model]")


def shipped() -> list[Card]:
    """The cards of the zoo's classifiers, by name."""
    return [cards.read(path) for path in sorted((files.zoo() / cards.FEATURES).glob("*.toml"))]


def find(dataset: str) -> Card | None:
    """The card of the classifier that serves `dataset`, None where the zoo ships none."""
    return next((card for card in shipped() if dataset in options(card).serves), None)


def load(card: Card) -> FeatureNet:
    """The trained classifier, in evaluation mode. Raises DataError if its weights are absent, altered or do not fit."""
    network, path = FeatureNet(options(card)), card.weights_path()
    try:
        network.load_state_dict(loading.read_tensors(path), strict=True)
    except RuntimeError as error:
        raise DataError(f"weights {path} do not fit card {card.id}: {error}") from error
    return network.eval().requires_grad_(False)
