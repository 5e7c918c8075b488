"""What each objective adds: its total against closed forms on Gaussians, and faults that the comparison must see."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from gaussians import NOISE, WIDTH, correlated, data, decomposition, exact, meets, repeat
from torch import Tensor

from vaebench.core.objective import Objective
from vaebench.distributions import noise
from vaebench.distributions.coupling import CouplingFlow
from vaebench.functional import total_correlation as estimates
from vaebench.models import oracles
from vaebench.training.objectives import capacity, consistency, factor, info, iwae, total_correlation

# iwae


@pytest.mark.parametrize("which", [0, 1, 2])
def test_iwae_tightens_with_samples_and_stays_above_the_exact_nll(which: int) -> None:
    oracle = oracles.oracles(count=60, slack=0.8)[which]
    x, nll = oracle.dataset.split("test").x, float(oracle.exact["nll"].mean())
    losses = [repeat(iwae.Iwae(iwae.Options(k)), oracle.model, x).total for k in (1, 5, 25, 200)]
    errors = [float(loss.std()) / len(loss) ** 0.5 for loss in losses]
    for loose, tight, error in zip(losses, losses[1:], errors, strict=False):
        assert float(loose.mean() - tight.mean()) > 5 * error
    assert losses[-1].mean() > nll - 4.5 * errors[-1]
    assert losses[-1].mean() < nll + 0.2
    if "elbo" in oracle.exact:
        assert meets(losses[0], -float(oracle.exact["elbo"].mean()))


def test_iwae_averages_weights_and_not_log_weights_or_their_sum() -> None:
    oracle = oracles.oracles(count=3)[0]
    x = oracle.dataset.split("test").x
    with noise.keyed(0, torch.arange(3)):
        total = iwae.Iwae(iwae.Options(7))(oracle.model, x, 0.0).total.detach()
    with noise.keyed(0, torch.arange(3)):
        weight = oracle.model.draw(x, 7).log_weight.detach().double()
    assert float(total) == pytest.approx(float(-weight.exp().mean(0).log().mean()), rel=1e-5)
    for wrong in (-weight.mean(), -weight.exp().sum(0).log().mean(), -weight.exp().mean().log()):
        assert float(total) != pytest.approx(float(wrong), rel=1e-3)


# capacity


@pytest.mark.parametrize(("progress", "target"), [(0.0, 0.0), (0.1, 5.0), (0.2, 10.0), (0.4, 20.0), (0.9, 20.0)])
def test_capacity_rises_linearly_and_pulls_from_both_sides(progress: float, target: float) -> None:
    model, x = correlated(), data(200)
    distortion, rate = exact(model, x)
    objective = capacity.Capacity(capacity.Options(rate=50.0, fraction=0.4, gamma=3.0, until=0.4))
    total = repeat(objective, model, x, progress).total
    assert meets(total, distortion + 3 * abs(rate - target))
    assert not meets(total, distortion + 3 * abs(rate - target - 2))
    assert meets(total, distortion + 3 * (rate - target)) == (target < rate)  # the bars are not for show


def test_capacity_is_of_the_batch_mean() -> None:
    """The same at any batch size, and not the mean of each example's distance."""
    model, x = correlated(), data(200)
    distortion, rate = exact(model, x)
    objective = capacity.Capacity(capacity.Options(round(rate, 2) - 0.5, 1.0, gamma=1.0))
    truth = distortion + abs(rate - objective.options.capacity)
    assert meets(repeat(objective, model, x).total, truth)
    assert meets(repeat(objective, model, x.repeat(3, 1)).total, truth)
    alone = torch.stack([repeat(objective, model, row[None], times=5).total for row in x]).mean(0)
    assert not meets(alone, truth)


@pytest.mark.parametrize("progress", [0.0, 1.0])  # the rate is above 0, and below 40
def test_a_flow_always_makes_log_p_large(progress: float) -> None:
    """Its gradient is that of -log p(z); the encoder's is of gamma |KL - C|, the distortion's as ever."""
    x, found = data(50), []
    objective = capacity.Capacity(capacity.Options(rate=40.0, fraction=1.0, gamma=7.0))
    for part in ("total", "prior", "weighed"):
        model = correlated(decoupled=True)
        with noise.keyed(0, torch.arange(50)):
            draws = model.draw(x, 1)
        rate = (draws.log_posterior - draws.log_prior).mean()
        sign = 1.0 if progress == 0 else -1.0
        with noise.keyed(0, torch.arange(50)):
            loss = objective(model, x, progress).total
        values = {"total": loss, "prior": rate, "weighed": -draws.log_likelihood.mean() + 7 * sign * rate}
        values[part].backward()
        found.append(model)
    total, prior, weighed = (dict(model.named_parameters()) for model in found)
    flow = [name for name in total if name.startswith("flow")]
    assert flow
    for name, parameter in total.items():
        expected = (prior if name in flow else weighed)[name].grad
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-4)


# total correlation


def parts_meet_the_closed_form(objective: Objective, decoupled: bool) -> None:
    model, x = correlated(decoupled), data(1500)
    loss = repeat(objective, model, x, times=2)
    for name, truth in decomposition(model).items():
        assert float(loss.terms[name].mean()) == pytest.approx(truth, abs=0.15), name


