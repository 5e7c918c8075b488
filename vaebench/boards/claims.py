"""What papers claim, in `claims.toml`, beside what the boards say of it. Imports no torch."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from vaebench.boards import marks, paired
from vaebench.boards.classes import class_of, entrant, facet, lowest_seeds, named, title
from vaebench.boards.overlay import Boards
from vaebench.boards.rows import Row
from vaebench.core import tables
from vaebench.core.errors import DataError, UserError, foreign, unknown
from vaebench.functional.intervals import joined, student
from vaebench.models import card as cards

FILE = Path(__file__).with_suffix(".toml")
SEED = re.compile(r"(.*)-seed-\d+")
"""The name of a further training of a model."""
Verdict = Literal[
    "borne out", "borne out: not separable", "not separable", "not separable: bounds loose", "not borne out"
]


@dataclass(frozen=True)
class Claim:
    """That `column` of `metric` is on the `better` side for the model on the left of each pair.

    `facet` is the part of a facet that is meant; `against` another column or facet for the right side. `absolute`: of
    values without their sign. `loose`: the claim is only that it is not on the other side.
    """

    paper: str
    text: str
    source: str
    metric: str
    column: str
    better: Literal["lower", "higher"]
    datasets: tuple[str, ...]
    pairs: str
    facet: tables.Table = field(default_factory=dict)
    against: tables.Table = field(default_factory=dict)
    absolute: bool = False
    loose: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        if odd := set(self.against) - {"column", "facet"}:
            raise unknown("key of against", min(odd), ("column", "facet"))


@dataclass(frozen=True)
class PaperTable:
    """The rows and columns of a paper's table: each column by the first of its measures that a board has."""

    paper: str
    title: str
    datasets: tuple[str, ...]
    methods: tuple[str, ...]
    columns: tables.Table
    published: str | None = None


class Claims(NamedTuple):
    """What the file holds."""

    claims: tuple[Claim, ...]
    pairs: Mapping[str, Mapping[str, str]]
    tables: tuple[PaperTable, ...]
    epochs: Mapping[str, int]

    def papers(self) -> list[str]:
        """Those that claims or tables are of, in order."""
        return list(dict.fromkeys([*(each.paper for each in self.claims), *(each.paper for each in self.tables)]))


class Side(NamedTuple):
    """One side of a comparison: what it is called, its rows (of one training each), and their mean and its error.

    `slack`: how far below the value the truth may lie beside that, by `marks.slack`.
    """

    name: str
    rows: tuple[Row, ...]
    value: float
    stderr: float | None
    slack: float = 0.0


class Finding(NamedTuple):
    """Two sides of one class, the difference of their values with its 95% interval, and what that says of the claim.

    `how`: "paired" example by example, "apart" as if independent, or over "trainings".
    """

    claim: Claim
    dataset: str
    first: Side
    second: Side
    difference: float
    low: float
    high: float
    how: Literal["paired", "apart", "trainings"]
    verdict: Verdict
    trained: float | None = None
    """How many epochs the models were trained for, as a part of the paper's; None where one of them is not known."""


def read(path: Path = FILE) -> Claims:
    """The claims, pairs and tables of the file, in order. DataError or UserError says what is wrong with it."""
    with foreign(lambda why: DataError(f"cannot read {path}: {why}; restore it")):
        content = tables.parse(path.read_text(encoding="utf-8"))
        found = Claims(
            tuple(tables.build(Claim, each, f"{path.name}, claim {n}") for n, each in enumerate(content["claim"], 1)),
            content["pairs"],
            tuple(tables.build(PaperTable, each, f"{path.name}, table {n}")
                  for n, each in enumerate(content["table"], 1)),
            content["epochs"],
        )  # fmt: skip
        for claim in found.claims:
            if claim.pairs not in found.pairs:
                raise unknown("pairs", claim.pairs, found.pairs)
        if odd := set(content) - {"claim", "epochs", "pairs", "table"}:
            raise unknown("table", min(odd), ("claim", "epochs", "pairs", "table"))
    return found


def of_paper(found: Claims, paper: str) -> Claims:
    """The claims and tables of one paper; UserError with the nearest name."""
    if paper not in found.papers():
        raise unknown("paper", paper, found.papers())
    claims = tuple(each for each in found.claims if each.paper == paper)
    return found._replace(claims=claims, tables=tuple(each for each in found.tables if each.paper == paper))


def judge(found: Claims, boards: Boards) -> Iterator[Finding]:
    """Each claim on each of its datasets, pair by pair; after several trainings of both models, that over trainings.

    None of a pair that the board lacks, or cannot compare.
    """
    rows = {dataset: boards.read(dataset) for dataset in {name for claim in found.claims for name in claim.datasets}}
    slack = {dataset: marks.slack(members) for dataset, members in rows.items()}
    for claim in found.claims:
        for dataset in claim.datasets:
            # another seed measures the same training again
            measured = lowest_seeds(row for row in rows[dataset] if (row.origin, row.status) == ("measured", "ok"))
            for left, right in found.pairs[claim.pairs].items():
                found_here = _singly(claim, dataset, measured, (left, right), boards, slack[dataset])
                single = [each._replace(trained=_trained(each, found.epochs.get(claim.paper))) for each in found_here]
                yield from single
                places = dict.fromkeys(named(each.first.rows[0]) for each in single)
                for place in places:
                    several = [each for each in single if named(each.first.rows[0]) == place]
                    if len(several) > 1:
                        yield over_trainings(claim, dataset, several)


def _trained(finding: Finding, theirs: int | None) -> float | None:
    """The epochs of the two models, the mean, as a part of `theirs`; None where a row is not of the zoo's weights."""
    ours = [_epochs(row) for side in (finding.first, finding.second) for row in side.rows]
    known = [each for each in ours if each is not None]
    return sum(known) / len(known) / theirs if theirs and len(known) == len(ours) else None


