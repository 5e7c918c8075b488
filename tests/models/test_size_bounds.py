"""A model is counted before memory is touched: numbers that are each within their bounds still multiply."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vaebench.core import registry as plugins
from vaebench.core import size
from vaebench.core.data import Space
from vaebench.core.errors import UserError
from vaebench.models import card as cards
from vaebench.models import code, loading
from vaebench.models.networks import features
from vaebench.training.objectives import factor

WriteCard = Callable[..., Path]
SPACE, WIDE = Space((1, 8, 8), 17, "pmf"), Space((3, 32, 32), 256, "pmf")
PARAMETERS = "parameters, which should be at most 1,000,000,000; choose smaller"

HUGE: dict[str, tuple[Space, dict[str, str | None], list[str]]] = {
    "hidden": (SPACE, {"model.hidden": str([20_000] * 8)}, ["[model]: hidden = [20000, 20000, ", PARAMETERS]),
    "widest hidden": (SPACE, {"model.hidden": str([10**6] * 8)}, ["[model]: hidden = [1000000, ", PARAMETERS]),
    "layers": (SPACE, {"model.hidden": str([64] * 5000)}, ["hidden has 5000 widths, which should be at most 100"]),
    "latent": (SPACE, {"model.latent": "65536"}, ["latent = 65536 should be at most 4096"]),
    "convolutions": (
        WIDE,
        {"model.network": "'conv'", "model.hidden": "[8000, 8000, 8000]"},
        ["hidden = [8000, 8000, 8000] makes", PARAMETERS],
    ),
    "leapfrog": (
        SPACE,
        {"family": "'hamiltonian'", "model.hidden": "[64]", "model.latent": "1000000"},
        ["latent = 1000000 should be at most 4096"],
    ),
    "leapfrog's layers": (
        SPACE,
        {"family": "'hamiltonian'", "model.hidden": str([30_000] * 9)},
        ["hidden = [30000, ", PARAMETERS],
    ),
    "nvae's channels": (
        SPACE,
        {"family": "'nvae'", "model.hidden": None, "model.latent": None, "model.channels": "30000"},
        ["channels = 30000 makes ", PARAMETERS],
    ),
    "nvae's latent": (
        SPACE,
        {"family": "'nvae'", "model.hidden": None, "model.latent": "30000"},
        ["latent = 30000 should be at most 1024"],
    ),
    "nvae's statistics": (
        SPACE,
        {
            "family": "'nvae'",
            "model.hidden": None,
            "model.latent": None,
            "model.readjust": "10000",
            "model.readjust_batch": "4096",
        },
        ["40,960,000 draws, which should be at most 100,000"],
    ),
    "likelihood regret's width": (
        WIDE,
        {"family": "'likelihood-regret'", "model.hidden": None, "model.likelihood": None, "model.width": "60000"},
        ["width = 60000 makes", PARAMETERS],
    ),
    "points": (
        Space((1024, 3), None, "density"),
        {"family": "'points'", "model.likelihood": None, "model.point": "[64, 100000, 100000]"},
        ["point = [64, 100000, 100000] makes", PARAMETERS],
    ),
}


@pytest.mark.parametrize("which", HUGE)
def test_too_large_a_model_is_refused_before_memory_is_touched(
    which: str, write_card: WriteCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, changes, says = HUGE[which]

    def filled(tensor: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        assert tensor.is_meta
        return tensor

    for name in ("kaiming_uniform_", "uniform_", "normal_", "orthogonal_"):
        monkeypatch.setattr(nn.init, name, filled)
    with pytest.raises(UserError) as caught:
        loading.build_model(cards.read(write_card(changes=changes)), space)
    line = str(caught.value)
    assert all(each in line for each in says), line
    assert "\n" not in line


def test_counting_draws_nothing_and_leaves_no_hook(write_card: WriteCard) -> None:
    card = cards.read(write_card())
    torch.manual_seed(3)
    model = loading.build_model(card, SPACE)
    torch.manual_seed(3)
    with size.bounded() as found:
        plain = plugins.load("adapters", "flat")[0](SPACE, model.options)  # type: ignore[index]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))
    assert found[0] == sum(t.numel() for t in (*plain.parameters(), *plain.buffers()))
    before = found[0]
    nn.Linear(3, 3)
    assert found[0] == before


class _Outside(nn.Module):
    """Cannot be built without memory, as an adapter from outside may not."""

    def __init__(self, space: Space, options: object) -> None:
        super().__init__()
        float(torch.zeros(1))
        self.wide = nn.ModuleList(nn.Linear(40_000, 40_000) for _ in range(3))


def _unfilled(tensor: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
    raise AssertionError(f"{tuple(tensor.shape)} is filled")


def test_an_adapter_that_needs_memory_is_held_as_it_is_built(
    write_card: WriteCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "load", lambda kind, name: (_Outside, features.Options))
    monkeypatch.setattr(nn.init, "kaiming_uniform_", _unfilled)
    table = {"model.hidden": None, "model.likelihood": None, "model.latent": None}
    card = cards.read(write_card(changes={**table, "model.side": "8", "model.classes": "2", "model.serves": "['x']"}))
    with pytest.raises(UserError, match=r"side = 8.* makes 1,600,000,000 parameters or more, which should be at most"):
        loading.build_model(card, SPACE)


def test_code_of_one_s_own_is_held_as_it_is_built(write_card: WriteCard, monkeypatch: pytest.MonkeyPatch) -> None:
    table: dict[str, str | None] = {"model.hidden": None, "model.latent": None, "family": "'module'"}
    table |= {"model.file": "'net.py'", "model.name": "'Net'", "model.arguments.width": "40000"}
    path = write_card(changes=table)
    (path.parent / "net.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self, width):\n        super().__init__()\n"
        "        self.encode = nn.Linear(width, width)\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(nn.init, "kaiming_uniform_", _unfilled)
    with code.allowed(), pytest.raises(UserError, match=r"Net\(width=40000\) .*1,600,000,000 parameters or more"):
        loading.build_model(cards.read(path), SPACE)


def test_modules_are_counted_as_numbers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size, "PARTS", 1000)
    with pytest.raises(size.TooLargeError, match="1,001 modules or more, which should be at most 1,000"):
        size.foresee(lambda: nn.ModuleList(nn.ReLU() for _ in range(60_000)))


@pytest.mark.parametrize(
    ("options", "table"),
    [
        (factor.Options, {"width": 10**6}),
        (factor.Options, {"width": 4000, "depth": 100}),
        (features.Options, {"side": 10**6, "classes": 10, "serves": ("digits",)}),
        (features.Options, {"side": 8, "classes": 10, "serves": ("digits",), "channels": (32, 10**6), "features": 500}),
    ],
)
def test_other_networks_of_a_card_are_counted_by_their_options(options: Any, table: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="parameters, which should be at most 1,000,000,000"):
        options(**table)
