"""Several models on several datasets: what is missing from their boards, in which order, and what becomes of each."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, Protocol

from vaebench.boards.rows import Row
from vaebench.core import files
from vaebench.core.metric import Metric
from vaebench.evaluation.board_run import Pair, Terms, onto_board
from vaebench.evaluation.executor import LostError
from vaebench.evaluation.run import Progress, parameters
from vaebench.models.card import Card


@dataclass(frozen=True)
class Job:
    """A pair and the metrics to measure on it: none, where nothing is missing."""

    pair: Pair
    metrics: Mapping[str, Metric]


class Outcome(NamedTuple):
    """What became of a card: its rows, and the error that ended it before all metrics were done."""

    card: Card
    rows: Sequence[Row]
    error: Exception | None
    seconds: float


class View(Progress, Protocol):
    """Where a sweep reports to."""

    def pair(self, text: str, done: int, total: int) -> None:
        """The pair `text` begins, with `done` of `total` behind it."""
        ...


def missing(pair: Pair, metrics: Mapping[str, Metric], terms: Terms, rows: Iterable[Row]) -> dict[str, Metric]:
    """The `metrics` without a row among `rows` that has a value and the same content.

    That is: model, weights, data, metric, version, parameters, seed and number type. What was skipped or failed is
    missing, since what it lacked may be there now.
    """
    dtype = str(terms.settings.dtype).removeprefix("torch.")
    content = (pair.card.name, files.sha256(pair.weights), pair.dataset.fingerprint, terms.seed, dtype)
    done = {
        (row.metric, row.metric_version, row.parameters)
        for row in rows
        if row.status == "ok" and (row.model, row.weights_sha256, row.data_fingerprint, row.seed, row.dtype) == content
    }
    return {name: m for name, m in metrics.items() if (name, m.version, parameters(m)) not in done}


def longest_first(jobs: Sequence[Job], rows: Iterable[Row]) -> list[Job]:
    """`jobs` from the one that is likely to take longest.

    That is the seconds of its metrics' rows (of their version and parameters) where each has one; else bytes of weights
    times examples read, at the mean rate of the jobs whose seconds are known.
    """
    took: dict[tuple[str, str, str, int, str], float] = {}
    for row in rows:
        key = (row.model, row.dataset, row.metric, row.metric_version, row.parameters)
        took[key] = max(took.get(key, 0.0), row.seconds or 0.0)
    known, work = [_seconds(job, took) for job in jobs], [_work(job) for job in jobs]
    of_known = sum(amount for amount, seconds in zip(work, known, strict=True) if seconds is not None)
    rate = sum(seconds or 0.0 for seconds in known) / of_known if of_known else 1.0
    costs = [rate * amount if seconds is None else seconds for amount, seconds in zip(work, known, strict=True)]
    return [jobs[place] for place in sorted(range(len(jobs)), key=lambda place: -costs[place])]


def _seconds(job: Job, took: Mapping[tuple[str, str, str, int, str], float]) -> float | None:
    card = job.pair.card
    keys = [(card.name, card.dataset, name, m.version, parameters(m)) for name, m in job.metrics.items()]
    return sum(took[key] for key in keys) if all(key in took for key in keys) else None


def _work(job: Job) -> int:
    data = job.pair.dataset
    examples = sum(len(data.split(metric.split)) for metric in job.metrics.values() if data.has(metric.split))
    return job.pair.weights.stat().st_size * examples


def outcomes(
    cards: Sequence[Card],
    prepare: Callable[[Card], Job],
    terms: Terms,
    rows: Iterable[Row],
    leaderboards: Path,
    view: View,
) -> Iterator[Outcome]:
    """What becomes of each card: first those that cannot be prepared, then the longest first by `rows`.

    What ends one pair is in its outcome, and the others go on; a LostError ends them all.
    """
    jobs, places = list[Job](), count()

    def begin(card: Card) -> None:
        if len(cards) > 1:
            view.pair(f"{card.name} on {card.dataset}", next(places), len(cards))

    for card in cards:
        try:
            jobs.append(prepare(card))
        except Exception as error:
            begin(card)
            yield Outcome(card, [], error, 0.0)
    for job in longest_first(jobs, rows):
        card, started, ended, measured = job.pair.card, perf_counter(), None, list[Row]()
        begin(card)
        try:
            for finished in onto_board(leaderboards, job.pair, job.metrics, terms, view):
                measured += finished
        except LostError:
            raise
        except Exception as error:
            ended = error
        yield Outcome(card, measured, ended, perf_counter() - started)
