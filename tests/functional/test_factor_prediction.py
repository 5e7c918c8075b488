"""Scores of factors told from codes: known poles and the published codes' values."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor

from vaebench.functional.factor_prediction import (
    Sample,
    beta_vae_score,
    concentration,
    explicitness,
    factor_vae_score,
    importances,
    sap,
    separability,
)
from vaebench.functional.factors import fixed_factor, fixed_factor_pairs, uniform_factors

GOLDEN = Path(__file__).parents[1] / "golden"
SIZES = (4, 6, 5)
KINDS = ("perfect", "rotated", "noise")


def load(name: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: torch.from_numpy(np.array(file[key])) for key in file}


def stored(case: str) -> tuple[Sample, Sample, dict[str, Tensor]]:
    g = load(f"dlib_stored_{case}")
    train, test = (Sample(g[f"codes_{part}"], g[f"factors_{part}"].long()) for part in ("train", "test"))
    return train, test, g


def code(kind: str, factors: Tensor) -> Tensor:
    """Codes (..., 3): each factor by itself, an orthogonal mixture of all, or pure noise; a little noise on each."""
    generator = torch.Generator().manual_seed(len(factors))
    size = torch.tensor(SIZES).double()
    unit = (factors - (size - 1) / 2) / ((size.square() - 1) / 12).sqrt()
    jitter = torch.randn(unit.shape, generator=generator, dtype=torch.float64)
    if kind == "noise":
        return jitter
    if kind == "rotated":
        turn = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        unit = unit @ torch.linalg.qr(turn)[0]
    return unit + 0.02 * jitter


def samples(kind: str, train: int = 600, test: int = 500) -> tuple[Sample, Sample]:
    factors = [uniform_factors(seed, SIZES, torch.arange(n)) for seed, n in enumerate((train, test))]
    first, second = (Sample(code(kind, f), f) for f in factors)
    return first, second


def test_importances_are_those_of_a_perfect_a_rotated_and_a_useless_code() -> None:
    found = {}
    for kind in KINDS:
        weights, correct = importances(*samples(kind), trees=10, seed=0)
        assert weights.sum(0).tolist() == pytest.approx([1.0] * 3)
        found[kind] = (concentration(weights), concentration(weights.T), float(correct.double().mean()))
    assert found["perfect"] == pytest.approx((1, 1, 1), abs=1e-6)
    assert max(found["rotated"][:2]) < 0.7
    assert found["rotated"][2] > 0.6
    assert max(found["noise"][:2]) < 0.1
    assert found["noise"][2] < 0.35
    train, test = samples("perfect")
    constant = Sample(train.codes, train.factors * torch.tensor([1, 0, 1]))
    weights, correct = importances(constant, test, trees=2, seed=0)
    assert weights[:, 1].tolist() == [0, 0, 0]
    assert float(correct[:, 1].double().mean()) == pytest.approx(float((test.factors[:, 1] == 0).double().mean()))


def test_concentration_has_its_closed_forms() -> None:
    assert concentration(torch.eye(3)) == 1
    assert concentration(torch.ones(3, 4)) == pytest.approx(0, abs=1e-6)
    assert concentration(torch.zeros(3, 4)) == 0
    half = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 6.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert concentration(half) == pytest.approx((2 * 0.5 + 6 * 1) / 8)


@pytest.mark.parametrize(("case", "disentangled", "complete"), [
    ("perfect", 0.9999999994300247, 0.9999999994300248), ("rotated", 0.2439257173038574, 0.24504920765656477),
])  # fmt: skip
def test_dci_of_stored_importances_equals_the_published_code(case: str, disentangled: float, complete: float) -> None:
    weights = stored(case)[2]["importances"]
    assert (concentration(weights), concentration(weights.T)) == pytest.approx((disentangled, complete), abs=2e-9)


@pytest.mark.slow
def test_dci_equals_the_published_code_from_the_codes_on() -> None:
    train, test, g = stored("rotated")
    weights, correct = importances(train, test, 100, 0)
    torch.testing.assert_close(weights, g["importances"], atol=2e-3, rtol=0)
    assert float(correct.double().mean()) == pytest.approx(0.9723, abs=1e-3)


@pytest.mark.parametrize(("case", "score", "explicit"), [("perfect", 0.485875, 1.0), ("rotated", 0.08925, 1.0)])
def test_sap_and_explicitness_equal_the_published_code(case: str, score: float, explicit: float) -> None:
    train, test, g = stored(case)
    accuracy = separability(train, test).double().mean(0)
    torch.testing.assert_close(accuracy, g["sap"], atol=1.1e-3, rtol=0)  # two of 2,000 examples
    assert sap(accuracy) == pytest.approx(score, abs=1e-3)
    assert explicitness(train, test)[0] == pytest.approx(explicit, abs=1e-3)


def test_separability_and_explicitness_of_the_poles() -> None:
    gaps, areas = {}, {}
    for kind in KINDS:
        train, test = samples(kind)
        gaps[kind] = sap(separability(train, test).double().mean(0))
        areas[kind], error = explicitness(train, test)
        if kind == "noise":
            assert abs(areas[kind] - 0.5) < 4 * error
            assert 0 < error < 0.05
    assert gaps["perfect"] > 0.2  # one linear function a value cannot tell those in the middle
    assert gaps["perfect"] > 1.5 * gaps["rotated"] > 1.5 * gaps["noise"]
    assert gaps["noise"] < 0.06
    assert areas["perfect"] > 0.95
    assert sap(torch.tensor([[0.5, 0.9]])) == pytest.approx(0.7)


@pytest.mark.slow
def test_the_area_and_its_error_are_those_of_a_library_and_of_repeats() -> None:
    train, _ = samples("noise")
    codes = train.codes + 0.5 * train.factors  # each code knows a little
    train = Sample(codes, train.factors)
    found = []
    for seed in range(20):
        factors = uniform_factors(100 + seed, SIZES, torch.arange(400))
        noise = torch.randn(factors.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        found.append(explicitness(train, Sample(noise + 0.5 * factors, factors)))
        if seed == 0:
            expected = []
            for f in range(3):
                model = LogisticRegression(max_iter=1000).fit(codes.numpy(), train.factors[:, f].numpy())
                chance = model.predict_proba((noise + 0.5 * factors).numpy())
                expected.append(roc_auc_score(factors[:, f].numpy(), chance, multi_class="ovr"))
            assert found[0][0] == pytest.approx(sum(expected) / 3, abs=1e-9)
    values, errors = np.array(found).T
    assert values.std(ddof=1) == pytest.approx(errors.mean(), rel=4 / 40**0.5)


@pytest.mark.parametrize(("case", "votes", "trained", "pairs"), [
    ("half_mixed", 0.68, 0.765, 0.9033333333333333), ("redundant_dead", 0.9, 0.88, 0.9966666666666667),
])  # fmt: skip
def test_vote_scores_equal_the_published_code(case: str, votes: float, trained: float, pairs: float) -> None:
    """`redundant_dead` has a code below the threshold, whose votes would change the score."""
    g = load(f"dlib_sampled_{case}")
    ballots = [(g["fv_fixed_factor"][part], g["fv_batch_variances"][part]) for part in (slice(200), slice(200, None))]
    for train, test, expected in ((ballots[0], ballots[1], votes), (ballots[0], ballots[0], trained)):
        correct = factor_vae_score(train, test, g["fv_variance"], 4)
        assert float(correct.double().mean()) == pytest.approx(expected, abs=1e-12)
    train, test = ((g[f"bv_labels_{part}"], g[f"bv_points_{part}"]) for part in ("train", "eval"))
    assert float(beta_vae_score(train, test).double().mean()) == pytest.approx(pairs, abs=0.004)


@pytest.mark.parametrize("kind", KINDS)
def test_vote_scores_of_the_poles(kind: str) -> None:
    number = torch.arange(500)
    which, factors = fixed_factor(0, SIZES, number, 32)
    variance = code(kind, uniform_factors(1, SIZES, torch.arange(2000))).var(0)
    value = code(kind, factors).var(1)
    correct = factor_vae_score((which[:300], value[:300]), (which[300:], value[300:]), variance, 3)
    shared, twice = fixed_factor_pairs(2, SIZES, number, 32)
    codes = code(kind, twice)
    distance = (codes[:, 0] - codes[:, 1]).abs().mean(1)
    told = beta_vae_score((shared[:300], distance[:300]), (shared[300:], distance[300:]))
    low, high = {"perfect": (0.999, 1), "rotated": (0.5, 0.98), "noise": (0.2, 0.47)}[kind]
    for score in (correct, told):
        assert low <= float(score.double().mean()) <= high or (kind == "rotated" and score is told)
    assert not factor_vae_score((which, value * 0), (which, value * 0), variance * 0, 3).any()
