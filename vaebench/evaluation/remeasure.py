"""Measuring stored rows again: whether they agree with another seed, and whether the same run gives them again."""

import dataclasses
import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from vaebench.boards import per_example as values
from vaebench.boards import selection, verification
from vaebench.boards import store as board
from vaebench.boards.classes import named, title
from vaebench.boards.overlay import Boards
from vaebench.boards.rows import Row
from vaebench.boards.verification import Agreement, Evidence, Judgement
from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.data import Dataset
from vaebench.core.errors import DataError, UserError, unknown
from vaebench.core.metric import Metric
from vaebench.core.tables import build
from vaebench.evaluation import entry as entries
from vaebench.evaluation import runner
from vaebench.evaluation.entry import Entry
from vaebench.evaluation.progress import Progress
from vaebench.evaluation.run import Settings
from vaebench.models.card import Card


def metric_of(row: Row) -> Metric:
    """The metric as the row's parameters say. Raises UserError if the version here is another."""
    presets = plugins.load("metrics", row.metric)
    kind = type(presets["standard"])  # type: ignore[index]
    if kind.version != row.metric_version:
        raise UserError(f"{row.metric} is of version {row.metric_version}, here is {kind.version}; run it again")
    built: Metric = build(kind, json.loads(row.parameters), f"{row.metric} of the stored row")
    return built


def runs_of(rows: Iterable[Row], *, by_seed: bool) -> list[list[Row]]:
    """Rows by the run that gave them, or by the protocol that did whatever its seed, sorted."""
    runs: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        seed = row.seed if by_seed else None
        key = (row.metric, row.split, row.parameters, row.comparability, row.metric_version, row.dtype, seed)
        runs.setdefault(key, []).append(row)
    return [runs[key] for key in sorted(runs, key=str)]


def stored_rows(boards: Boards, model: str, dataset: str, metrics: Sequence[str]) -> list[Row]:
    """The rows with a value of a model, of `metrics` or of all. UserError, with what there is, for none."""
    every = [row for row in boards.read(dataset) if row.origin == "measured"]
    if not every and dataset not in plugins.names("datasets"):
        raise boards.absent(dataset)
    if not every:
        raise UserError(
            f"no measured rows of {dataset} are in {boards}; vaebench run --model {model} --dataset {dataset}, "
            "or give the folder that does by --leaderboards"
        )
    rows = [row for row in every if row.model == model]
    if not rows:
        raise UserError(f"the board of {dataset!r} in {boards}: {unknown('model', model, {r.model for r in every})}")
    rows = [row for row in selection.of_metrics(rows, metrics, f"{model} on {dataset}") if row.status == "ok"]
    if not rows:
        raise UserError(
            f"{model} on {dataset} has no row with a value; vaebench run --model {model} --dataset {dataset}"
        )
    return rows


def of_weights(rows: Sequence[Row], weights: Path) -> list[Row]:
    """Those of the file `weights`, where rows of several weights have one name; all, where none are of it."""
    sha256 = files.sha256(weights)
    return [row for row in rows if row.weights_sha256 == sha256] or list(rows)


def entry_behind(rows: Iterable[Row], card: Card, weights: Path, dataset: Dataset) -> Entry:
    """The entry that `rows` are of; raises UserError if they were measured on other weights or data."""
    found = entries.of_card(card, weights, dataset)
    for row in rows:
        for what, old, new in (
            ("weights", row.weights_sha256, found.weights_sha256),
            ("data", row.data_fingerprint, dataset.fingerprint),
        ):
            if old != new:
                raise UserError(
                    f"{row.metric} of {row.model} was measured on {what} {str(old)[:12]}, not {new[:12]}; run it again"
                )
    return found


def measured_again(entry: Entry, row: Row, settings: Settings, kept: Path, progress: Progress) -> list[Row]:
    """The rows that the run behind `row` gives with these settings, its own number type in the place of theirs.

    What its metric keeps is written below `kept`.
    """

    def keep(metric: str, name: str, content: bytes) -> None:
        files.write_atomic(kept / row.dataset / row.model / metric / name, content)

    how = dataclasses.replace(settings, dtype=getattr(torch, row.dtype or "float32"))
    (found,) = runner.measure(entry, {row.metric: metric_of(row)}, how, progress=progress, keep=keep)
    return found


