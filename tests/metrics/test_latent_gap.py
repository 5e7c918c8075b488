"""Prior against aggregate posterior: closed forms, a matched pair, a planted pocket and a planted leak."""

import math
from collections.abc import Callable

import pytest
import torch
from stored import LATENT, Stored, dataset, leak, means, pocket

from vaebench.core.data import Dataset
from vaebench.core.metric import Measurement
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.coupling import CouplingFlow
from vaebench.evaluation.selftest import latents
from vaebench.functional.leakage import FIXED, leakage, threshold, thresholds
from vaebench.metrics.latent_gap import LatentGap
from vaebench.metrics.shared.prior import log_base, log_prior
from vaebench.models.oracles import oracles

Measure = Callable[..., dict[str, Measurement]]


def kl(mean: float, variance: float, other_mean: float, other: float) -> float:
    """Between isotropic Gaussians in LATENT dimensions."""
    ratio = variance / other
    return LATENT * 0.5 * (ratio - 1 - math.log(ratio) + (mean - other_mean) ** 2 / other)


def off(found: Measurement, exact: float, bias: float) -> float:
    """In standard errors, once the bias of a finite N is allowed for."""
    assert found.stderr is not None
    return max(0.0, abs(found.value - exact) - bias) / found.stderr


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 0.8), (0.7, 0.6), (0.0, 1.4)])
def test_both_directions_meet_their_closed_forms(mean: float, scale: float, measure: Measure) -> None:
    within = 0.36
    found = measure(LatentGap(draws=4000), Stored(math.log(within)), dataset(means(20_000, mean, scale)))
    variance = scale**2 + within
    forward, backward = kl(0, 1, mean, variance), kl(mean, variance, 0, 1)
    assert off(found["kl_prior_aggregate"], forward, 0.005) < 4
    assert off(found["kl_aggregate_prior"], backward, 0.005) < 4
    assert off(found["skl"], forward + backward, 0.01) < 4
    assert found["skl"].value == pytest.approx(found["kl_prior_aggregate"].value + found["kl_aggregate_prior"].value)
    assert abs(found["skl_knn"].value - forward - backward) < 0.15  # biased at any n


def test_a_matched_prior_scores_zero(measure: Measure) -> None:
    found = measure(LatentGap(draws=4000), Stored(math.log(0.36)), dataset(means(20_000, 0, 0.8)))
    assert off(found["skl"], 0, 0.01) < 4
    assert off(found["leaked"], 0.01, 0.0005) < 4
    assert abs(found["leakage"].value) < 0.003
    assert abs(found["skl_knn"].value) < 0.1


def test_a_pocket_and_a_leak_are_found_each_in_its_direction(measure: Measure) -> None:
    x, model, metric = means(10_000, 0, 1), Stored(math.log(0.01)), LatentGap(draws=3000)
    plain, hollow, leaking = (measure(metric, model, dataset(f(x))) for f in (lambda t: t, pocket, leak))
    assert hollow["kl_prior_aggregate"].value > plain["kl_prior_aggregate"].value + 5
    assert hollow["leaked"].value < 0.05
    assert leaking["kl_aggregate_prior"].value > plain["kl_aggregate_prior"].value + 3
    assert leaking["leaked"].value == pytest.approx(0.1, abs=0.03)
    assert leaking["leakage"].value > plain["leakage"].value + 2
    curve = leaking["leakage"].curve
    assert curve is not None
    assert set(FIXED) <= set(curve.x)
    at = dict(zip(curve.x, curve.y, strict=True))
    assert at[-90.0] == 0
    assert at[-30.0] > 2  # 36 nats below the mode and denser under q: found even at a low threshold
    given = leaking["leakage_given_leak"]
    assert given.value > 10 * leaking["leakage"].value / 2
    assert given.curve is not None
    assert -90.0 not in given.curve.x


