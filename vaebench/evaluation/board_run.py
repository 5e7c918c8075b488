"""A trained model on a dataset: what `run`, every pair of a sweep, `verify` and `reproduce` evaluate."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vaebench.boards import store as board
from vaebench.boards.rows import Row
from vaebench.core import files, remote
from vaebench.core.data import Dataset
from vaebench.core.metric import Metric
from vaebench.evaluation import runner
from vaebench.evaluation.journal import Journal
from vaebench.evaluation.resources import Folder
from vaebench.evaluation.run import Progress, Settings, Subject, Surroundings
from vaebench.models import loading
from vaebench.models.card import Card

Keep = Callable[[str, str, bytes], None]


@dataclass(frozen=True)
class Pair:
    """A card's model with `weights`, on a dataset; `trajectory` is a folder, None for the one beside the weights."""

    card: Card
    weights: Path
    dataset: Dataset
    trajectory: Path | None = None


@dataclass(frozen=True)
class Terms:
    """How to evaluate: `data` and `inception` as in `resources.Folder`, `fetching` as its `progress`, the rest as in
    `runner.evaluate`.
    """

    seed: int
    settings: Settings
    journal: Journal | None
    data: Path
    inception: str | None = None
    fetching: remote.Fetching | None = None


def evaluate(
    pair: Pair, metrics: Mapping[str, Metric], terms: Terms, keep: Keep, progress: Progress
) -> Iterator[list[Row]]:
    """The rows of each metric, as it ends; `keep` is given its files. UserError, DataError: the weights do not fit."""
    if not metrics:
        return
    network = loading.build_model(pair.card, pair.dataset.space)
    loading.load_weights(network, pair.weights)
    subject = Subject(pair.card.name, network, loading.architecture(pair.card), files.sha256(pair.weights))
    device, dtype = terms.settings.device, terms.settings.weights_dtype
    resources = Folder(
        terms.data, pair.dataset, device, dtype, terms.inception, pair.weights, pair.trajectory, terms.fetching
    )
    yield from runner.evaluate(
        subject,
        pair.dataset,
        metrics,
        seed=terms.seed,
        settings=terms.settings,
        journal=terms.journal,
        progress=progress,
        surroundings=Surroundings(resources, keep, {}),
    )


def onto_board(
    leaderboards: Path, pair: Pair, metrics: Mapping[str, Metric], terms: Terms, progress: Progress
) -> Iterator[list[Row]]:
    """`evaluate`, with the rows of each metric written to the board, and then its files beside them."""
    kept: dict[Path, bytes] = {}  # written once the rows are: a file without its row would be stale

    def keep(metric: str, name: str, content: bytes) -> None:
        kept[leaderboards / pair.card.dataset / pair.card.name / metric / name] = content

    for finished in evaluate(pair, metrics, terms, keep, progress):
        board.write(leaderboards, finished)
        if any(row.status == "ok" for row in finished):
            for path, content in kept.items():
                files.write_changed(path, content)
        kept.clear()
        yield finished