@pytest.mark.parametrize("decoupled", [False, True])
def test_the_three_parts_of_the_rate_in_closed_form(decoupled: bool) -> None:
    parts_meet_the_closed_form(total_correlation.TotalCorrelation(total_correlation.Options()), decoupled)


@pytest.mark.parametrize("fault", ["sum for mean", "swapped", "jacobian"])
def test_faults_in_the_parts_are_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = estimates.minibatch_weighted

    def planted(z: Tensor, mean: Tensor, log_variance: Tensor, size: int) -> tuple[Tensor, Tensor]:
        joint, marginals = real(z, mean, log_variance, size)
        return (marginals, joint) if fault == "swapped" else (joint + math.log(len(z)), marginals)

    if fault == "jacobian":
        flow = CouplingFlow.forward
        monkeypatch.setattr(CouplingFlow, "forward", lambda self, z: (flow(self, z)[0], torch.zeros(())))
    else:
        monkeypatch.setattr(total_correlation, "minibatch_weighted", planted)
    objective = total_correlation.TotalCorrelation(total_correlation.Options())
    with pytest.raises(AssertionError):
        parts_meet_the_closed_form(objective, decoupled=True)


@pytest.mark.parametrize("sampling", ["weighted", "stratified"])
def test_total_weighs_the_parts(sampling: Any) -> None:
    model, x = correlated(True), data(50)
    objective = total_correlation.TotalCorrelation(total_correlation.Options(2.0, 5.0, 3.0, sampling))
    objective.examples = 1000
    loss = objective(model, x, 0.0)
    t = {name: float(value.detach()) for name, value in loss.terms.items()}
    weighed = 2 * t["mutual_information"] + 5 * t["total_correlation"] + 3 * t["dimension_wise_kl"]
    assert float(loss.total.detach()) == pytest.approx(t["distortion"] + weighed, rel=1e-5)
    parts = t["mutual_information"] + t["total_correlation"] + t["dimension_wise_kl"]
    assert t["rate"] == pytest.approx(parts, rel=1e-5)


def test_the_training_loops_dataset_size_shifts_only_the_weighted_parts() -> None:
    """log N moves from one part to another; the gradient is the same."""
    found = []
    for size in (1, 1000):
        model, objective = correlated(), total_correlation.TotalCorrelation(total_correlation.Options())
        objective.prepare(model, size)
        with noise.keyed(0, torch.arange(50)):
            loss = objective(model, data(50), 0.0)
        loss.total.backward()
        found.append((loss, model.head.weight.grad))
    (one, one_grad), (many, many_grad) = found
    shift = float((many.terms["mutual_information"] - one.terms["mutual_information"]).detach())
    assert shift == pytest.approx(math.log(1000), rel=1e-4)
    torch.testing.assert_close(one.terms["rate"], many.terms["rate"])
    torch.testing.assert_close(one_grad, many_grad)


# info


def info_meets_the_closed_form(decoupled: bool) -> None:
    model, x, n = correlated(decoupled), data(60), 60
    distortion, rate = exact(model, x)
    scale = WIDTH**2

    def kernel(mean: Tensor, variance: Tensor) -> Tensor:  # E exp(-|a|^2 / scale), a ~ N(mean, diag variance)
        each = (-mean.square() / (scale + 2 * variance)).exp() / (1 + 2 * variance / scale).sqrt()
        return each.prod(-1)

    own = torch.full((WIDTH,), NOISE)
    among = kernel(x[:, None] - x, 2 * own)
    posterior = (among.sum() - among.diag().sum() + n) / n**2
    prior = kernel(torch.zeros(WIDTH), 2 * model.spread**2)
    prior = prior + (1 - prior) / n
    mmd = float(posterior + prior - 2 * kernel(x - model.centre, own + model.spread**2).mean())
    loss = repeat(info.Info(info.Options(alpha=0.3, strength=50.0)), model, x, times=400)
    assert meets(loss.terms["mmd"], mmd)
    assert meets(loss.total, distortion + 0.7 * rate + 49.3 * mmd)
    rest = loss.total - loss.terms["distortion"] - 0.7 * loss.terms["rate"]
    torch.testing.assert_close(rest, 49.3 * loss.terms["mmd"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("decoupled", [False, True])
def test_info_in_closed_form(decoupled: bool) -> None:
    info_meets_the_closed_form(decoupled)


def test_info_that_compares_with_the_base_of_the_flow_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CouplingFlow, "inverse", lambda self, u: u)  # draws of N(0, I), not of p(z)
    with pytest.raises(AssertionError):
        info_meets_the_closed_form(True)


def test_options_are_what_the_protocol_says() -> None:
    defaults = {
        iwae.Options: {"samples": 50},
        lambda: capacity.Options(20.0): {"rate": 20.0, "fraction": 0.5, "gamma": 15.0, "until": 1.0},
        factor.Options: {
            "gamma": 10.0,
            "width": 1000,
            "depth": 5,
            "leaky": 0.2,
            "learning_rate": 1e-4,
            "betas": (0.5, 0.9),
        },
        info.Options: {"alpha": 0.0, "strength": 1000.0},
        consistency.Options: {
            "base": {"name": "elbo"},
            "strength": 0.1,
            "augmented": 1.0,
            "transform": "affine-small",
            "flip": "none",
            "colour": "none",
        },
    }
    for options, expected in defaults.items():
        assert dataclasses.asdict(options()) == expected
