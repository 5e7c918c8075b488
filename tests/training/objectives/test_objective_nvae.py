"""NVAE's objective: warm-up, balance, penalties; training, resuming, and CR-NVAE on top of it."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vaebench.core import registry as plugins
from vaebench.core.data import Dataset, Source, fingerprint
from vaebench.core.errors import UserError
from vaebench.core.objective import Loss
from vaebench.distributions import noise
from vaebench.models import card as cards
from vaebench.models.adapters.nvae import NVAE, Options
from vaebench.models.card import Card, Recipe
from vaebench.models.networks.nvae_cells import Conv
from vaebench.models.oracles import oracles
from vaebench.training import loop as training
from vaebench.training import schedule
from vaebench.training.objectives import nvae
from vaebench.training.state import digest

CPU = torch.device("cpu")
MODEL: dict[str, Any] = {
    "channels": 4, "scales": 2, "groups": 2, "adaptive": True, "latent": 2, "pre_cells": 1, "post_cells": 1,
    "encoder_cells": 1, "decoder_cells": 1, "likelihood": "discretised-logistic",
}  # fmt: skip


TINY = {"scales": 1, "adaptive": False}  # of those that are trained


@cache
def digits() -> Dataset:
    source = plugins.load("datasets", "digits")
    assert isinstance(source, Source)
    return source.load(Path())


@cache
def few() -> Dataset:
    """What is enough to train and resume."""
    splits = {"train": digits().split("train").part(torch.arange(320), "train"), "test": digits().split("test")}
    return replace(digits(), splits=splits, fingerprint=fingerprint(splits))


def model(**options: Any) -> NVAE:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return NVAE(digits().space, Options(**{**MODEL, **options}))


def objective(m: NVAE, **options: Any) -> nvae.Nvae:
    made = nvae.Nvae(nvae.Options(**options))
    made.prepare(m, 100)
    return made


def images(batch: int = 8) -> Tensor:
    return digits().split("train").x[:batch]


def loss(made: nvae.Nvae, m: NVAE, progress: float) -> Loss:
    with noise.keyed(0, torch.arange(8)):
        found: Loss = made(m, images(), progress)
    return found


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ((5, 10), [1] * 5 + [2] * 10),
        ((30,), [1] * 30),
        ((5, 10, 20), [1] * 5 + [2] * 10 + [4] * 20),
        ((4, 4, 4, 8, 16), [1] * 4 + [4] * 4 + [16] * 4 + [32] * 8 + [64] * 16),
    ],
)
def test_alpha_is_that_of_the_published_models(groups: tuple[int, ...], expected: list[int]) -> None:
    assert nvae.alpha(groups).tolist() == expected


def test_balance_by_hand() -> None:
    rates = torch.tensor([[1.0, -3.0], [0.0, 0.5]], requires_grad=True)
    raw = [2.01 * (2.01 + 0.26) / 1, 0.26 * (2.01 + 0.26) / 4]
    found = nvae.balance(rates, torch.tensor([1.0, 4.0]))
    torch.testing.assert_close(found, torch.tensor(raw) / (sum(raw) / 2))
    assert not found.requires_grad


def test_warm_up_and_annealing() -> None:
    made = nvae.Nvae(nvae.Options(penalty=1e-2, initial_penalty=1.0))
    assert [made.beta(t) for t in (0.0, 1e-4, 1e-4 + 0.15, 0.3001, 1.0)] == pytest.approx([1e-4, 1e-4, 0.5, 1, 1])
    assert [made.strength(beta) for beta in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.1, 1e-2])
    assert nvae.Nvae(nvae.Options()).strength(0.3) == 1e-2


def test_the_total_is_its_parts() -> None:
    m = model().train()
    made = objective(m).train()
    draws_rates: list[Any] = []
    real = m.draw_groups
    m.draw_groups = lambda x, s: draws_rates.append(real(x, s)) or draws_rates[-1]  # type: ignore[method-assign]
    early = loss(made, m, 0.15)
    rates = draws_rates[-1][1][:, 0]
    gamma = nvae.balance(rates, nvae.alpha(m.groups_per_scale))
    assert m.groups_per_scale == (1, 2)
    t = early.terms
    expected = t["distortion"] + made.beta(0.15) * (gamma[:, None] * rates).sum(0).mean()
    torch.testing.assert_close(early.total, expected + 1e-2 * (t["spectral"] + t["batch_norm"]))
    late = loss(made, m, 0.9)
    t = late.terms
    torch.testing.assert_close(late.total, t["distortion"] + t["rate"] + 1e-2 * (t["spectral"] + t["batch_norm"]))
    m.eval()
    made.eval()
    judged = loss(made, m, 1.0)
    torch.testing.assert_close(judged.total, judged.terms["distortion"] + judged.terms["rate"])
    assert judged.terms.keys() == {"distortion", "rate"}
    judged = loss(made, m, 0.15)  # nothing is balanced outside training
    torch.testing.assert_close(judged.total, judged.terms["distortion"] + made.beta(0.15) * judged.terms["rate"])
    made.train()
    free = loss(objective(m, penalty=0.0, balance=False).train(), m, 0.15)
    torch.testing.assert_close(free.total, free.terms["distortion"] + made.beta(0.15) * free.terms["rate"])


def test_penalties_are_singular_values_and_scales() -> None:
    m = model(flows=1)
    made = objective(m)
    for _ in range(100):
        found = made.penalties(m)
    exact = torch.zeros(())
    for module in m.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.effective_weight() if isinstance(module, Conv) else module.weight
            exact = exact + torch.linalg.svdvals(weight.detach().flatten(1))[0]
    assert float(found["spectral"].detach()) == pytest.approx(float(exact), rel=2e-3)
    norms = [module for module in m.modules() if isinstance(module, nn.BatchNorm2d)]
    assert float(found["batch_norm"].detach()) == len(norms)
    (found["spectral"] + found["batch_norm"]).backward()
    assert all(c.weight.grad is not None for c in m.modules() if isinstance(c, nn.Conv2d))
    with torch.no_grad():
        norms[0].weight[1] = -5
    assert float(made.penalties(m)["batch_norm"].detach()) == len(norms) + 4


def test_every_parameter_learns() -> None:
    for options in ({}, {"flows": 1}, {"residual": False}):
        m = model(**options).train()
        loss(objective(m).train(), m, 0.5).total.backward()
        for name, parameter in m.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def card(objective: dict[str, Any], **recipe: Any) -> Card:
    options: dict[str, Any] = {"epochs": 2, "batch_size": 40, "learning_rate": 1e-2, "optimiser": "adamax",
                               "schedule": "cosine", "validation": 80, "eps": 1e-3, **recipe}  # fmt: skip
    return Card("tiny", "digits", "a small model", "nvae", {**MODEL, **TINY}, objective, training=Recipe(**options))


def silent(step: int, steps: int, text: str) -> None:
    pass


def stop_at(last: int) -> training.Report:
    def report(step: int, steps: int, text: str) -> None:
        if step >= last:
            raise KeyboardInterrupt

    return report


CRVAE = {"name": "consistency", "base": {"name": "nvae"}, "strength": 0.1}


@pytest.mark.parametrize(
    "options", [{"name": "nvae"}, pytest.param(CRVAE, marks=pytest.mark.slow)], ids=["nvae", "consistency"]
)
def test_it_trains_and_resumes_to_the_bit(options: dict[str, Any], tmp_path: Path) -> None:
    made = card(options, ema=0.9)
    training.train(made, few(), tmp_path / "whole", device=CPU, report=silent)
    with pytest.raises(KeyboardInterrupt):
        training.train(made, few(), tmp_path / "cut", device=CPU, report=stop_at(8))
    trained = training.train(made, few(), tmp_path / "cut", device=CPU, report=silent)
    one, two = (load_file(tmp_path / where / "tiny.safetensors") for where in ("whole", "cut"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    first, last = [json.loads(line) for line in (tmp_path / "whole" / "tiny.log.jsonl").read_text().splitlines()]
    assert last["train"]["distortion"] < first["train"]["distortion"] - 2
    assert last["train"]["rate"] > 0
    assert cards.read(tmp_path / "cut" / "tiny.toml") == trained
    statistics = [key for key in one if key.endswith("running_mean")]
    assert all(float(one[key].abs().max()) > 0 for key in statistics)


def test_the_kept_weights_are_judged_with_their_own_statistics(tmp_path: Path) -> None:
    """The best epoch's batch-norm statistics are kept with its weights: loaded again, they give its validation loss."""
    made = card({"name": "nvae"}, learning_rate=3e-2, epochs=3)
    trained = training.train(made, few(), tmp_path, device=CPU, report=silent)
    session = training._Session(training.resolve(made), few(), CPU)
    session.model.load_state_dict(load_file(tmp_path / "tiny.safetensors"))
    assert trained.trained is not None
    assert session._validate() == pytest.approx(trained.trained.validation_loss, rel=1e-5)


