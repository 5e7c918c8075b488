"""Values are told apart by content, type and shape, wherever they lie; what cannot be told apart is refused."""

import copy
import enum
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vaebench.core.content import identity, pass_identity
from vaebench.core.data import Space
from vaebench.functional.aggregate import Mixture
from vaebench.functional.gaussian import log_density
from vaebench.metrics.likelihood import Likelihood
from vaebench.models.adapters.flat import Flat
from vaebench.models.adapters.flat import Options as FlatOptions

GLOBAL = torch.arange(3.0)


@dataclass(frozen=True)
class Holder:
    """A dataclass that holds something."""

    found: object


@dataclass(frozen=True)
class Other(Holder):
    """The same fields under another name."""


class Colour(enum.Enum):
    """Two members of one value's kind."""

    RED, BLUE = 1, 2


class Net(nn.Module):
    """A network whose state does not say all."""

    def __init__(self, scale: float = 1.0, act: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        nn.init.ones_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("hidden", torch.zeros(2), persistent=False)
        self.scale = scale
        self.act: Callable[[Tensor], Tensor] = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.linear(x) * self.scale)


def reading(x: Tensor) -> Tensor:
    """Reads a global."""
    return x + GLOBAL


def _spoilt(change: Callable[[Net], object]) -> Net:
    net = Net()
    with torch.no_grad():
        change(net)
    return net


def _local(by: Tensor, scale: float) -> nn.Module:
    class Local(Net):
        """A class in a function, whose methods close over what that was given."""

        factor = scale

        def __init__(self) -> None:
            super().__init__()

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + by

        @property
        def shifted(self) -> Tensor:
            """What a property closes over counts too."""
            return self.linear.bias + by

    return Local()


X = torch.arange(6.0)
DIFFERENT: list[Any] = [
    X, X + 1, X.double(), X.to(torch.bfloat16), X.view(2, 3), [X, X], (X, X), X[:3], X[::2], X.flip(0), X.numpy(),
    X.numpy().reshape(2, 3), None, 0, 0.0, -0.0, False, "", "0", b"0", [], (), {}, set(), frozenset(), [0], [[0]],
    {"a": 1}, {"b": 1}, {"a": 2}, {1, 2}, {1, 3}, torch.float32, torch.float64, torch.device("cpu"), Colour.RED,
    Colour.BLUE, Holder(X), Other(X), Holder(X + 1), Holder(Holder(X)), Mixture(X, X, X, X), Mixture(X, X + 1, X, X),
    [X, (X,)],
    log_density, identity, partial(log_density, dims=1), partial(log_density, dims=2), partial(log_density, X),
    Likelihood, Likelihood(), Likelihood(samples=7), Likelihood(samples=7).unsupported, Likelihood().unsupported,
    range(3), range(4), float("nan"), float("inf"), 1, 1.0, True, 1j, np.float32(1), np.float64(1), int, float,
    Net(), Net(2.0), Net(act=torch.relu), Net(act=lambda x: x), Net(act=lambda x: -x), Net(act=lambda x: x + X),
    Net(act=lambda x: x + X.exp()), Net(act=nn.ReLU()), Net(act=nn.ELU()), Net(act=nn.ELU(2.0)), Net().eval(),
    _spoilt(lambda net: net.linear.weight.mul_(2)), _spoilt(lambda net: net.linear.bias.add_(1)),
    _spoilt(lambda net: net.hidden.add_(1)), Net().double(), nn.Sequential(Net()), nn.Sequential(Net(), Net()),
    _local(X, 1.0), _local(X + 1, 1.0), _local(X, 2.0),
    _spoilt(lambda net: net.register_forward_hook(lambda *_: None)),
]  # fmt: skip


def test_whatever_differs_has_another_identity() -> None:
    found = [identity(value) for value in DIFFERENT]
    assert len(set(found)) == len(found)
    assert all(len(each) == 64 for each in found)


def test_what_is_equal_has_one_identity() -> None:
    assert [identity(copy.deepcopy(value)) for value in DIFFERENT] == [identity(value) for value in DIFFERENT]
    assert identity(X.view(2, 3).T) == identity(X.view(2, 3).T.contiguous())
    assert identity({"b", "a"}) == identity({"a", "b"})
    assert identity(Net().requires_grad_(False)) == identity(Net())