def _epochs(row: Row) -> int | None:
    if (row.dataset, row.model) not in cards.ids():
        return None
    card = cards.find(row.model, row.dataset)
    same = card.weights is not None and card.weights.sha256 == row.weights_sha256
    return card.training.epochs if same and card.training is not None else None


def _singly(
    claim: Claim,
    dataset: str,
    rows: Sequence[Row],
    pair: tuple[str, str],
    boards: Boards,
    slack: Mapping[Row, float],
) -> Iterator[Finding]:
    """A pair of models, then each further training of both."""
    names = [pair, *((name, _like(name, pair)) for name in _trainings(rows, pair[0]))]
    for first, second in names:
        of = [row for row in rows if row.metric == claim.metric]
        own = [row for row in of if row.model == first and row.column == claim.column and _within(claim.facet, row)]
        column, part = claim.against.get("column", claim.column), claim.against.get("facet", claim.facet)
        other = [row for row in of if row.model == second and row.column == column and _within(part, row)]
        for a, b in _matches(claim, own, other):
            yield _compared(claim, dataset, a, b, boards, slack)


def _trainings(rows: Iterable[Row], model: str) -> list[str]:
    return sorted({row.model for row in rows if (same := SEED.fullmatch(row.model)) and same[1] == model})


def _like(name: str, pair: tuple[str, str]) -> str:
    return name.replace(pair[0], pair[1], 1)


def _within(part: Mapping[str, Any], row: Row) -> bool:
    said = facet(row)
    return all(said.get(key) == value for key, value in part.items())


def _matches(claim: Claim, own: Sequence[Row], other: Sequence[Row]) -> list[tuple[Row, Row]]:
    """The comparable rows of the most examples, the last of those; with `against`, those of each facet."""
    if not claim.against:
        try:
            return [max(paired.pairs(own, other), key=lambda rows: rows[0].n or 0)] if own and other else []
        except UserError:
            return []
    known = {_rest(claim, row): row for row in other}
    return [(row, known[_rest(claim, row)]) for row in own if _rest(claim, row) in known]


def _rest(claim: Claim, row: Row) -> tuple[object, ...]:
    """What two rows of one run share where `against` names what differs."""
    aside = {*claim.facet, *claim.against.get("facet", {})}
    said = json.dumps({key: value for key, value in facet(row).items() if key not in aside}, sort_keys=True)
    return class_of(row)._replace(facet=said), entrant(row), row.parameters, row.seed


def _compared(claim: Claim, dataset: str, a: Row, b: Row, boards: Boards, slack: Mapping[Row, float]) -> Finding:
    assert a.value is not None
    assert b.value is not None
    first, second = (title(a), title(b)) if claim.against else (a.model, b.model)
    one = Side(first, (a,), _of(claim, a), a.stderr, slack.get(a, 0.0))
    other = Side(second, (b,), _of(claim, b), b.stderr, slack.get(b, 0.0))
    found = None if claim.against or claim.absolute else boards.comparer()(a, b)
    if found is not None:
        said = verdict(claim, found.low, found.high, one.slack, other.slack)
        return Finding(claim, dataset, one, other, found.difference, found.low, found.high, "paired", said)
    apart = paired.apart(a, b)
    difference, half = one.value - other.value, apart.high - apart.difference
    low, high = difference - half, difference + half
    said = verdict(claim, low, high, one.slack, other.slack)
    return Finding(claim, dataset, one, other, difference, low, high, "apart", said)


def _of(claim: Claim, row: Row) -> float:
    return abs(row.value or 0.0) if claim.absolute else row.value or 0.0


def over_trainings(claim: Claim, dataset: str, single: Sequence[Finding]) -> Finding:
    """The difference of the means over trainings: Student's interval, with Welch's degrees of freedom."""
    sides = []
    for members in ([each.first for each in single], [each.second for each in single]):
        values = np.array([side.value for side in members])
        stderr = float(values.std(ddof=1)) / math.sqrt(len(values))
        rows = tuple(row for side in members for row in side.rows)
        loose = math.fsum(side.slack for side in members) / len(members)
        sides.append(Side(f"{members[0].name}, {len(rows)} trainings", rows, float(values.mean()), stderr, loose))
    difference = sides[0].value - sides[1].value
    stderr, df = joined(*((side.stderr or 0.0, len(side.rows) - 1) for side in sides))
    low, high = student(difference, stderr, df)
    trained = [each.trained for each in single]
    mean = None if None in trained else math.fsum(each or 0 for each in trained) / len(trained)
    said = verdict(claim, low, high, sides[0].slack, sides[1].slack)
    return Finding(claim, dataset, sides[0], sides[1], difference, low, high, "trainings", said, mean)


def verdict(claim: Claim, low: float, high: float, slack: float = 0.0, other: float = 0.0) -> Verdict:
    """What the interval of a difference says of the claim, where the truth of its sides may lie so far below them."""
    if low <= 0 <= high:
        return "borne out: not separable" if claim.loose else "not separable"
    if low - slack <= 0 <= high + other:
        return "not separable: bounds loose"
    return "borne out" if (low > 0) == (claim.better == "higher") else "not borne out"


def decisive(findings: Iterable[Finding]) -> list[Finding]:
    """Those that speak for their pair: over trainings, where there are several, and not one of them."""
    found = list(findings)
    settled = {row.model for each in found if each.how == "trainings" for row in each.first.rows}
    settled_at = {(id(each.claim), each.dataset) for each in found if each.how == "trainings"}
    return [
        each
        for each in found
        if each.how == "trainings"
        or (id(each.claim), each.dataset) not in settled_at
        or each.first.rows[0].model not in settled
    ]