def test_consistency_is_the_kl_along_one_path(monkeypatch: pytest.MonkeyPatch) -> None:
    m = model().eval()
    plugin: Any = plugins.load("objectives", "consistency")
    made = plugin[0](plugin[1](base={"name": "nvae"}), nvae.Nvae(nvae.Options(penalty=0.0)))
    moved = images().flip(3)
    monkeypatch.setattr(type(made), "transform", lambda self, stored, space: moved)
    found = made(m, images(), 1.0)
    with torch.no_grad():
        kl = torch.stack([m.posterior(moved).kl(m.posterior(images())).mean() for _ in range(80)]).double()
    assert abs(float(found.terms["consistency"].detach()) - float(kl.mean())) < 5 * float(kl.std())
    again = torch.stack([made(m, images(), 1.0).terms["consistency"].detach() for _ in range(40)]).double()
    error = (again.var() / 40 + kl.var() / 80) ** 0.5
    assert abs(float(again.mean() - kl.mean())) < 4.5 * float(error)
    same = made.eval()
    monkeypatch.setattr(type(made), "transform", lambda self, stored, space: images())
    assert float(same(m, images(), 1.0).terms["consistency"].detach()) == pytest.approx(0, abs=1e-4)


def test_a_model_without_groups_is_told_why() -> None:
    oracle = oracles(count=5)[0]
    made = nvae.Nvae(nvae.Options())
    with pytest.raises(UserError, match="objective 'nvae' needs a model of latent groups, but this one is a Linear"):
        made(oracle.model, oracle.dataset.split("test").x, 0.5)


