"""The headline of a board: a line a model, by the measures of `headline.toml`. Imports no torch."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from vaebench.boards import marks
from vaebench.boards.classes import Class, Entrant, class_of, entrant, facet, lowest_seeds, named_apart, protocol
from vaebench.boards.ranking import Compare, Rank, interval, rank
from vaebench.boards.rows import Row
from vaebench.boards.text import fields, number
from vaebench.core import tables
from vaebench.core.errors import DataError, foreign
from vaebench.core.names import YOURS

FILE = Path(__file__).with_suffix(".toml")
ABSENT = "\u2013"
SIDES = {"": "", "lower": "lower is better", "higher": "higher is better", "none": "neither side is better"}
MOST = 10


@dataclass(frozen=True)
class Measure:
    """A number that readers ask for. `protocols` are parts of comparability classes, best first.

    One that is `optional` is left out of boards where no model has it.
    """

    name: str
    says: str
    metric: str
    column: str
    protocols: tuple[tables.Table, ...]
    facet: tables.Table = field(default_factory=dict)
    over: str | None = None
    optional: bool = False


@dataclass(frozen=True)
class Kind:
    """A kind of dataset: what its readers ask for, in order; and what its rows are told by."""

    name: str
    measures: tuple[str, ...]
    holds: str | None = None
    given: tables.Table = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= len(self.measures) <= MOST:
            raise ValueError(f"measures should be 1 to {MOST}, not {len(self.measures)}")


class Cell(NamedTuple):
    """A value, and its rank where it has one."""

    row: Row
    rank: Rank | None


class Column(NamedTuple):
    """A measure on one board, with what its values there depend on; `unit` and `better` are empty where none is."""

    key: str
    measure: Measure
    unit: str
    better: str
    protocol: Mapping[str, Any]
    cells: Mapping[Entrant, Cell]
    slack: Mapping[Row, float]


class Line(NamedTuple):
    """A model, told from other weights of that name by `name`, with a cell for each column, or None.

    `yours` where all that was measured of it is your own.
    """

    model: str
    name: str
    cells: tuple[Cell | None, ...]
    yours: bool = False


@dataclass(frozen=True)
class Headline:
    """The table that a board is read by: lines in order of the first column, those without a value of it last."""

    dataset: str
    kind: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]


def read(path: Path = FILE) -> tuple[list[Kind], dict[str, Measure]]:
    """The kinds of datasets, in order, and the measures by key. DataError says what is wrong with the file."""
    with foreign(lambda why: DataError(f"cannot read {path}: {why}; restore it")):
        content = tables.parse(path.read_text(encoding="utf-8"))
        kinds = [tables.build(Kind, each, f"{path.name}, kind {n}") for n, each in enumerate(content.pop("kind"), 1)]
        measures = {key: tables.build(Measure, each, f"{path.name}, measure {key}")
                    for key, each in content.pop("measure").items()}  # fmt: skip
        if odd := {*content, *(key for kind in kinds for key in kind.measures if key not in measures)}:
            raise ValueError(f"it holds {', '.join(sorted(odd))}, which is neither a kind nor a measure")
    return kinds, measures


@cache
def shipped() -> tuple[list[Kind], dict[str, Measure]]:
    """What `headline.toml` says, read once."""
    return read()


def kind_of(rows: Iterable[Row]) -> Kind:
    """The kind of dataset that these rows are of: the first that they fit, the last where they fit none."""
    kinds, _ = shipped()
    rows = list(rows)
    columns = {row.column for row in rows}
    said = [protocol(row) for row in rows if row.metric == "likelihood" and row.status == "ok"]
    for kind in kinds:
        told = said and kind.given and all(_within(kind.given, each) for each in said)
        if kind.holds in columns or told:
            return kind
    return kinds[-1]


def _within(part: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    return all(name in whole and whole[name] == value for name, value in part.items())


def of_rows(
    dataset: str, rows: Iterable[Row], compare: Compare | None = None, of: tuple[str, Sequence[str]] | None = None
) -> Headline:
    """The headline of one dataset's rows: of measured ones, of each model the lowest seed.

    `of` gives other measures than those of its kind, and what to call them: then without those that no model has.
    """
    rows = [row for row in rows if row.origin == "measured"]
    kind = kind_of(rows)
    label, keys = (kind.name, kind.measures) if of is None else of
    alone = [row for row in lowest_seeds(rows) if row.status == "ok"]
    columns = tuple(column_of(key, shipped()[1][key], alone, compare) for key in keys)
    columns = tuple(each for each in columns if each.cells or (of is None and not each.measure.optional))
    theirs = {entrant(row) for row in rows if YOURS not in row.marks}
    lines = [Line(each.model, name, tuple(column.cells.get(each) for column in columns), each not in theirs)
             for each, name in named_apart(entrant(row) for row in rows).items()]  # fmt: skip
    kept = [line for line in lines if of is None or any(line.cells)]
    return Headline(dataset, label, columns, tuple(sorted(kept, key=_place)))


def _place(line: Line) -> tuple[bool, bool, float]:
    first = line.cells[0]
    if first is None or first.row.value is None:
        return True, True, 0.0
    return False, first.row.verified == "refuted", first.row.value * (-1 if first.row.better == "higher" else 1)


def column_of(key: str, measure: Measure, rows: Sequence[Row], compare: Compare | None) -> Column:
    """A measure on one board: of its `ok` rows, of each model the lowest seed, those of one stated protocol."""
    found = [row for row in rows if row.metric == measure.metric]
    own = [row for row in found if row.column == measure.column and _within(measure.facet, facet(row))]
    if measure.over is not None:
        own = _means(own, measure.over)
        found, compare = own, None
    classes: dict[Class, dict[Entrant, Row]] = {}
    for row in sorted(own, key=lambda row: (row.seed, row.identity)):
        classes.setdefault(class_of(row), {}).setdefault(entrant(row), row)
    chosen = _chosen(measure, classes, len({entrant(row) for row in rows}))
    if chosen is None:
        return Column(key, measure, "", "", {}, {}, {})
    members = [row for row in found if class_of(row) == chosen]
    members += [row for row in rows if row.metric == marks.CERTIFIED != measure.metric]  # how far bounds are off
    ranks, head = rank(members, measure.column, compare), next(iter(classes[chosen].values()))
    cells = {whose: Cell(row, ranks.get(row)) for whose, row in classes[chosen].items()}
    return Column(key, measure, head.unit, head.better, {**protocol(head), **facet(head)}, cells, marks.slack(members))


def _chosen(measure: Measure, classes: Mapping[Class, Mapping[Entrant, Row]], models: int) -> Class | None:
    """The class of the first protocol that most models have, else of the one that the most have."""
    best: Class | None = None
    for part in measure.protocols:
        fitting = [each for each in classes if _within(part, json.loads(each.comparability))]
        for each in sorted(fitting, key=lambda one: (-one.metric_version, -len(classes[one]), one))[:1]:
            if 2 * len(classes[each]) > models:
                return each
            best = each if best is None or len(classes[each]) > len(classes[best]) else best
    return best


def _means(rows: Iterable[Row], over: str) -> list[Row]:
    """For rows that differ in the part `over` of their facets, their mean.

    Its error and interval are the means of theirs: whatever the correlation, the error of a mean is not above that.
    """
    parts: dict[tuple[object, ...], dict[str, Row]] = {}
    for row in rows:
        fields = dict(facet(row))
        name = fields.pop(over)
        place = class_of(row)._replace(facet=json.dumps(fields, sort_keys=True))
        parts.setdefault((place, entrant(row), row.parameters, row.seed), {})[name] = row
    found = []
    for several in parts.values():
        row = next(iter(several.values()))
        fields = {**facet(row), over: ", ".join(sorted(several))}
        stderr, low, high = (_mean([getattr(each, name) for each in several.values()])
                             for name in ("stderr", "low", "high"))  # fmt: skip
        value = _mean([each.value for each in several.values()])
        told = tuple(sorted({mark for each in several.values() for mark in each.marks}))
        verdicts = {each.verified for each in several.values()}
        verdict = "refuted" if "refuted" in verdicts else verdicts.pop() if len(verdicts) == 1 else "unverified"
        found.append(
            dataclasses.replace(row, facet=json.dumps(fields, sort_keys=True), value=value, stderr=stderr, low=low,
                                high=high, df=None, marks=told, curve=None, verified=verdict)
        )  # fmt: skip
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(values) if len(known) == len(values) else None


def marks_of(line: Line, columns: Sequence[Column]) -> str:
    """The marks of a line, each with its columns where not all have it: "bound loose: nll; collapsed"."""
    cells = {column.key: cell.row for column, cell in zip(columns, line.cells, strict=True) if cell is not None}
    found = []
    if line.yours:
        found.append(YOURS)
    for mark in sorted({mark for row in cells.values() for mark in row.marks} - set(found)):
        having = [key for key, row in cells.items() if mark in row.marks]
        found.append(mark if len(having) == len(cells) else f"{mark}: {', '.join(having)}")
    return "; ".join(found)


def legend(column: Column) -> str:
    """What a column is: "NLL: the bound …; nats, lower is better; samples 1000, split test"."""
    unit = f"{column.unit}, " if column.unit else ""
    told = (f"{unit}{SIDES[column.better]}", fields(column.protocol))
    return f"{column.measure.name}: {'; '.join(filter(None, (column.measure.says, *told)))}"


def described(key: str, measure: Measure, unit: str, better: str) -> str:
    """The line of leaderboards/README.md on a measure: what it is, unit, better side, column, protocols."""
    stated = [fields(each) for each in measure.protocols if each]
    told = f"; {', else '.join(stated)}" if stated else ""
    unit = f"{unit}, " if unit else ""
    return f"- `{key}`: {measure.says}; {unit}{SIDES[better]}; `{measure.column}` of `{measure.metric}`{told}."


def sentence(table: Headline) -> str:
    """What a person would say of a headline: who is best by the first column, how sure that is, who is as good."""
    column, found = table.columns[0], [(line, line.cells[0]) for line in table.lines]
    known = [(line, cell) for line, cell in found if cell is not None]
    if not known:
        return f"No model of {table.dataset} has a value of {column.measure.name}."
    line, cell = next(((line, cell) for line, cell in known if cell.rank is not None), known[0])
    row, unit = cell.row, f" {column.unit}" if column.unit else ""
    low, high = (number(end, row.stderr).partition(" ")[0] for end in interval(row))
    said = f"{line.name}, {number(row.value or 0.0, row.stderr)}{unit} (95% interval {low} to {high})"
    if cell.rank is None:
        return f"On {table.dataset} none is ranked by {column.measure.name}: {said}."
    told = [f"Best on {table.dataset} by {column.measure.name}: {said}"]
    if slack := column.slack.get(row):
        told.append(f"its bound may be about {float(f'{slack:.1g}'):g}{unit} loose")
    near = [line.name for line, other in known if other.rank and other.rank.first == 1 and other is not cell]
    if near:
        told.append(f"{listed(near)} cannot be told apart from it")
    return "; ".join(told) + "."


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them: "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
