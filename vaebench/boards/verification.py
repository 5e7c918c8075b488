"""Whether a re-evaluation agrees with a leaderboard row. Pure functions; imports no torch.

A row is evaluated again with another seed, and each column is tested: is the difference more than noise?

- *Paired*, where both runs have kept per-example values: both read the same examples, so what differs between the runs
  is the noise of each estimate alone, and its size can be seen: the mean of the differences d_i = a_i - b_i has the
  standard error s(d) / sqrt(N). It holds for large N, and sees an error of hundredths of a nat.
- *Combined*, where both have a standard error: the difference against sqrt(se_a^2 + se_b^2), by Student's law with
  Welch's degrees of freedom where errors have some. Where the errors are over a fixed set of examples, both runs share
  the error of which examples were drawn, so an honest row differs by far less: the test then refutes an honest row less
  often than the level says, and misses small errors. An error much larger than the re-run's is not believed: it counts
  `INFLATED` times that at most.
- *Exact*, for a column without a standard error whose bound is `exact`: equal but for rounding.
- *Tolerance*, for any other column without a standard error: within a stated part of the larger value. This is not a
  test: it has no level.
- *Repeated*: what the combined test or the tolerance would refute is evaluated with r more seeds w_1 ... w_r, and only
  refuted where their spread s does not explain it either: t = (a - mean w) / (s sqrt(1 + 1/r)), with r - 1 degrees of
  freedom. This needs no standard error at all; the larger of the two p-values counts.

The p-values of all tested columns are corrected together by Holm's method, which holds whatever their dependence (bpd
is nll in other units): an honest set of rows has any row refuted with a chance of at most `level`.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaebench.boards.classes import facet
from vaebench.boards.paired import paired
from vaebench.boards.rows import Row
from vaebench.functional.intervals import joined, p_value

Kind = Literal["paired", "combined", "exact", "tolerance", "repeated", "none"]
Verdict = Literal["verified", "refuted", "unverified"]
LEVEL = 0.01
TOLERANCE = 0.05
INFLATED = 3.0
ROUNDING = 1e-5
"""What batch size, threads and machine may change, relative to a value or to the spread of its examples."""


class Evidence(NamedTuple):
    """A stored row, its re-evaluation, per-example values of both where both are kept, and values of more seeds."""

    row: Row
    again: Row
    values: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    repeats: tuple[float, ...] = ()


class Judgement(NamedTuple):
    """What the evidence says of a row: the test, the difference in standard errors, its p-value, and the verdict."""

    row: Row
    again: Row
    test: Kind
    difference: float | None
    stderr: float | None
    p: float | None
    verdict: Verdict
    note: str

    def record(self) -> dict[str, Any]:
        """As what `json.dumps` takes."""
        return {
            "metric": self.row.metric,
            "column": self.row.column,
            "facet": facet(self.row),
            "parameters": self.row.parameters,
            "seeds": [self.row.seed, self.again.seed],
            "values": [self.row.value, self.again.value],
            "test": self.test,
            "difference": self.difference,
            "stderr": self.stderr,
            "p": self.p,
            "verdict": self.verdict,
            "note": self.note,
        }


def rounding(row: Row, again: Row) -> float:
    """How far two computations of one number may lie apart: 1e-5 of it, or of the spread of its examples."""
    sizes = [abs(row.value or 0.0), abs(again.value or 0.0)]
    sizes += [(each.stderr or 0.0) * math.sqrt(each.n or 0) for each in (row, again)]
    return ROUNDING * max(sizes)


def _repeated_p_value(value: float, repeats: Sequence[float], near: float) -> tuple[float, float]:
    """The standard error of value - mean(repeats) by the spread of the repeats, and the p-value by Student's law."""
    count = len(repeats)
    stderr = float(np.std(repeats, ddof=1)) * math.sqrt(1 + 1 / count)
    excess = max(0.0, abs(value - float(np.mean(repeats))) - near)
    if excess == 0 or stderr == 0:
        return stderr, float(excess == 0)
    return stderr, p_value(excess, stderr, count - 1)


def _tested(found: Evidence, tolerance: float) -> Judgement:
    """The judgement before correction: p-values stand with the verdict `unverified`."""
    first = _once(found, tolerance)
    if found.row.value is None or len(found.repeats) < 2 or first.test not in ("combined", "tolerance"):
        return first
    stderr, p = _repeated_p_value(found.row.value, found.repeats, rounding(found.row, found.again))
    difference = found.row.value - float(np.mean(found.repeats))
    p = p if first.p is None else max(p, first.p)
    note = f"against {len(found.repeats)} more seeds"
    return first._replace(test="repeated", difference=difference, stderr=stderr, p=p, verdict="unverified", note=note)


