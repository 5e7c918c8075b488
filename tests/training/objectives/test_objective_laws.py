"""Every objective: exact parts for any prior, training with either prior, resuming, and what is refused."""

import dataclasses
import itertools
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from weekly import weekly

from vaebench.core import registry as plugins
from vaebench.core import tables as tables_
from vaebench.core.data import Dataset, Source, Space
from vaebench.core.errors import UserError
from vaebench.core.objective import Objective
from vaebench.distributions import noise
from vaebench.distributions.coupling import CouplingFlow
from vaebench.models import oracles
from vaebench.models.adapters.flat import Flat
from vaebench.models.adapters.flat import Options as FlatOptions
from vaebench.models.card import Card, Recipe
from vaebench.models.oracles import LinearGaussian
from vaebench.training import loop as training
from vaebench.training.objectives.factor import Factor

CPU = torch.device("cpu")
SMALL: dict[str, dict[str, Any]] = {
    "elbo": {},
    "iwae": {"samples": 5},
    "capacity": {"rate": 8.0, "fraction": 0.5},
    "total-correlation": {},
    "factor": {"gamma": 5.0, "width": 16, "depth": 2},
    "info": {"strength": 20.0},
    "consistency": {"base": {"name": "iwae", "samples": 3}, "strength": 0.1, "flip": "horizontal"},
    "jacobian": {"beta": 1.0},
    "mutated": {"base": {"name": "elbo"}, "rate": 0.1},
}
PRIORS = "normal", "coupling"
DAILY = [(name, PRIORS[i % 2]) for i, name in enumerate(SMALL)]
VECTORS = [name for name in SMALL if name not in ("consistency", "mutated")]  # those that ask for no image


def build(name: str, options: dict[str, Any]) -> Objective:
    plugin: Any = plugins.load("objectives", name)
    objective: Objective = plugin[0](tables_.build(plugin[1], options, "test"))
    return objective


@cache
def digits() -> Dataset:
    source = plugins.load("datasets", "digits")
    assert isinstance(source, Source)
    return source.load(Path())


def digits_card(objective: dict[str, Any], prior: str = "normal", epochs: int = 2, **recipe: Any) -> Card:
    model = {"latent": 4, "hidden": [24], "likelihood": "discretised-logistic", "prior": prior}
    training = Recipe(epochs, 100, 3e-3, validation=200, **recipe)
    return Card("tiny", "digits", "a small model", "flat", model, objective, training=training)


def silent(step: int, steps: int, text: str) -> None:
    pass


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "tiny.log.jsonl").read_text().splitlines()]


def test_the_list_is_of_all_objectives() -> None:
    assert {*SMALL, "nvae"} == set(plugins.names("objectives"))  # that one needs groups: test_objective_nvae.py


# exact distortion and rate, standard normal and decoupled


def parts_are_exact(name: str, which: int) -> None:
    """Logged distortion and rate, over repeated draws, are the oracle's exact ones within 4.5 standard errors."""
    oracle = oracles.oracles(count=100)[which]
    model, objective = oracle.model, build(name, SMALL[name])
    assert isinstance(model, LinearGaussian)
    x = oracle.dataset.split("test").x
    objective.prepare(model, len(x))
    with torch.no_grad():
        seen = [objective(model, x, 1.0).terms for _ in range(40)]
        exact = model.exact(x)
    for term in ("distortion", "rate"):
        values = torch.stack([terms[term] for terms in seen]).double()
        error = float(values.mean() - exact[term].mean())
        assert abs(error) < 4.5 * float(values.std()) / len(values) ** 0.5 + 1e-4, (term, error)


@pytest.mark.parametrize("which", [0, 1], ids=["normal", "decoupled"])
@pytest.mark.parametrize("name", VECTORS)
def test_distortion_and_rate_meet_the_closed_form(name: str, which: int) -> None:
    parts_are_exact(name, which)


@pytest.mark.parametrize("name", VECTORS)
def test_dropping_the_jacobian_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = CouplingFlow.forward

    def planted(self: CouplingFlow, z: Tensor) -> tuple[Tensor, Tensor]:
        u, log_det = real(self, z)
        return u, torch.zeros_like(log_det)

    monkeypatch.setattr(CouplingFlow, "forward", planted)
    with pytest.raises(AssertionError, match="rate"):
        parts_are_exact(name, 1)


# training