@pytest.mark.parametrize(
    "options", [{"warmup": 0.0}, {"warmup": 1.1}, {"constant": -0.1}, {"penalty": -1.0}, {"initial_penalty": 0.0}]
)
def test_wrong_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="should be"):
        nvae.Options(**options)


def test_autocast_is_another_arithmetic_and_another_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "has_bfloat16", lambda device: True)  # a machine without it computes it all the same
    plain, half = card({"name": "nvae"}, epochs=1), card({"name": "nvae"}, epochs=1, autocast="bfloat16")
    folders = tmp_path / "plain", tmp_path / "half"
    trained = [
        training.train(made, few(), folder, device=CPU, report=silent)
        for made, folder in zip((plain, half), folders, strict=True)
    ]
    one, two = (load_file(folder / "tiny.safetensors") for folder in folders)
    assert not torch.equal(one["network.stem.weight"], two["network.stem.weight"])
    assert {tensor.dtype for tensor in two.values()} == {tensor.dtype for tensor in one.values()}
    losses = [made.trained.validation_loss for made in trained if made.trained]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert digest(training.resolve(plain), few()) != digest(training.resolve(half), few())


def test_autocast_without_bfloat16_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "has_bfloat16", lambda device: False)
    with pytest.raises(UserError, match="autocast = 'bfloat16' needs bfloat16, which this cpu does not compute in"):
        training.train(card({"name": "nvae"}, autocast="bfloat16"), digits(), tmp_path, device=CPU, report=silent)
    assert list(tmp_path.iterdir()) == []


def test_autocast_scores_in_single_precision() -> None:
    m = model(flows=1).train()
    with torch.autocast("cpu", torch.bfloat16), noise.keyed(0, torch.arange(8)):
        draws, rates = m.draw_groups(images(), 1)
    with noise.keyed(0, torch.arange(8)):
        single, _ = m.draw_groups(images(), 1)
    assert draws.log_weight.dtype == rates.dtype == torch.float32
    gap = float((draws.log_weight - single.log_weight).detach().mean().abs())
    assert 0 < gap < 0.05 * float(single.log_weight.detach().mean().abs())
