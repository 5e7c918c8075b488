"""Evaluation along training: training is the same with it as without it, to the bit; and what it gives to log."""

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vaebench
from vaebench.core.data import Dataset
from vaebench.core.errors import UserError
from vaebench.metrics.likelihood import Likelihood
from vaebench.metrics.reconstruction import Reconstruction
from vaebench.models.own import Unbound

METRICS = {"likelihood": Likelihood(samples=5, split="test[::20]"), "reconstruction": Reconstruction(draws=1)}
Log = list[Mapping[str, float]]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return vaebench.load_dataset("digits")


class Net(nn.Module):
    """A VAE of digits with what evaluation could disturb: dropout, batch norm, and draws of the global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2))
        self.head, self.decoder = nn.Linear(32, 8), nn.Linear(4, 64)

    def encode(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.head(self.body(x)).chunk(2, 1)

    def decode(self, z: Tensor) -> Tensor:
        found: Tensor = self.decoder(z).unflatten(-1, (1, 8, 8)).sigmoid()
        return found

    def loss(self, x: Tensor) -> Tensor:
        mean, log_variance = self.encode(x)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        rate = (mean.square() + log_variance.exp() - log_variance - 1).sum(1) / 2
        return ((self.decode(z) - x).square().flatten(1).sum(1) / 0.02 + rate).mean()


def model_of(net: nn.Module) -> Unbound:
    return vaebench.from_module(net, "discretised-logistic", output="unit", scale=0.1)


def trained(digits: Dataset, see: Callable[[Net, int], object]) -> list[Any]:
    """Everything that twelve steps of training leave behind, with `see` called after each."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    net = Net()
    adam = torch.optim.Adam(net.parameters(), 1e-2)
    modes = []
    for step in range(12):
        x = digits.split("train").x[torch.randperm(1437)[:50]] / 16 + 1e-3 * float(np.random.rand()) * random.random()
        adam.zero_grad()
        net.loss(x.float()).backward()
        adam.step()
        see(net, step)
        modes.append([module.training for module in net.modules()])
        if step == 6:
            net.head.requires_grad_(False)
            net.body.eval()
    grads = [p.grad.clone() if p.grad is not None else torch.zeros(()) for p in net.parameters()]
    needs = [p.requires_grad for p in net.parameters()]
    hooks = [len(module._forward_hooks) for module in net.modules()]
    state = [*net.state_dict().values(), *grads, torch.get_rng_state()]
    others = [modes, needs, hooks, random.getstate(), np.random.get_state()[1].tolist(), torch.is_grad_enabled()]
    return [*state, others, torch.get_num_threads()]


def same(a: list[Any], b: list[Any]) -> bool:
    return all(torch.equal(x, y) if isinstance(x, Tensor) else x == y for x, y in zip(a, b, strict=True))


def test_training_is_the_same_to_the_bit(digits: Dataset) -> None:
    monitor, log = vaebench.Monitor(digits, 3, METRICS, wrap=model_of), Log()
    without = trained(digits, lambda net, step: None)
    watched = trained(digits, lambda net, step: log.append(monitor(net, step)))
    assert same(without, watched)
    assert [bool(values) for values in log] == [step % 3 == 0 for step in range(12)]
    assert set(log[0]) >= {"vaebench/nll", "vaebench/elbo", "vaebench/mse"}
    assert log[9]["vaebench/nll"] < log[0]["vaebench/nll"]
    assert not same(without, trained(digits, lambda net, step: torch.rand(1)))  # the comparison can fail


def test_values_are_those_of_evaluate(digits: Dataset) -> None:
    torch.manual_seed(1)
    net = Net()
    found = vaebench.Monitor(digits, 1, METRICS, prefix="", seed=3)(model_of(net), 7)
    expected = vaebench.evaluate(model_of(net), digits, METRICS, seed=3)
    assert found == {name: value.value for name, value in expected.items()}