def _once(found: Evidence, tolerance: float) -> Judgement:
    row, again, values = found.row, found.again, found.values
    if row.value is None or again.value is None:
        note = f"{again.status}: {again.reason}" if again.value is None else f"the row is {row.status}"
        return Judgement(row, again, "none", None, None, None, "unverified", note)
    difference = row.value - again.value
    excess = max(0.0, abs(difference) - rounding(row, again))
    if values is not None and len(values[0]) > 1:
        pair = paired(*values)
        p = p_value(excess, pair.stderr, pair.n - 1)
        return Judgement(row, again, "paired", difference, pair.stderr, p, "unverified", "")
    if row.stderr is not None and again.stderr is not None:
        believed, note = row.stderr, ""
        if again.stderr > 0 and row.stderr > INFLATED * again.stderr:
            believed = INFLATED * again.stderr
            note = f"its standard error is {row.stderr / again.stderr:.3g} times the re-run's"
        stderr, df = joined((believed, row.df), (again.stderr, again.df))
        p = p_value(excess, stderr, df)
        return Judgement(row, again, "combined", difference, stderr, p, "unverified", note)
    if row.bound == "exact":
        kind: Kind = "exact"
        agrees, note = excess == 0, ""
    else:
        kind = "tolerance"
        agrees = abs(difference) <= tolerance * max(abs(row.value), abs(again.value))
        note = f"within {tolerance:g} of the larger value, which is not a test"
    return Judgement(row, again, kind, difference, None, None, "verified" if agrees else "refuted", note)


def judge(evidence: Sequence[Evidence], level: float = LEVEL, tolerance: float = TOLERANCE) -> list[Judgement]:
    """A judgement of each row, in the order given: Holm's method over all columns that have a p-value.

    The smallest of m p-values is held against level / m, the next against level / (m - 1), and so on until one is
    larger; those before it refute their rows. Raises ValueError for a level outside (0, 1). Source: Holm 1979.
    """
    if not 0 < level < 1 or tolerance < 0:
        raise ValueError(f"level = {level} should lie in (0, 1) and tolerance = {tolerance} be at least 0")
    judged = [_tested(each, tolerance) for each in evidence]
    ordered = sorted((each.p, place) for place, each in enumerate(judged) if each.p is not None)
    rejecting = True
    for rank, (p, place) in enumerate(ordered):
        rejecting = rejecting and p <= level / (len(ordered) - rank)
        judged[place] = judged[place]._replace(verdict="refuted" if rejecting else "verified")
    return judged


Agreement = Literal["bit for bit", "within rounding", "different"]
ENVIRONMENT = ("device", "torch", "vaebench", "commit", "dirty", "metric_version")


def agreement(row: Row, again: Row) -> Agreement:
    """How the same computation done again compares: value, standard error, n and curve."""
    if (row.value, row.stderr, row.n, row.curve) == (again.value, again.stderr, again.n, again.curve):
        return "bit for bit"
    if row.value is None or again.value is None or row.n != again.n or (row.stderr is None) != (again.stderr is None):
        return "different"
    near = rounding(row, again)
    close = abs(row.value - again.value) <= near
    close = close and abs((row.stderr or 0.0) - (again.stderr or 0.0)) <= ROUNDING * max(row.stderr or 0.0, near)
    return "within rounding" if close and _curves_agree(row, again) else "different"


def _curves_agree(row: Row, again: Row) -> bool:
    if row.curve is None or again.curve is None:
        return row.curve is again.curve
    if row.curve[2:] != again.curve[2:] or len(row.curve[0]) != len(again.curve[0]):
        return False
    for one, other in zip(row.curve[:2], again.curve[:2], strict=True):
        a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
        if (abs(a - b) > ROUNDING * max(abs(a).max(initial=0.0), abs(b).max(initial=0.0))).any():
            return False
    return True


def environment(row: Row, again: Row) -> list[tuple[str, str, str]]:
    """What differs between the two environments: its name, the row's and this one."""
    pairs = ((name, str(getattr(row, name)), str(getattr(again, name))) for name in ENVIRONMENT)
    return [(name, old, new) for name, old, new in pairs if old != new]
