"""Nothing is left behind on the CPU: models, objectives and training run on a device that keeps to itself.

That every metric does, too, is a law of `metrics/test_every_metric.py`. What is CUDA's alone (its memory, its fused
kernels, its name) no test here reaches.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training_runs import RECIPES, digits, digits_card, silent
from weekly import weekly

from vaebench.core import registry as plugins
from vaebench.core.data import Batch, Source, Space
from vaebench.core.metric import UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed
from vaebench.metrics import consistency, latent_gap, likelihood, tracin
from vaebench.metrics.shared import passes as stages
from vaebench.models import card, loading
from vaebench.training import loop as training
from vaebench.training.loop import build_objective, resolve

CPU = torch.device("cpu")
DAILY = [("digits", name) for name in ("vae", "nvae", "hvae")]
DAILY += [("fashion-mnist-32", "likelihood-regret-vae"), ("two-moons", "dpvae")]
CARDS = weekly(sorted({*DAILY, *(each for each in card.ids() if each[0] == "digits")}), *DAILY)


def example(space: Space, count: int = 4) -> Tensor:
    if space.levels is None:
        return torch.randn((count, *space.shape))
    return torch.randint(space.levels, (count, *space.shape)).to(torch.uint8)


def decoded(model: LatentVariableModel, batch: Batch) -> dict[str, Tensor]:
    with keyed(0, batch.example):
        likelihood = model.likelihood(model.prior(len(batch.x)).rsample(2))
        return {"mean": likelihood.mean, "sample": likelihood.sample()}


def passes(model: LatentVariableModel, batch: Batch) -> dict[str, Callable[[], dict[str, Tensor]]]:
    index = Batch(batch.example, None, batch.example)
    found: dict[str, Callable[[], dict[str, Tensor]]] = {
        "decoded": partial(decoded, model, batch),
        "embedding": lambda: dict(stages.Embedding()(model, batch, 0)),
        "latents": lambda: dict(stages.PriorLatents()(model, index, 0)),
        "score": partial(likelihood.score, batch, 0, model=model, samples=3, rows=8),
        "posterior": lambda: dict(stages.Posterior()(model, batch, 0)),
        "bound": partial(tracin.bound, batch, 0, model=model, samples=2),
        "aggregate": partial(latent_gap._draw, batch, 0, model=model),
    }
    if len(model.space.shape) == 3 and model.space.levels is not None:
        found["consistency"] = partial(consistency.compare, batch, 0, model=model, probes=())
    return found


AGAIN = {
    "capacity": {"name": "capacity", "rate": 25.0, "fraction": 0.8},
    "total-correlation": {"name": "total-correlation", "beta": 4.0},
}
"""What older cards of these objectives, which cannot be trained again as they are, are trained by here."""


def everything(dataset: str, name: str, where: torch.device) -> dict[str, Tensor]:
    """What metrics' passes over an untrained model give, the objective's total, and its gradients."""
    made, source = card.find(name, dataset), plugins.load("datasets", dataset)
    made = replace(made, objective=AGAIN.get(made.objective["name"], made.objective))
    found = resolve(made)
    assert isinstance(source, Source)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model, objective = loading.build_model(found, source.space), build_objective(found)
        objective.prepare(model, 100)
        x = example(source.space).to(where)
    model.eval().to(where)
    objective.to(where)
    batch = Batch(x, None, torch.arange(len(x), device=where))
    values = {}
    with torch.no_grad():
        for what, function in passes(model, batch).items():
            with suppress(UnavailableError):  # of such a model
                values |= {f"{what}: {key}": value for key, value in function().items()}
    with keyed(1, batch.example):
        values["total"] = objective(model.train(), x, 0.5).total
    values["total"].backward()
    parameters = [*model.named_parameters(), *objective.named_parameters()]
    return values | {key: parameter.grad for key, parameter in parameters if parameter.grad is not None}


@pytest.mark.parametrize(("dataset", "name"), CARDS)
def test_another_device_gives_the_same_values_and_gradients(dataset: str, name: str, second: torch.device) -> None:
    here, there = everything(dataset, name, CPU), everything(dataset, name, second)
    assert here.keys() == there.keys()
    assert {key for key, value in there.items() if value.device != second} == set()
    for key, value in here.items():
        assert torch.allclose(there[key].cpu(), value, rtol=1e-4, atol=1e-6, equal_nan=True), key


@pytest.mark.parametrize("name", weekly(RECIPES, "plain"))
def test_training_on_another_device_gives_the_same_weights(name: str, tmp_path: Path, second: torch.device) -> None:
    recipe = replace(RECIPES[name], epochs=1)
    for folder, where in (("here", CPU), ("there", second)):
        training.train(digits_card(recipe), digits(), tmp_path / folder, device=where, report=silent)
    here, there = ((tmp_path / folder / "tiny.safetensors").read_bytes() for folder in ("here", "there"))
    assert here == there


def test_a_tensor_left_behind_is_found(second: torch.device) -> None:
    there = torch.ones(3, device=second)
    assert (there + there).cpu().tolist() == [2, 2, 2]
    with pytest.raises(RuntimeError, match="is on the CPU"):
        there + torch.zeros(3)
    assert there[torch.arange(2)].device == second
    with pytest.raises(RuntimeError, match="is on the CPU"):
        torch.zeros(3)[there.long()]
    with pytest.raises(RuntimeError):
        there.numpy()
