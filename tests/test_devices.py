"""Nothing is left behind on the CPU: models, objectives and stages run on tensors that claim to be on a GPU.

torch's fake tensors have a device and no content, so these tests need no GPU, and an operation between devices raises.
What looks at values, and the backward pass, they cannot follow.
"""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vaebench import card, loading, plugins, stages
from vaebench.data import Batch, Source, Space
from vaebench.distributions.noise import keyed
from vaebench.metrics import consistency, latent_gap, likelihood, tracin
from vaebench.model import LatentVariableModel
from vaebench.training import build_objective, resolve

GPU = torch.device("cuda")
CARDS = [("digits", name) for dataset, name in card.ids() if dataset == "digits"]
CARDS += [("fashion-mnist-32", "likelihood-regret-vae"), ("two-moons", "dpvae"), ("mnist", "vae")]


def fake(module: nn.Module) -> None:
    """Move parameters and buffers, as `to` would."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            moved = torch.empty(parameter.shape, dtype=parameter.dtype, device=GPU)
            part.register_parameter(name, nn.Parameter(moved, parameter.requires_grad))
        for name, buffer in part.named_buffers(recurse=False):
            part.register_buffer(name, torch.empty(buffer.shape, dtype=buffer.dtype, device=GPU))


def example(space: Space, count: int = 4) -> Batch:
    dtype = torch.float32 if space.levels is None else torch.uint8
    x = torch.empty((count, *space.shape), dtype=dtype, device=GPU)
    return Batch(x, None, torch.arange(count, device=GPU))


def decoded(model: LatentVariableModel, batch: Batch) -> dict[str, Tensor]:
    with keyed(0, batch.example):
        likelihood = model.likelihood(model.prior(len(batch.x)).rsample(2))
        return {"mean": likelihood.mean, "sample": likelihood.sample()}


def passes(model: LatentVariableModel, batch: Batch, leapfrog: bool) -> dict[str, Callable[[], dict[str, Tensor]]]:
    index = Batch(batch.example, None, batch.example)
    found: dict[str, Callable[[], dict[str, Tensor]]] = {
        "decoded": partial(decoded, model, batch),
        "embedding": lambda: dict(stages.Embedding()(model, batch, 0)),
        "latents": lambda: dict(stages.PriorLatents()(model, index, 0)),
    }
    if leapfrog:  # it needs gradients
        return found
    found |= {
        "score": partial(likelihood.score, batch, 0, model=model, samples=3, rows=8),
        "posterior": lambda: dict(stages.Posterior()(model, batch, 0)),
        "bound": partial(tracin.bound, batch, 0, model=model, samples=2),
        "aggregate": partial(latent_gap._draw, batch, 0, model=model),
    }
    if len(model.space.shape) == 3 and model.space.levels is not None:
        found["consistency"] = partial(consistency.compare, batch, 0, model=model, probe=None)
    return found


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(("dataset", "name"), CARDS)
def test_nothing_is_left_on_the_cpu(dataset: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found, source = resolve(card.find(name, dataset)), plugins.load("datasets", dataset)
    leapfrog = found.family == "hamiltonian"
    assert isinstance(source, Source)
    monkeypatch.setattr(Space, "check", lambda self, x: None)  # it looks at values
    model, objective = loading.build_model(found, source.space), build_objective(found)
    objective.prepare(model, 100)
    with FakeTensorMode(allow_non_fake_inputs=True):
        fake(model)
        fake(objective)
        batch = example(source.space)
        with torch.no_grad():
            for what, function in passes(model.eval(), batch, leapfrog).items():
                assert {value.device.type for value in function().values()} == {"cuda"}, what
        if not leapfrog:
            assert objective(model.train(), batch.x, 0.5).total.device.type == "cuda"


def test_a_tensor_left_behind_is_found() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(RuntimeError, match="same device"):
        torch.empty(3, device=GPU) + torch.zeros(3)