def verify(
    entry: Entry,
    rows: Sequence[Row],
    boards: Boards,
    settings: Settings,
    *,
    level: float,
    tolerance: float,
    confirm: int,
    progress: Progress,
) -> tuple[list[Judgement], list[Row]]:
    """What to think of `rows` by measuring them with the settings' seed, and the rows of that seed.

    Rows whose per-example values `boards` keep are judged by them. Those that would be refuted by
    standard errors or `tolerance` are first measured with `confirm` more seeds. Raises UserError if a metric is of
    another version now, or gives a column no more.
    """
    for row in rows:
        metric_of(row)
    evidence, again = list[Evidence](), list[Row]()
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder)
        for protocol in runs_of(rows, by_seed=False):
            new = measured_again(entry, protocol[0], settings, kept, progress)
            again += new
            evidence += [_evidence(row, new, boards, kept, progress) for row in protocol]
        judged = verification.judge(evidence, level, tolerance)
        doubted = [each.row for each in judged if each.verdict == "refuted" and each.test in ("combined", "tolerance")]
        if doubted and confirm > 1:
            seeds = range(settings.seed + 1, settings.seed + 1 + confirm)
            told = ", ".join(sorted({f"{row.metric} {title(row)}" for row in doubted}))
            progress.warn(f"confirming {told} with seeds {seeds[0]} to {seeds[-1]}")
            for protocol in runs_of(doubted, by_seed=False):
                more = [
                    measured_again(entry, protocol[0], dataclasses.replace(settings, seed=seed), kept, progress)
                    for seed in seeds
                ]
                evidence = [_repeated(each, more) if each.row in protocol else each for each in evidence]
            judged = verification.judge(evidence, level, tolerance)
    return judged, again


def _evidence(row: Row, again: Iterable[Row], boards: Boards, kept: Path, progress: Progress) -> Evidence:
    """A row beside the one of its column in `again`, with the values of both where both are kept and not stale."""
    other = next((each for each in again if named(each) in (named(row), ("", "{}"))), None)
    if other is None:
        raise UserError(f"{row.metric} gives no {title(row)} any more; run it again")
    if not values.path(boards.root(row), row).is_file() or other.status != "ok":
        return Evidence(row, other)
    try:
        return Evidence(row, other, (boards.values(row), values.read(kept, other)))
    except values.NotKeptError:
        return Evidence(row, other)
    except DataError as error:
        progress.warn(f"not used: {error}")
        return Evidence(row, other)


def _repeated(evidence: Evidence, more: Iterable[Iterable[Row]]) -> Evidence:
    """The evidence with the values that `more` runs give of its column."""
    found = (row.value for rows in more for row in rows if named(row) == named(evidence.row))
    return evidence._replace(repeats=tuple(value for value in found if value is not None))


def record(leaderboards: Path, judged: Iterable[Judgement], again: Iterable[Row]) -> None:
    """Write to the board what `verify` gave: the verdicts on rows, and the rows of its seed that have a value."""
    marked, verified = list[Row](), set()
    for each in judged:
        if each.verdict == "verified":
            verified.add(each.again.identity)
        if each.verdict != "unverified":
            marked.append(dataclasses.replace(each.row, verified=each.verdict))
    kept = [row for row in again if row.status == "ok"]
    marked += [dataclasses.replace(row, verified="verified") if row.identity in verified else row for row in kept]
    board.write(leaderboards, marked)


def reproduce(
    entry: Entry, run: Sequence[Row], settings: Settings, progress: Progress
) -> list[tuple[Row, Row, Agreement]]:
    """Each row of one run, the same computed now with the run's seed and number type, and how the two compare.

    Raises UserError if the metric gives a column no more.
    """
    how = dataclasses.replace(settings, seed=run[0].seed or 0, journal=None)
    with tempfile.TemporaryDirectory() as folder:
        new = {named(row): row for row in measured_again(entry, run[0], how, Path(folder), progress)}
    found = [(row, new.get(named(row), new.get(("", "{}")))) for row in run]
    if gone := [title(row) for row, now in found if now is None]:
        raise UserError(f"{run[0].metric} no longer gives {', '.join(gone)}")
    return [(row, now, verification.agreement(row, now)) for row, now in found if now is not None]
