"""Laws of verification: the level is kept, faults are seen, and each kind of column is held to what it can be."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from board_rows import FAILED, row

from vaebench.boards.rows import Row
from vaebench.boards.verification import Evidence, agreement, environment, judge

N = 400


def two(a: float, b: float, **changes: Any) -> Evidence:
    return Evidence(row(value=a, **changes), row(value=b, **changes, seed=1000))


def runs(noise: np.random.Generator, spread: float, own: float, fault: float = 0.0) -> list[Evidence]:
    """Two runs over the same N examples, whose values spread by `spread` and carry noise `own` in each run.

    One kept column (paired), and two more in other units without values (combined).
    """
    shared = noise.normal(90, spread, N)
    a, b = (shared + noise.normal(0, own, N) for _ in range(2))
    a = a + fault
    found = []
    for column, scale in (("nll", 1.0), ("bpd", 0.02), ("elbo", -1.0)):
        old, new = (
            row(
                column=column,
                seed=seed,
                value=float(v.mean() * scale),
                stderr=float(v.std(ddof=1) * abs(scale) / N**0.5),
            )
            for seed, v in ((0, a), (1000, b))
        )
        found.append(Evidence(old, new, (a, b) if column == "nll" else None))
    return found


@pytest.mark.slow
def test_an_honest_model_is_refuted_as_rarely_as_the_level_says() -> None:
    noise = np.random.default_rng(0)
    repeats, level = 4000, 0.05
    refuted = sum(any(each.verdict == "refuted" for each in judge(runs(noise, 0, 1), level)) for _ in range(repeats))
    # With no shared examples all three tests are one: Holm then refutes at level / 3, and at most at level.
    assert level / 3 - 4 * (level / 3 / repeats) ** 0.5 < refuted / repeats < level
    shared = sum(any(each.verdict == "refuted" for each in judge(runs(noise, 20, 1)[1:], level)) for _ in range(500))
    assert shared == 0  # combined: 28 times wider than the differences of honest runs


@pytest.mark.slow
def test_independent_columns_together_keep_the_level_nearly_exactly() -> None:
    noise = np.random.default_rng(1)
    repeats, level, any_refuted = 3000, 0.05, 0
    for _ in range(repeats):
        evidence = [
            Evidence(row(column=f"c{i}", value=a, stderr=1.0), row(column=f"c{i}", value=b, stderr=1.0, seed=1000))
            for i, (a, b) in enumerate(noise.normal(0, 1, (10, 2)).tolist())
        ]
        any_refuted += any(each.verdict == "refuted" for each in judge(evidence, level))
    expected = 1 - (1 - level / 10) ** 10
    assert abs(any_refuted / repeats - expected) < 4 * (expected / repeats) ** 0.5


def test_paired_sees_a_fault_that_both_standard_errors_hide() -> None:
    found = judge(runs(np.random.default_rng(2), 10, 0.5, fault=0.2))
    assert [each.test for each in found] == ["paired", "combined", "combined"]
    assert [each.verdict for each in found] == ["refuted", "verified", "verified"]
    assert found[0].stderr == pytest.approx(0.5 * math.sqrt(2 / N), rel=0.1)
    assert found[0].difference == pytest.approx(0.2, abs=0.12)
    assert {each.verdict for each in judge(runs(np.random.default_rng(2), 10, 0.5, fault=5.0))} == {"refuted"}


def few(noise: np.random.Generator, count: int, **changes: Any) -> Evidence:
    """An honest row whose standard error comes of three repeats, as does its re-evaluation's; `count` more seeds."""
    means, errors = zip(*((x.mean(), x.std(ddof=1) / 3**0.5) for x in noise.normal(0, 1, (2 + count, 3))), strict=True)
    a, b = (row(value=float(m), stderr=float(e), n=3, **changes) for m, e in zip(means[:2], errors[:2], strict=True))
    return Evidence(a, dataclasses.replace(b, seed=1000), None, tuple(map(float, means[2:])))


