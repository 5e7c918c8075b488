"""Intervals against tables and library functions, at their edges, and by how often they hold the truth."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ndtri
from sklearn.metrics import roc_auc_score

from vaebench.functional import intervals
from vaebench.functional.convergence import bound_loose
from vaebench.functional.frechet import frechet_distance, moments
from vaebench.functional.knn_kl import knn_kl
from vaebench.functional.separation import separation
from vaebench.functional.statistics import mean_stderr

Interval = tuple[float, float]


def test_student_s_are_scipy_s() -> None:
    for df in (1.0, 2.0, 4.0, 359.0):
        assert intervals.student(3.0, 0.5, df) == pytest.approx(stats.t.interval(0.95, df, 3.0, 0.5))
        assert intervals.p_value(-1.0, 0.5, df) == pytest.approx(2 * stats.t.sf(2, df))
    assert intervals.student(3.0, 0.5) == pytest.approx(stats.norm.interval(0.95, 3.0, 0.5))
    assert intervals.p_value(1.0, 0.5) == pytest.approx(2 * stats.norm.sf(2))
    assert (intervals.p_value(0.0, 0.0), intervals.p_value(1.0, 0.0)) == (1, 0)


def test_three_sets_of_samples_have_the_wide_interval_that_they_earn() -> None:
    low, high = intervals.student(0.0, 1.0, 2)
    assert (low, high) == pytest.approx((-4.30265, 4.30265), abs=1e-5)


def test_joined_errors_are_welch_s() -> None:
    a, b = np.random.default_rng(0).normal(size=7), 3 * np.random.default_rng(1).normal(size=11)
    stderr, df = intervals.joined(*((float(x.std(ddof=1)) / len(x) ** 0.5, len(x) - 1.0) for x in (a, b)))
    found = stats.ttest_ind(a, b, equal_var=False)
    assert df == pytest.approx(found.df)
    assert (a.mean() - b.mean()) / stderr == pytest.approx(found.statistic)
    assert intervals.joined((3.0, None), (4.0, None)) == (5.0, None)
    assert intervals.joined((3.0, 2.0), (0.0, None)) == (3.0, 2.0)
    assert intervals.joined((0.0, 2.0)) == (0.0, None)
    assert intervals.joined((1e-150, 2.0), (1e-150, 2.0))[1] == pytest.approx(4)


def test_wilson_s_are_those_of_newcombe_1998() -> None:
    """Table I there, method 3, to its four places."""
    table = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0, 0.1611), (1, 29): (0.0061, 0.1718)}
    for (count, n), expected in table.items():
        assert intervals.wilson(count / n, n) == pytest.approx(expected, abs=5e-5)
    assert intervals.wilson(1.0, 20) == pytest.approx((1 - 0.1611, 1), abs=5e-5)


def test_a_proportion_counts_as_many_trials_as_its_error_says() -> None:
    assert intervals.proportion(0.3, math.sqrt(0.3 * 0.7 / 50), 400) == pytest.approx(intervals.wilson(0.3, 50))
    assert intervals.proportion(1.0, 0.0, 400) == intervals.wilson(1.0, 400)
    assert intervals.trained(0.3, 400, 0.0) == intervals.wilson(0.3, 400)
    assert intervals.trained(0.3, 400, 0.3 * 0.7 / 400) == pytest.approx(intervals.wilson(0.3, 200))


def test_newcombe_s_root_is_where_the_area_lies_196_errors_away() -> None:
    """V(theta) at the two ends, by Hanley and McNeil's Q1 and Q2 with both sizes at their mean."""
    m, n, area = 40, 90, 0.83
    for end in intervals.newcombe(area, m, n):
        q1, q2, many = end / (2 - end), 2 * end**2 / (1 + end), (m + n) / 2 - 1
        variance = (end * (1 - end) + many * (q1 - end**2) + many * (q2 - end**2)) / (m * n)
        assert abs(area - end) / variance**0.5 == pytest.approx(1.959964, abs=1e-5)