@pytest.mark.parametrize(("name", "prior"), weekly(itertools.product(SMALL, PRIORS), *DAILY))
def test_trains_with_either_prior(name: str, prior: str, tmp_path: Path) -> None:
    card = digits_card({"name": name, **SMALL[name]}, prior)
    training.train(card, digits(), tmp_path, device=CPU, report=silent)
    first, last = log(tmp_path)
    what = "distortion" if name in ("jacobian", "capacity") else "total"  # their weights or aims rise from 0
    assert last["train"][what] < 0.95 * first["train"][what]
    assert last["validation"] is not None
    assert {"total", "distortion", "rate"} <= set(last["train"])
    assert all(value is not None for value in last["train"].values())


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_of_model_and_objective_learns(name: str) -> None:
    model = flat(prior="coupling")
    objective = build_any(name)
    objective.prepare(model, 100)
    loss = objective(model, digits().split("train").x[:12], 1.0)
    loss.total.backward()
    for part in (model, objective):
        for key, parameter in part.named_parameters():
            assert parameter.grad is not None, key
            assert torch.isfinite(parameter.grad).all(), key
            assert parameter.grad.abs().sum() > 0, key
    assert loss.total.shape == ()
    assert all(term.shape == () for term in loss.terms.values())


def flat(prior: Any = "normal", seed: int = 0, **more: Any) -> Flat:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return Flat(digits().space, FlatOptions(3, (10,), "discretised-logistic", prior=prior, **more))


def build_any(name: str) -> Objective:
    card = digits_card({"name": name, **SMALL[name]})
    return training.build_objective(training.resolve(card))


@pytest.mark.parametrize("name", SMALL)
def test_a_batch_of_one_has_a_finite_loss(name: str) -> None:
    model, objective = flat(), build_any(name)
    objective.prepare(model, 100)
    loss = objective(model, digits().split("train").x[:1], 1.0)
    loss.total.backward()
    assert torch.isfinite(loss.total)
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_validation_is_keyed(name: str) -> None:
    """Inside a keyed block the loss is a function of seed and examples alone, gradients on or off."""
    model, objective = flat("coupling"), build_any(name)
    objective.prepare(model, 100)
    objective.eval()
    x, found = digits().split("train").x[:7], []
    for grad in (True, False):
        torch.rand(5)
        with torch.set_grad_enabled(grad), noise.keyed(3, torch.arange(7)):
            found.append(objective(model, x, 1.0).total.detach())
    torch.testing.assert_close(*found)


# resuming


def stop_at(last: int) -> training.Report:
    def report(step: int, steps: int, text: str) -> None:
        if step >= last:
            raise KeyboardInterrupt

    return report


def resumed(card: Card, folder: Path) -> None:
    """Killed in its second epoch and run again, `card` ends with the bits of a run that was not."""
    training.train(card, digits(), folder / "whole", device=CPU, report=silent)
    with pytest.raises(KeyboardInterrupt):
        training.train(card, digits(), folder / "cut", device=CPU, report=stop_at(20))
    training.train(card, digits(), folder / "cut", device=CPU, report=silent)
    one, two = (load_file(folder / where / "tiny.safetensors") for where in ("whole", "cut"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    logs = [[{**line, "seconds": 0} for line in log(folder / where)] for where in ("whole", "cut")]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("name", ["capacity", "factor", "consistency", "jacobian"])
def test_state_and_schedules_survive_a_kill(name: str, tmp_path: Path) -> None:
    resumed(digits_card({"name": name, **SMALL[name]}, epochs=3), tmp_path)


def test_losing_the_discriminator_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Factor, "load_state_dict", lambda self, state, strict=True: None)
    with pytest.raises(AssertionError):
        resumed(digits_card({"name": "factor", **SMALL["factor"]}, epochs=3), tmp_path)


def test_a_wrapped_discriminator_is_trained_and_resumed(tmp_path: Path) -> None:
    base = {"name": "factor", **SMALL["factor"]}
    resumed(digits_card({"name": "consistency", "base": base}, epochs=3), tmp_path)


# cards


def test_the_trained_card_holds_every_option_of_the_wrapped_objective(tmp_path: Path) -> None:
    card = digits_card({"name": "consistency", "base": {"name": "elbo", "beta": 2}}, epochs=1)
    trained = training.train(card, digits(), tmp_path, device=CPU, report=silent)
    assert trained.objective["base"] == {"name": "elbo", "beta": 2, "samples": 1}
    assert trained.objective["strength"] == 0.1
    again = training.train(dataclasses.replace(trained, weights=None), digits(), tmp_path, device=CPU, report=silent)
    assert again == trained


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": "iwae", "sample": 3}, "unknown key 'sample'; did you mean 'samples'?"),
    ({"name": "iwae", "samples": 0}, "samples = 0 should be at least 1"),
    ({"name": "capacity", "untill": 1.0}, "unknown key 'untill'; did you mean 'until'?"),
    ({"name": "capacity", "rate": 20.0, "until": 0.0}, "until = 0.0 lie in (0, 1]"),
    ({"name": "capacity"}, "rate"),
    (
        {"name": "capacity", "rate": 20.0, "fraction": 1.5},
        "fraction = 1.5 of the plain VAE's rate should lie in (0, 1]",
    ),
    (
        {"name": "capacity", "rate": 20.0, "fraction": 0.0},
        "fraction = 0.0 of the plain VAE's rate should lie in (0, 1]",
    ),
    ({"name": "capacity", "rate": -20.0}, "rate = -20.0 should be positive"),
    ({"name": "total-correlation", "sampling": "exact"}, "should be one of 'weighted', 'stratified'"),
    ({"name": "factor", "gama": 1.0}, "unknown key 'gama'; did you mean 'gamma'?"),
    ({"name": "factor", "depth": 0}, "depth = 0 should be at least 1"),
    ({"name": "factor", "betas": [0.5]}, "betas = [0.5] should be two numbers in [0, 1)"),
    ({"name": "factor", "learning_rate": 0.0}, "learning_rate = 0.0"),
    ({"name": "info", "strenght": 1.0}, "unknown key 'strenght'; did you mean 'strength'?"),
    ({"name": "jacobian", "power": 3}, "power = 3 should be one of 1, 2"),
    ({"name": "jacobian", "until": 2.0}, "until = 2.0 should lie in (0, 1]"),
    ({"name": "consistency", "transform": "affine"}, "should be one of 'affine-small', 'affine-large'"),
    ({"name": "consistency", "base": {"name": "elbow"}}, "unknown objective 'elbow'; did you mean 'elbo'?"),
    ({"name": "consistency", "base": {"name": "elbo", "bta": 1.0}}, "unknown key 'bta'; did you mean 'beta'?"),
    ({"name": "consistency", "base": {"beta": 1.0}}, "name should be one of"),
    ({"name": "consistency", "base": {"name": "consistency"}}, "cannot wrap itself"),
    ({"name": "consistency", "base": "elbo"}, "base = 'elbo' should be a table"),
]


