"""Several models on several datasets: what is missing from their boards, in which order, and what becomes of each."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, Protocol

from vaebench.boards.rows import Row
from vaebench.core.metric import Metric
from vaebench.evaluation.board_run import onto_board
from vaebench.evaluation.entry import Entry
from vaebench.evaluation.executor import LostError
from vaebench.evaluation.progress import Progress
from vaebench.evaluation.run import Settings, parameters
from vaebench.models.card import Card

Job = tuple[Entry, Mapping[str, Metric]]
"""An entry and the metrics to measure on it: none, where nothing is missing."""


class Outcome(NamedTuple):
    """What became of a card: its rows, and the error that ended it before all metrics were done."""

    model: str
    dataset: str
    rows: Sequence[Row]
    error: Exception | None
    seconds: float


class View(Progress, Protocol):
    """Where a sweep reports to."""

    def pair(self, text: str, done: int, total: int) -> None:
        """The pair `text` begins, with `done` of `total` behind it."""
        ...


def missing(entry: Entry, metrics: Mapping[str, Metric], settings: Settings, rows: Iterable[Row]) -> dict[str, Metric]:
    """The `metrics` without a row among `rows` that has a value and the same content.

    That is: model, weights, data, metric, version, parameters, seed and number type. What was skipped or failed is
    missing, since what it lacked may be there now.
    """
    dtype = str(settings.dtype).removeprefix("torch.")
    content = (entry.name, entry.weights_sha256, entry.dataset.fingerprint, settings.seed, dtype)
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
    entry, metrics = job
    keys = [(entry.name, entry.dataset.name, name, m.version, parameters(m)) for name, m in metrics.items()]
    return sum(took[key] for key in keys) if all(key in took for key in keys) else None


def _work(job: Job) -> int:
    entry, metrics = job
    data = entry.dataset
    examples = sum(len(data.split(metric.split)) for metric in metrics.values() if data.has(metric.split))
    return examples * (0 if entry.weights is None else entry.weights.stat().st_size)


def outcomes(
    cards: Sequence[Card],
    prepare: Callable[[Card], Job],
    settings: Settings,
    rows: Iterable[Row],
    leaderboards: Path,
    view: View,
) -> Iterator[Outcome]:
    """What becomes of each card: first those that cannot be prepared, then the longest first by `rows`.

    What ends one pair is in its outcome, and the others go on; a LostError ends them all.
    """
    jobs, places = list[Job](), count()

    def begin(model: str, dataset: str) -> None:
        if len(cards) > 1:
            view.pair(f"{model} on {dataset}", next(places), len(cards))

    for card in cards:
        try:
            jobs.append(prepare(card))
        except Exception as error:
            begin(card.name, card.dataset)
            yield Outcome(card.name, card.dataset, [], error, 0.0)
    jobs = longest_first(jobs, rows)
    while jobs:
        entry, metrics = jobs.pop(0)  # so that its model goes when it is done
        started, ended, measured = perf_counter(), None, list[Row]()
        begin(entry.name, entry.dataset.name)
        try:
            part = None if settings.budget is None else settings.budget.share(len(jobs) + 1)
            for finished in onto_board(leaderboards, entry, metrics, replace(settings, budget=part), view):
                measured += finished
        except LostError:
            raise
        except Exception as error:
            ended = error
        yield Outcome(entry.name, entry.dataset.name, measured, ended, perf_counter() - started)