@pytest.mark.slow
def test_more_seeds_keep_the_level_where_a_standard_error_comes_of_few_repeats() -> None:
    noise = np.random.default_rng(3)
    repeats, level = 3000, 0.02
    found = [few(noise, 5) for _ in range(repeats)]
    alone = sum(judge([each._replace(repeats=())], level)[0].verdict == "refuted" for each in found) / repeats
    assert alone > 3 * level  # three repeats are too few for a normal law
    student = [few(noise, 0, df=2) for _ in range(repeats)]
    assert sum(judge([each], level)[0].verdict == "refuted" for each in student) / repeats < 1.3 * level
    confirmed = sum(judge([each], level)[0].verdict == "refuted" for each in found) / repeats
    assert confirmed < level
    for each in found[:50]:
        false = row(value=20.0, stderr=0.5, n=3)
        (caught,) = judge([each._replace(row=false)], level)
        assert (caught.test, caught.verdict, caught.note) == ("repeated", "refuted", "against 5 more seeds")


def test_more_seeds_are_student_s_test_and_decide_on_tolerance_too() -> None:
    from scipy.stats import ttest_ind

    seeds = (1.0, 1.2, 0.9, 1.1)
    evidence = two(3.0, 1.0, stderr=None, bound="estimate", n=0)._replace(repeats=seeds)
    (found,) = judge([evidence])
    assert (found.test, found.verdict) == ("repeated", "refuted")
    assert found.difference == pytest.approx(3 - 1.05)
    expected = ttest_ind([3.0 - 3e-5], seeds).pvalue  # one against four: the same pooled variance
    assert found.p == pytest.approx(expected, rel=1e-6)
    wide = two(3.0, 1.0, stderr=None, bound="estimate")._replace(repeats=(1.0, 3.5, 2.0, 0.5))
    assert judge([wide])[0].verdict == "verified"
    one = two(3.0, 1.0, stderr=None, bound="estimate")._replace(repeats=(1.0,))
    assert (judge([one])[0].test, judge([one])[0].verdict) == ("tolerance", "refuted")  # one seed has no spread
    exact = two(3.0, 1.0, stderr=None, bound="exact")._replace(repeats=(1.0, 3.5))
    assert judge([exact])[0].test == "exact"
    paired = runs(np.random.default_rng(2), 10, 0.5, fault=0.2)[0]._replace(repeats=(0.0, 200.0))
    assert (judge([paired])[0].test, judge([paired])[0].verdict) == ("paired", "refuted")


def test_holm_is_holm() -> None:
    """p = .010, .013, .030, .040 at level .05: .010 <= .05 / 4 and .013 <= .05 / 3, but .030 > .05 / 2 ends it."""
    from scipy.stats import norm

    z = [float(norm.isf(p / 2)) * math.sqrt(2) for p in (0.030, 0.010, 0.040, 0.013)]
    evidence = [two(1000 + 1e-9 + x, 1000, column=f"c{i}", stderr=1.0, n=0) for i, x in enumerate(z)]
    evidence = [e._replace(row=dataclasses.replace(e.row, value=(e.row.value or 0) + 0.01)) for e in evidence]
    found = judge(evidence, 0.05)  # 0.01: what 1000 may differ by in rounding
    assert [round(each.p or 0, 3) for each in found] == [0.030, 0.010, 0.040, 0.013]
    assert [each.verdict for each in found] == ["verified", "refuted", "verified", "refuted"]
    assert [each.verdict for each in judge(evidence[::-1], 0.05)] == [each.verdict for each in found][::-1]