@pytest.mark.parametrize(("objective", "says"), BAD, ids=[says for _, says in BAD])
def test_a_wrong_option_is_one_line_that_names_the_remedy(objective: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        training.train(digits_card(objective), digits(), tmp_path, device=CPU, report=silent)
    assert says in str(error.value)
    assert str(error.value).startswith("card digits/tiny [objective]") or "unknown objective" in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


# what a model cannot have


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("total-correlation", "needs a diagonal Gaussian posterior, but this model's family (TwoLevelGaussian) has a"),
        ("factor", "acts on one latent vector, but the model's latent groups have shapes [4], [4]"),
        ("info", "acts on one latent vector"),
        ("jacobian", "acts on one latent vector"),
        ("consistency", "cannot transform real numbers of shape [6] by"),
    ],
)
def test_a_model_that_cannot_have_an_objective_is_told_why(name: str, says: str) -> None:
    oracle = oracles.oracles(count=5)[2]
    objective = build_any(name)

    def attempt() -> None:
        objective.prepare(oracle.model, 5)
        objective(oracle.model, oracle.dataset.split("test").x, 0.5)

    with pytest.raises(UserError) as error:
        attempt()
    assert f"objective {name!r}" in str(error.value)
    assert says in str(error.value)
    assert "use " in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["elbo", "iwae", "capacity"])
def test_the_others_train_any_model(name: str) -> None:
    oracle = oracles.oracles(count=5)[2]
    objective = build_any(name)
    assert torch.isfinite(objective(oracle.model, oracle.dataset.split("test").x, 0.5).total)


def test_integers_that_are_no_images_have_no_consistency() -> None:
    model = Flat(Space((6,), 2, "pmf"), FlatOptions(2, (4,), "bernoulli"))
    with pytest.raises(UserError, match=r"cannot transform integers of shape \[6\] .*; use its base objective alone"):
        build_any("consistency")(model, torch.zeros(3, 6, dtype=torch.uint8), 0.0)


def test_gamma_and_a_prior_that_does_not_factorise() -> None:
    """The gamma part is then KL(q || p) - TC, which a large gamma makes small by more total correlation."""
    objective = build("total-correlation", {"gamma": 15.0})
    objective.prepare(flat("normal"), 100)
    with pytest.raises(UserError, match=r"gamma = 15.0 rewards total correlation .* DecoupledPrior; use gamma = 1"):
        objective.prepare(flat("coupling"), 100)
    build("total-correlation", {"beta": 15.0}).prepare(flat("coupling"), 100)


def test_a_discriminators_adam_is_beside_adam_alone(tmp_path: Path) -> None:
    card = digits_card({"name": "factor", **SMALL["factor"]}, optimiser="adamax")
    with pytest.raises(UserError, match="Adam of its own beside optimiser = 'adamax'; use 'adam'"):
        training.train(card, digits(), tmp_path, device=CPU, report=silent)


def test_factor_says_that_it_was_not_prepared() -> None:
    with pytest.raises(RuntimeError, match="no discriminator yet: call prepare"):
        build("factor", {})(flat(), digits().split("train").x[:4], 0.0)