@given(st.floats(0, 1), st.integers(2, 2000), st.integers(2, 2000))
def test_intervals_of_rates_hold_the_value_lie_in_the_unit_interval_and_have_a_width(
    part: float, m: int, n: int
) -> None:
    found: list[Interval] = [
        intervals.wilson(part, n),
        intervals.newcombe(part, m, n),
        intervals.resampled(part, 0.0, n),
        intervals.resampled(part, 0.3, n),
        intervals.trained(part, n, 0.01),
    ]
    for low, high in found:
        assert 0 <= low <= part <= high <= 1
        assert high - low > 1e-4 / max(m, n)
    low, high = intervals.newcombe(part, m, n)
    assert intervals.newcombe(1 - part, m, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_sets_of_five_that_are_apart_have_the_interval_that_five_can_justify() -> None:
    found = separation(torch.arange(5.0), torch.arange(5.0) + 10, 100, 0)
    assert (found.auroc.value, found.auroc.stderr) == (1, 0)
    assert 0.55 < found.auroc.low < 0.75
    assert found.fpr95.high > 0.4
    assert found.auprc.low < 0.6


def test_the_interval_of_a_cleaning_curve_is_that_of_its_roc_curve() -> None:
    ood, total = 30, 200
    for roc in (0.0, 0.4, 0.97, 1.0):
        area = 1 - ((1 - roc) * (total - ood) + (ood - 1) / 2) / total  # as in functional.influence
        low, high = intervals.newcombe(roc, ood, total - ood)
        assert intervals.detection(area, ood, total) == pytest.approx(
            tuple(1 - ((1 - end) * (total - ood) + (ood - 1) / 2) / total for end in (low, high))
        )


@pytest.mark.parametrize(
    ("nll", "tenth", "ess", "samples", "loose"),
    [
        (100, 100.05, 50, 1000, False),
        (100, 100.05, 9.9, 1000, True),  # fewer than 10 draws count
        (100, 100.05, 40, 5000, True),  # fewer than one in a hundred
        (100, 100.11, 50, 1000, True),
        (1000, 1000.9, 50, 1000, False),  # 0.1% of the NLL
        (-1000, -998.9, 50, 1000, True),
        (11167, 11205, 1.09, 100, True),  # cifar10's NVAE
    ],
)
def test_when_a_bound_is_loose(nll: float, tenth: float, ess: float, samples: int, loose: bool) -> None:
    assert bound_loose(nll, tenth, ess, samples) is loose


# --- coverage -----------------------------------------------------------------------------------------------------

SIMULATIONS = 2000


def held(found: list[Interval], truth: float) -> float:
    return sum(low <= truth <= high for low, high in found) / len(found)


def of_mean(values: torch.Tensor) -> Interval:
    mean, stderr = mean_stderr(values)
    assert stderr is not None
    return intervals.student(mean, stderr, len(values) - 1)


def roc(noise: np.random.Generator, truth: float, m: int, n: int) -> Interval:
    """Of two normals."""
    score = np.concatenate([noise.normal(2**0.5 * float(ndtri(truth)), 1, m), noise.normal(0, 1, n)])
    return intervals.newcombe(float(roc_auc_score(np.arange(m + n) < m, score)), m, n)


@pytest.mark.slow
@pytest.mark.parametrize(("m", "n"), [(50, 50), (100, 400), (500, 500)])
@pytest.mark.parametrize("truth", [0.6, 0.97, 0.999])
def test_coverage_of_the_area_under_a_roc_curve(truth: float, m: int, n: int) -> None:
    noise = np.random.default_rng(round(truth * 1000) + m)
    part = held([roc(noise, truth, m, n) for _ in range(SIMULATIONS)], truth)
    assert part > 0.93
    assert truth > 0.9 or part < 0.97  # Hanley and McNeil's variance is of exponential scores, the wider at the edge


@pytest.mark.slow
@pytest.mark.parametrize("truth", [0.005, 0.1, 0.72, 0.97, 0.999])
@pytest.mark.parametrize("n", [360, 5000])
def test_coverage_of_proportions(truth: float, n: int) -> None:
    """Of accuracies, and of `leaked`, whose draws are 0 or 1."""
    drawn = np.random.default_rng(n).binomial(n, truth, SIMULATIONS) / n
    for whole in (
        [intervals.wilson(float(part), n) for part in drawn],
        [intervals.proportion(float(p), float((p * (1 - p) / (n - 1)) ** 0.5), n) for p in drawn],
    ):
        assert 0.93 <= held(whole, truth) <= (0.97 if min(truth, 1 - truth) * n > 20 else 1)


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 360])
def test_coverage_of_the_mean_of_skewed_values_of_images(n: int) -> None:
    """As each image's NLL is: right-skewed, here gamma of shape 8."""
    values = torch.from_numpy(np.random.default_rng(0).gamma(8, 12, (SIMULATIONS, n)))
    assert 0.93 <= held([of_mean(row) for row in values], 96) <= 0.97


@pytest.mark.slow
def test_coverage_of_both_directions_of_a_gap() -> None:
    """skl of N(0, 1) and N(1/2, 2.25) by draws of each: the sum of two means, with Welch's degrees of freedom."""
    noise, count, found = np.random.default_rng(0), 1000, []
    p, q = stats.norm(0, 1), stats.norm(0.5, 1.5)
    truth = 0.5 * ((1 + 0.25) / 2.25 - 1 + math.log(2.25)) + 0.5 * (2.25 + 0.25 - 1 - math.log(2.25))
    for _ in range(SIMULATIONS):
        a, b = p.rvs(count, random_state=noise), q.rvs(count, random_state=noise)
        parts = [mean_stderr(torch.from_numpy(x)) for x in (p.logpdf(a) - q.logpdf(a), q.logpdf(b) - p.logpdf(b))]
        stderr, df = intervals.joined(*((error or 0.0, count - 1.0) for _, error in parts))
        found.append(intervals.student(parts[0][0] + parts[1][0], stderr, df))
    assert 0.93 <= held(found, truth) <= 0.97


def repeated(values: torch.Tensor, repeats: int) -> list[Interval]:
    return [of_mean(each) for each in values[: len(values) // repeats * repeats].split(repeats)]


@pytest.mark.slow
@pytest.mark.parametrize("repeats", [3, 5])
@pytest.mark.parametrize("kind", ["skl_knn", "fd"])
def test_coverage_over_repeats(kind: str, repeats: int) -> None:
    """Of what the estimator expects at this n, which the mean over all simulations knows far better than one does."""
    generator = torch.Generator().manual_seed(repeats)

    def draw(count: int, width: int) -> torch.Tensor:
        return torch.randn(count, width, generator=generator)

    reference = moments(draw(2000, 4))
    if kind == "fd":
        values = [frechet_distance(reference, moments(1.2 * draw(100, 4))) for _ in range(SIMULATIONS * repeats)]
    else:
        sets = ((draw(60, 2), 1.5 * draw(60, 2)) for _ in range(SIMULATIONS * repeats))
        values = [knn_kl(p, q) + knn_kl(q, p) for p, q in sets]
    found = torch.tensor(values, dtype=torch.float64)
    assert 0.93 <= held(repeated(found, repeats), float(found.mean())) <= 0.97
