"""An entry measured and written to its board: what every entry of a sweep goes through."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from vaebench.boards.rows import Row
from vaebench.core.metric import Metric
from vaebench.evaluation import results, runner
from vaebench.evaluation.admission import admit
from vaebench.evaluation.entry import Entry
from vaebench.evaluation.progress import Progress
from vaebench.evaluation.run import Settings


def onto_board(
    leaderboards: Path, entry: Entry, metrics: Mapping[str, Metric], settings: Settings, progress: Progress
) -> Iterator[list[Row]]:
    """`runner.measure`, with the rows of each metric written to the board, and then its files beside them.

    Raises UserError before anything is measured if the model is not admitted: see `admit`.
    """
    kept: dict[tuple[str, str], bytes] = {}

    def keep(metric: str, name: str, content: bytes) -> None:
        kept[metric, name] = content

    marks = admit(entry, settings, progress) if metrics else ()
    for finished in runner.measure(entry, metrics, settings, progress=progress, keep=keep, marks=marks):
        results.write(leaderboards, finished, kept)
        kept.clear()
        yield finished
