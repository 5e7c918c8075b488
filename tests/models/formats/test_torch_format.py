"""Laws of files of torch.save: whatever they wrap is found, prefixes are mended and said, two sets are asked about."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from vaebench.core import registry as plugins
from vaebench.models import card as cards
from vaebench.models import loading, prefixes
from vaebench.models.card import Card

Invoke = Callable[..., Result]
CARD = """
dataset = "digits"
summary = "A small VAE."
family = "flat"

[model]
latent = 2
hidden = [8]
likelihood = "categorical"
"""
OWN = """
dataset = "digits"
summary = "A plain VAE."
family = "module"

[model]
file = "vae.py"
name = "VAE"
likelihood = "categorical"
"""


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(CARD, encoding="utf-8")
    return path


@pytest.fixture
def state(card: Path) -> dict[str, Tensor]:
    from vaebench.datasets.digits import plugin

    torch.manual_seed(0)
    return dict(loading.build_model(cards.read(card), plugin.space).state_dict())


def before(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def imported(vaebench: Invoke, card: Path, *more: object) -> tuple[Card, str]:
    out = card.parent / "out"
    result = vaebench("import", "torch", card.parent / "any.ckpt", "--card", card, "--out", out, *more)
    assert result.exit_code == 0, result.output
    return cards.read(out / card.name), result.output


WRAPPED: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model": lambda s: {"model": s, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}},
    "lightning": lambda s: {"state_dict": before("model.", s), "hyper_parameters": {"latent": 2}, "loops": {}},
    "parallel": lambda s: before("module.", s),
    "compiled": lambda s: {"model": before("_orig_mod.module.", s)},
    "another word": lambda s: before("my_vae.inner.", s),
    "beside others": lambda s: {"weights": {"vae": s, "critic": {"weight": torch.ones(2)}}},
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_what_a_file_wraps_is_found(kind: str, card: Path, state: dict[str, Tensor], vaebench: Invoke) -> None:
    torch.save(WRAPPED[kind](state), card.parent / "any.ckpt")
    made, _ = imported(vaebench, card)
    found = load_file(made.weights_path())
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    assert (made.id, made.summary) == ("digits/mine", "A small VAE.")
    assert "any.ckpt (sha256" in made.notes


def test_a_prefix_is_said(
    card: Path, state: dict[str, Tensor], vaebench: Invoke, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(before("module.", state), card.parent / "any.ckpt")
    imported(vaebench, card)
    assert "'module.' stands before every name" in caplog.text


def test_two_sets_are_asked_about(
    card: Path, state: dict[str, Tensor], vaebench: Invoke, refused: Callable[..., str]
) -> None:
    average = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    torch.save({"state_dict": state, "ema": {"shadow": average}}, card.parent / "any.ckpt")
    command = ("import", "torch", card.parent / "any.ckpt", "--card", card, "--out", card.parent / "out")
    count = len(state)
    told = f"has 2 state dicts: 'state_dict' ({count} tensors), 'ema.shadow' ({count} tensors); choose one with --key"
    refused(2, command, told)
    refused(2, (*command, "--key", "ema.shadw"), "did you mean 'ema.shadow'?")
    made, _ = imported(vaebench, card, "--key", "ema.shadow")
    found = load_file(made.weights_path())
    assert all(torch.equal(found[name], tensor) for name, tensor in average.items())


def test_an_average_beside_the_weights_is_a_set_of_its_own(
    card: Path, state: dict[str, Tensor], vaebench: Invoke, refused: Callable[..., str]
) -> None:
    average = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    torch.save(before("net.", state) | before("net_ema.", average), card.parent / "any.ckpt")
    command = ("import", "torch", card.parent / "any.ckpt", "--card", card, "--out", card.parent / "out")
    refused(2, command, f"has 2 state dicts: 'net' ({len(state)} tensors), 'net_ema' ({len(state)} tensors)")
    made, _ = imported(vaebench, card, "--key", "net_ema")
    found = load_file(made.weights_path())
    assert all(torch.equal(found[name], tensor) for name, tensor in average.items())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"epoch": 3, "lr": 0.1}, "has no state dict in it, but the keys ['epoch', 'lr']"),
        ([1, 2], "has no state dict in it, but a list"),
        ({}, "has no state dict in it"),
        (torch.nn.Linear(2, 2), "holds more than tensors, which could run code"),
        ({"other": torch.ones(2)}, "does not fit: "),
    ],
)
def test_files_without_the_weights(content: Any, says: str, card: Path, refused: Callable[..., str]) -> None:
    torch.save(content, card.parent / "any.ckpt")
    out = card.parent / "out"
    refused(3, ("import", "torch", card.parent / "any.ckpt", "--card", card, "--out", out), says)
    assert not out.exists()


def test_code_of_ones_own_comes_along_and_does_not_run(card: Path, vaebench: Invoke) -> None:
    card.write_text(OWN, encoding="utf-8")
    (card.parent / "vae.py").write_text("raise RuntimeError", encoding="utf-8")
    torch.save({"model": {"module.inner.weight": torch.ones(2, 2)}}, card.parent / "any.ckpt")
    made, _ = imported(vaebench, card)
    assert list(load_file(made.weights_path())) == ["network.inner.weight"]
    assert (card.parent / "out" / "vae.py").read_text(encoding="utf-8") == "raise RuntimeError"


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "a.b."])
def test_safetensors_with_a_prefix_are_loaded_and_it_is_said(
    prefix: str, card: Path, state: dict[str, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    from vaebench.datasets.digits import plugin

    model = loading.build_model(cards.read(card), plugin.space)
    save_file(before(prefix, state), card.parent / "w.safetensors")
    loading.load_weights(model, card.parent / "w.safetensors")
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items())
    assert f"{prefix!r} stands before every name" in caplog.text
    with pytest.raises(loading.DataError, match="stands before every name"):  # as submissions are read
        loading.fitting(model, card.parent / "w.safetensors")


def test_one_cause_is_found_only_where_it_is_one() -> None:
    wanted = ["a.x", "a.y", "b.z"]
    assert prefixes.renaming(wanted, wanted) is None
    assert prefixes.renaming(["module.a.x", "a.y", "b.z"], wanted) is None
    assert prefixes.renaming(["module.a.x", "module.b.z"], wanted) == ("module.", "")
    assert prefixes.renaming(["x", "y"], ["network.x", "network.y"]) == ("", "network.")
    assert prefixes.renaming(["module.x", "module.y"], ["network.x", "network.y"]) == ("module.", "network.")
    assert prefixes.renaming([], wanted) is None
    assert prefixes.wrapper(["module.model.a", "module.model.b"]) == "module.model."
    assert prefixes.wrapper(["main.a", "main.b"]) == ""


def test_the_dataset_may_be_files_of_ones_own(tmp_path: Path, vaebench: Invoke, refused: Callable[..., str]) -> None:
    photographs, card = tmp_path / "photographs", tmp_path / "mine.toml"
    photographs.mkdir()
    for i in range(4):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(photographs / f"{i}.png")
    card.write_text(CARD.replace("digits", "image-folder").replace("categorical", "discretised-logistic"))
    model = loading.build_model(cards.read(card), plugins.space_of("image-folder", photographs))
    torch.save(model.state_dict(), tmp_path / "vae.pt")
    command = ("import", "torch", tmp_path / "vae.pt", "--card", card, "--out", tmp_path / "out")
    refused(3, command, "image-folder is not under", "by --data")
    result = vaebench(*command, "--data", photographs)
    assert (result.exit_code, (tmp_path / "out" / "mine.toml").exists()) == (0, True), result.stderr
    (tmp_path / "empty").mkdir()
    refused(3, (*command, "--data", tmp_path / "empty"), "empty has no images in it")