def test_a_module_may_hold_what_holds_it() -> None:
    def ring(scale: float) -> Net:
        net = Net(scale)
        net.linear.owner = [net]  # type: ignore[assignment]
        return net

    assert identity(ring(1)) == identity(ring(1)) != identity(ring(2))


def test_a_global_that_a_function_reads_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity(reading)
    monkeypatch.setitem(globals(), "GLOBAL", GLOBAL + 1)
    assert identity(reading) != before


@pytest.mark.processes
def test_another_process_finds_the_same() -> None:
    script = (
        "import torch; from vaebench.core.content import identity; from vaebench.metrics.likelihood import Likelihood\n"
        "torch.manual_seed(0)\n"
        "print(identity([Likelihood(), {'a', 'b', 'c'}, torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())]))"
    )
    command = [sys.executable, "-c", script]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout for _ in range(2)]
    assert runs[0] == runs[1]
    assert len(runs[0].strip()) == 64


def test_a_model_is_told_by_more_than_its_weights(digits_flat: Callable[[str], Flat]) -> None:
    """Two activations have the same tensors."""
    relu, silu = digits_flat("relu"), digits_flat("silu")
    assert all(torch.equal(a, b) for a, b in zip(relu.parameters(), silu.parameters(), strict=True))
    assert identity(relu) != identity(silu)
    assert identity(relu) == identity(digits_flat("relu"))


@pytest.fixture
def digits_flat() -> Callable[[str], Flat]:
    def build(activation: Any) -> Flat:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            options = FlatOptions(latent=2, hidden=(8,), likelihood="categorical", activation=activation)
            return Flat(Space((1, 8, 8), 17, "pmf"), options)

    return build


def _inner() -> Callable[..., Any]:
    x = torch.ones(2)

    def closure(batch: object, seed: int) -> dict[str, Tensor]:
        return {"x": x}

    return closure


class Plain:
    """An object of no kind that is known."""

    def method(self, batch: object, seed: int) -> dict[str, Tensor]:
        return {}


def needing(batch: object, seed: int, *, value: object = None) -> dict[str, Tensor]:
    """A pass at the top of its module."""
    return {}


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "lambda": (lambda batch, seed: {}, "define it at the top of its module"),
    "closure": (_inner(), "define it at the top of its module"),
    "partial of a closure": (partial(_inner(), a=1), "define it at the top of its module"),
    "positional": (partial(needing, X), "give them by keyword: partial"),
    "positional plain": (partial(needing, 3), "give them by keyword: partial"),
    "bound to an object": (Plain().method, "cannot be told by its content; give a tensor"),
    "an object": (partial(needing, value=Plain()), "cannot be told by its content; give a tensor"),
    "an object in a list": (partial(needing, value=[Plain()]), "cannot be told by its content"),
    "a lambda given": (partial(needing, value=lambda: 1), "define it at the top of its module"),
    "a lambda in a dataclass": (partial(needing, value=Holder(lambda: 1)), "define it at the top of its module"),
    "a generator": (partial(needing, value=torch.Generator()), "cannot be told by its content"),
    "an open file": (partial(needing, value=sys.stdout), "cannot be told by its content"),
    "sparse": (partial(needing, value=torch.eye(2).to_sparse()), "no bytes to be told by"),
    "objects in an array": (partial(needing, value=np.array([object()])), "cannot be told by its content"),
    "a path": (partial(needing, value=Path()), "cannot be told by its content"),
    "a positional in what is given": (partial(needing, value=partial(_inner())), "define it at the top"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_pass_that_cannot_be_named_is_refused_with_the_remedy(what: str) -> None:
    function, says = REFUSED[what]
    with pytest.raises(TypeError, match=says) as caught:
        pass_identity(function)
    assert "\n" not in str(caught.value)


def test_a_pass_begins_with_its_name() -> None:
    assert pass_identity(needing).startswith(f"{__name__}.needing ")
    assert pass_identity(partial(needing, value=1)).startswith(f"{__name__}.needing ")
    assert pass_identity(Likelihood().unsupported).startswith("vaebench.core.metric.Metric.unsupported ")
    assert pass_identity(Net()).startswith(f"{__name__}.Net ")
