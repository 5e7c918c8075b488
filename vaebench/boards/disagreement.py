"""Where NLL and the length of files order two models differently, in a sentence. Pure functions; imports no torch."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from typing import NamedTuple

from vaebench.boards import marks
from vaebench.boards.classes import Class, Entrant, class_of, entrant, lowest_seeds, named_apart
from vaebench.boards.ranking import Compare, ranked, significantly_better
from vaebench.boards.rows import Row
from vaebench.boards.text import cell

SHORTER, LIKELIER = ("code-length", "code_length"), ("likelihood", "nll")


class Disagreement(NamedTuple):
    """Two models of a board: files are shorter by `one`, beyond the error; -log p(x) is lower by `other`.

    Each has its row of both. `clear` is whether the latter is beyond the error too.
    """

    one: str
    other: str
    lengths: tuple[Row, Row]
    likelihoods: tuple[Row, Row]
    clear: bool


def disagreements(rows: Iterable[Row], compare: Compare | None = None) -> list[Disagreement]:
    """The pairs of models of one dataset that NLL and code length order differently; clear ones first."""
    rows = list(rows)
    alone = [row for row in lowest_seeds(rows) if ranked(row)]
    names, slack = named_apart(entrant(row) for row in rows), marks.slack(alone)
    lengths, likelihoods = (_of_most(alone, *which) for which in (SHORTER, LIKELIER))
    found = []
    for one, other in permutations([each for each in names if each in lengths and each in likelihoods], 2):
        if not significantly_better(lengths[one], lengths[other], {}, compare):
            continue
        a, b = likelihoods[one], likelihoods[other]
        if (b.value or 0.0) < (a.value or 0.0):
            clear = significantly_better(b, a, slack, compare)
            found.append(Disagreement(names[one], names[other], (lengths[one], lengths[other]), (a, b), clear))
    return sorted(found, key=lambda each: (not each.clear, each.one, each.other))


def _of_most(rows: Sequence[Row], metric: str, column: str) -> Mapping[Entrant, Row]:
    """The rows of a column in the class that most models are of."""
    classes: dict[Class, dict[Entrant, Row]] = {}
    for row in rows:
        if (row.metric, row.column) == (metric, column):
            classes.setdefault(class_of(row), {}).setdefault(entrant(row), row)
    return max(classes.values(), key=len) if classes else {}


def sentences(rows: Iterable[Row], compare: Compare | None = None) -> list[str]:
    """A sentence for each of the `disagreements`, as a person would say it."""
    return [_sentence(each) for each in disagreements(rows, compare)]


def _sentence(found: Disagreement) -> str:
    (short, long), (high, low) = found.lengths, found.likelihoods
    beyond = "" if found.clear else ", which is within their errors"
    return (
        f"NLL and code length order {found.one} and {found.other} differently: {found.other} has the lower NLL "
        f"({cell(low)} against {cell(high)} {low.unit}{beyond}), {found.one} the shorter files ({cell(short)} against "
        f"{cell(long)} {short.unit}), since a file pays the ELBO and not the bound of many draws."
    )