def test_a_decoupled_prior_is_scored_with_its_jacobian() -> None:
    """Against a sum over a grid: the density integrates to one; the planted fault, without the Jacobian, does not."""
    torch.manual_seed(0)
    flow = CouplingFlow(LATENT)
    axis = torch.linspace(-9, 9, 400)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = log_prior(Stored(0.0, flow), grid).exp()
        _, log_det = flow(grid)
    cell = float(axis[1] - axis[0]) ** 2
    assert float(density.sum()) * cell == pytest.approx(1, abs=0.01)
    assert float((density / log_det.double().exp()).sum()) * cell != pytest.approx(1, abs=0.01)


def test_leakage_counts_only_what_is_below_the_threshold() -> None:
    found = leakage(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([-5.0, -1.0, -9.0]), -4.0)
    assert found.term.tolist() == [6.0, 0.0, 12.0]
    assert found.leaked.tolist() == [True, False, True]


def test_thresholds_hold_their_share_of_the_base_density() -> None:
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(200_000, 5, generator=generator)
    density = -0.5 * (u.square().sum(1) + 5 * math.log(2 * math.pi))
    for tail in (0.5, 0.1, 0.01):
        share = float((density < threshold(5, tail)).double().mean())
        assert abs(share - tail) < 4 * (tail / 200_000) ** 0.5
    assert thresholds(5) == sorted(thresholds(5))


def test_a_posterior_without_density_has_what_its_draws_tell(
    measure: Measure, zoo: Callable[[str], LatentVariableModel], digits: Dataset
) -> None:
    found = measure(LatentGap(split="test", draws=120), zoo("hvae"), digits)
    assert set(found) == {"skl_knn", "leaked"}
    curve = found["leaked"].curve
    assert curve is not None
    assert list(curve.y) == sorted(curve.y)
    assert curve.y[-1] > 0.9  # below the 0.5 quantile's threshold and higher: about half, then all


def test_a_dp_twin_is_nearer_its_prior(
    measure: Measure, zoo: Callable[[str], LatentVariableModel], digits: Dataset
) -> None:
    plain, twin = (measure(LatentGap(draws=1000), zoo(name), digits) for name in ("vae", "dpvae"))
    assert twin["skl"].value < plain["skl"].value - 1  # nats; ten standard errors on these two models
    assert all(found.n and math.isfinite(found.value) for found in (*plain.values(), *twin.values()))


def test_seeds_differ(measure: Measure, zoo: Callable[[str], LatentVariableModel], digits: Dataset) -> None:
    model = zoo("vae")
    one, same, other = (measure(LatentGap(draws=200), model, digits, seed) for seed in (0, 0, 1))
    assert one == same
    assert all(one[name].value != other[name].value for name in ("skl", "skl_knn", "leakage"))


@pytest.mark.parametrize("index", [0, 1, 2], ids=["flat", "decoupled", "two-level"])
def test_an_oracle_whose_posterior_is_exact_has_no_gap_in_its_first_group(index: int, measure: Measure) -> None:
    oracle = oracles(count=10_000, slack=0.0)[index]
    found = measure(LatentGap(split="test", draws=2000), oracle.model, oracle.dataset)
    assert all(off(found[name], 0, 0.005) < 4 for name in ("kl_prior_aggregate", "kl_aggregate_prior"))
    assert off(found["leaked"], 0.01, 0) < 4


@pytest.mark.slow
def test_the_oracles_see_a_missing_jacobian(monkeypatch: pytest.MonkeyPatch) -> None:
    device, dtype = torch.device("cpu"), torch.float32
    assert all(answer.passed for answer in latents.latent_gap(device, dtype))
    monkeypatch.setattr(latents, "log_prior", log_base)
    failed = {answer.estimator for answer in latents.latent_gap(device, dtype) if not answer.passed}
    assert failed == {"latent-gap kl_aggregate_prior, decoupled oracle"}  # the other's draws have scores of their own


def test_repeats_that_share_images_are_marked(
    measure: Measure, zoo: Callable[[str], LatentVariableModel], digits: Dataset
) -> None:
    """Three sets of 400 draws have images of their own of 1,437; three of 600 have not."""
    marks = {draws: measure(LatentGap(draws=draws), zoo("vae"), digits)["skl_knn"].marks for draws in (400, 600)}
    assert marks == {400: (), 600: ("shared images",)}