def test_it_is_quick_on_the_split_that_is_asked_for(digits: Dataset) -> None:
    monitor = vaebench.Monitor("digits", 1, ["likelihood", "reconstruction"], split="train[::100]")
    assert {name: metric.split for name, metric in monitor.metrics.items()} == {
        "likelihood": "train[::100]", "reconstruction": "train[::100]"
    }  # fmt: skip
    assert monitor.metrics["reconstruction"] == Reconstruction(draws=1, split="train[::100]")


def test_autocast_and_no_grad_do_not_reach_it(digits: Dataset) -> None:
    torch.manual_seed(1)
    net = Net()
    plain = vaebench.Monitor(digits, 1, METRICS)(model_of(net), 0)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert vaebench.Monitor(digits, 1, METRICS)(model_of(net), 0) == plain
    with torch.inference_mode():
        assert vaebench.Monitor(digits, 1, METRICS)(model_of(net), 0) == plain


def test_a_fault_is_raised_at_first_and_logged_later(digits: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    net = Net()
    with pytest.raises(UserError, match=r"encode"):
        vaebench.Monitor(digits, 1, METRICS)(vaebench.from_module(nn.Linear(2, 2), "discretised-logistic"), 0)
    monitor = vaebench.Monitor(digits, 1, METRICS, wrap=model_of)
    assert monitor(net, 0)
    nn.init.constant_(net.head.weight, float("nan"))
    assert "vaebench/nll" not in monitor(net, 1)
    assert "step 1" in caplog.text
    assert monitor(net, 1) == {}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"every": 0}, "every = 0 should be at least 1"),
        ({"split": "valid"}, "digits has no split 'valid'; it has train, test"),
        ({"metrics": "likelyhood"}, "unknown metric 'likelyhood'; did you mean 'likelihood'?"),
        ({"dataset": "digit"}, "unknown dataset 'digit'; did you mean 'digits'?"),
    ],
)
def test_mistakes_are_one_line(change: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as error:
        vaebench.Monitor(**{"dataset": "digits", "every": 5, **change})
    assert str(error.value) == says


class Trainer:
    """What a callback sees of Lightning's."""

    def __init__(self, first: bool = True) -> None:
        self.is_global_zero, self.global_step = first, 0


class Lit(Net):
    """What a callback sees of a LightningModule."""

    def __init__(self) -> None:
        super().__init__()
        self.logged = Log()

    def log_dict(self, values: Mapping[str, float], rank_zero_only: bool) -> None:
        assert rank_zero_only
        self.logged.append(values)


def test_lightnings_hook_logs_once_a_step(digits: Dataset) -> None:
    for first in (True, False):
        trainer, module = Trainer(first), Lit()
        monitor = vaebench.Monitor(digits, 2, METRICS, wrap=model_of)
        for step in (1, 1, 2, 2, 3, 4):  # batches whose gradients are accumulated share a step
            trainer.global_step = step
            monitor.on_train_batch_end(trainer, module, None, None, 0)
        assert len(module.logged) == (2 if first else 0)


def test_with_lightning_itself(digits: Dataset) -> None:
    lightning = pytest.importorskip("lightning.pytorch")

    class Real(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net, self.seen = Net(), list[str]()

        def training_step(self, batch: Tensor, index: int) -> Tensor:
            self.seen += [name for name in self.trainer.logged_metrics if name not in self.seen]
            return self.net.loss(batch)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), 1e-2)

    def fitted(callbacks: list[Any]) -> tuple[Any, list[Any]]:
        torch.manual_seed(0)
        module, data = Real(), (digits.split("train").x[:400] / 16).float()
        trainer = lightning.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=callbacks, log_every_n_steps=1,
        )  # fmt: skip
        trainer.fit(module, torch.utils.data.DataLoader(data, 50, shuffle=True))
        return module, [*module.state_dict().values(), torch.get_rng_state(), module.training]

    monitor = vaebench.Monitor(digits, 3, METRICS, wrap=lambda module: model_of(module.net))
    assert isinstance(monitor, lightning.Callback)
    watched, left = fitted([monitor])
    assert same(fitted([])[1], left)
    assert "vaebench/nll" in watched.seen