@pytest.mark.parametrize(
    ("evidence", "test", "verdict"),
    [
        (two(12, 12, stderr=None, bound="exact"), "exact", "verified"),
        (two(12, 12.0001, stderr=None, bound="exact"), "exact", "verified"),  # rounding
        (two(12, 13, stderr=None, bound="exact"), "exact", "refuted"),
        (two(100, 104.9, stderr=None, bound="estimate"), "tolerance", "verified"),
        (two(100, 105.5, stderr=None, bound="estimate"), "tolerance", "refuted"),
        (two(-100, -104.9, stderr=None, bound="estimate"), "tolerance", "verified"),
        (two(0, 0, stderr=None, bound="estimate"), "tolerance", "verified"),
        (two(1, 1, stderr=0.0), "combined", "verified"),
        (two(1, 1.001, stderr=0.0), "combined", "refuted"),
        (two(1, 1.001, stderr=0.0, bound="exact"), "combined", "refuted"),
        (Evidence(row(), row(seed=1000, **FAILED)), "none", "unverified"),
        (Evidence(row(**FAILED), row(seed=1000)), "none", "unverified"),
    ],
    ids=str,
)
def test_each_kind_of_column(evidence: Evidence, test: str, verdict: str) -> None:
    (found,) = judge([evidence])
    assert (found.test, found.verdict) == (test, verdict)


def test_an_inflated_standard_error_does_not_hide_a_fault() -> None:
    honest = Evidence(row(value=90.0, stderr=0.3), row(value=90.2, stderr=0.3, seed=1000))
    inflated = Evidence(row(value=80.0, stderr=30.0), row(value=90.2, stderr=0.3, seed=1000))
    fine, caught = judge([honest, inflated])
    assert (fine.verdict, fine.note) == ("verified", "")
    assert (caught.verdict, caught.note) == ("refuted", "its standard error is 100 times the re-run's")
    assert caught.stderr == pytest.approx(math.hypot(0.9, 0.3))


@pytest.mark.parametrize(("level", "tolerance"), [(0.0, 0.1), (1.0, 0.1), (0.1, -1.0)])
def test_level_and_tolerance_make_sense(level: float, tolerance: float) -> None:
    with pytest.raises(ValueError, match="should lie in"):
        judge([], level, tolerance)


CURVE = ((1.0, 2.0), (0.5, 0.0), "x", "y")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "bit for bit"),
        ({"seed": 5, "created": "2027-01-31T12:00:00+00:00", "torch": "3"}, "bit for bit"),
        ({"value": 84.5 * (1 + 1e-7)}, "within rounding"),
        ({"value": 84.6}, "different"),
        ({"stderr": 0.25 * (1 + 1e-7)}, "within rounding"),
        ({"stderr": 0.26}, "different"),
        ({"stderr": None}, "different"),
        ({"n": 359}, "different"),
        ({"curve": ((1.0, 2.0), (0.5, 1e-7), "x", "y")}, "within rounding"),
        ({"curve": ((1.0, 2.0), (0.5, 0.1), "x", "y")}, "different"),
        ({"curve": ((1.0, 2.0), (0.5, 0.0), "x", "z")}, "different"),
        ({"curve": None}, "different"),
        (FAILED | {"curve": None}, "different"),
    ],
    ids=str,
)
def test_agreement(changes: dict[str, Any], expected: str) -> None:
    assert agreement(row(curve=CURVE), row(**({"curve": CURVE} | changes))) == expected


def test_rounding_is_of_the_spread_where_a_value_is_near_zero() -> None:
    """A difference of two large numbers that is nearly zero keeps their rounding."""

    def near(value: float) -> Row:
        return row(value=value, stderr=1.0, n=10_000)

    assert agreement(near(0.0), near(1e-4)) == "within rounding"
    assert agreement(near(0.0), near(0.01)) == "different"


def test_environment_name_what_differs() -> None:
    assert environment(row(), row(seed=7)) == []
    other = row(torch="3", device="NVIDIA H100", commit="abc", dirty=True)
    assert environment(row(), other) == [
        ("device", "cpu", "NVIDIA H100"),
        ("torch", "2", "3"),
        ("commit", "None", "abc"),
        ("dirty", "None", "True"),
    ]
