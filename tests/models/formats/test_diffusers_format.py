"""Autoencoders of diffusers: what the library saves, with its own values; what has no likelihood; what is refused."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file, save_file
from torch import nn
from weekly import weekly

from vaebench.core import checks
from vaebench.core import registry as plugins
from vaebench.core.errors import UserError
from vaebench.core.model import LatentVariableModel
from vaebench.models import card as cards
from vaebench.models.loading import build_model, load_weights

library = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'vaebench[dev]'")
Invoke = Callable[..., Result]
WEIGHTS = "diffusion_pytorch_model.safetensors"


def large(colours: int = 1) -> Any:
    torch.manual_seed(0)
    return library.AutoencoderKL(
        in_channels=colours, out_channels=colours, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=(8, 16), latent_channels=2, norm_num_groups=4,
        sample_size=8,
    ).eval()  # fmt: skip


def tiny(colours: int = 1) -> Any:
    torch.manual_seed(0)
    return library.AutoencoderTiny(
        in_channels=colours, out_channels=colours, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), latent_channels=2,
    ).eval()  # fmt: skip


def imported(folder: Path, vaebench: Invoke, dataset: str = "digits") -> LatentVariableModel:
    out = folder.parent / "out"
    result = vaebench("import", "diffusers", folder, "--dataset", dataset, "--out", out)
    assert result.exit_code == 0, result.output
    card = cards.read(out / "diffusers.toml")
    assert card.family == "diffusers"
    model = build_model(card, plugins.space_of(dataset)).eval()
    load_weights(model, card.weights_path())
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    large().save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("make", [large, tiny])
@pytest.mark.parametrize(
    ("dataset", "colours"), weekly([("digits", 1), ("cifar10", 3), ("digits-dequantised", 1)], ("cifar10", 3))
)
@torch.no_grad()
def test_values_are_the_librarys(
    make: Callable[[int], Any], dataset: str, colours: int, tmp_path: Path, vaebench: Invoke
) -> None:
    network = make(colours)
    network.save_pretrained(tmp_path / "saved")
    model, space = imported(tmp_path / "saved", vaebench, dataset), plugins.space_of(dataset)
    unit = torch.randint(0, 17, (3, *space.shape)) / 16
    x = unit if space.levels is None else (unit * (space.levels - 1)).round().to(torch.uint8)
    seen = 2 * (unit if space.levels is None else x / (space.levels - 1)) - 1
    found = network.encode(seen)
    z = found.latent_dist.mean if make is large else found.latents
    torch.testing.assert_close(model.embed(x), z.flatten(1), rtol=1e-5, atol=1e-5)
    if make is large:
        log_variance = model.posterior(x).moments().log_variance
        torch.testing.assert_close(log_variance, found.latent_dist.logvar.flatten(1), rtol=1e-5, atol=1e-5)
    shown = (network.decode(z).sample + 1) / 2
    picture = model.likelihood((z.flatten(1)[None],)).raw[0] / ((space.levels or 2) - 1)
    torch.testing.assert_close(picture, shown, rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", [large, tiny])
def test_every_promise_is_kept(make: Callable[[], Any], tmp_path: Path, vaebench: Invoke) -> None:
    make().save_pretrained(tmp_path / "saved")
    model = imported(tmp_path / "saved", vaebench)
    assert [check for check in checks.check_model(model) if not check.passed] == []


def test_the_table_says_what_there_is_not(saved: Path, vaebench: Invoke, boards: Path) -> None:
    imported(saved, vaebench)
    card = saved.parent / "out" / "diffusers.toml"
    metrics = ("--metric", "likelihood", "--metric", "reconstruction", "--metric", "information")
    result = vaebench("run", "--card", card, *metrics, "--preset", "quick", "--leaderboards", boards, "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    status = {row["metric"]: row["status"] for row in rows}
    assert status == {"likelihood": "skipped", "reconstruction": "ok", "information": "ok"}
    (reason,) = {row["reason"] for row in rows if row["status"] == "skipped"}
    assert reason.startswith("the model has no likelihood p(x|z)")


def test_half_precision_early_names_and_pipelines(saved: Path, vaebench: Invoke) -> None:
    wanted = imported(saved, vaebench).state_dict()
    state = load_file(saved / WEIGHTS)
    early = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = dict[str, torch.Tensor]()
    for name, tensor in state.items():
        was = next((name.replace(new, word) for new, word in early.items() if f".{new}." in name), name)
        old[was] = tensor[..., None, None].contiguous() if was != name and tensor.ndim == 2 else tensor
    assert sum(name not in state for name in old) == 16
    (pipe := saved.parent / "other" / "pipe" / "vae").mkdir(parents=True)
    (pipe / "config.json").write_bytes((saved / "config.json").read_bytes())
    save_file({name: tensor.half() for name, tensor in old.items()}, pipe / "diffusion_pytorch_model.fp16.safetensors")
    found = imported(pipe.parent, vaebench).state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name].half().float()) for name in wanted)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"_class_name": "UNet2DModel"}, "is of 'UNet2DModel', not of one of AutoencoderKL, AutoencoderTiny"),
        ({"_class_name": None}, "is of None"),
        ({"width": 3}, "config: AutoencoderKL of diffusers"),
        ({"block_out_channels": [8, 8]}, "does not fit: "),
        ({"down_block_types": ["Down"]}, "makes no network"),
        ({"in_channels": 3}, "in_channels = 3, but the images have 1 colours"),
        ({"layers_per_block": 200}, "layers_per_block = 200 should be integers from 0 to 32"),
        ({"layers_per_block": 1e9}, "layers_per_block = 1000000000.0 should be integers from 0 to 32"),
        ({"layers_per_block": True}, "layers_per_block = True should be integers from 0 to 32"),
        ({"out_channels": 3}, "decode gives (3, 8, 8) for an example; none on examples (1, 8, 8) reads (1, 8, 8)"),
        ({"_class_name": "AutoencoderTiny"}, "AutoencoderTiny of diffusers"),
    ],
)
def test_configurations_that_are_refused(changes: dict[str, Any], says: str, saved: Path, vaebench: Invoke) -> None:
    path = saved / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    result = vaebench("import", "diffusers", saved, "--dataset", "digits", "--out", saved / "o")
    assert result.exit_code in (2, 3)
    assert says in result.output
    assert len(result.output.splitlines()) == 1


def test_weights_of_another_class(saved: Path, refused: Callable[..., str]) -> None:
    save_file({"layers.0.weight": torch.ones(2), "layers.0.bias": torch.ones(2)}, saved / WEIGHTS)
    says = "it has the weights of another model: none of its 2 names is of this model's"
    refused(3, ("import", "diffusers", saved, "--dataset", "digits", "--out", saved / "o"), says)


def test_folders_that_are_none(saved: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    (saved / WEIGHTS).unlink()
    command = ("--dataset", "digits", "--out", saved / "o")
    refused(3, ("import", "diffusers", saved, *command), f"has no {WEIGHTS}; write one: model.save_pretrained(DIR)")
    refused(
        3,
        ("import", "diffusers", saved / "config.json", *command),
        "is not a folder; name that of a model of diffusers",
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(saved)
    says = (
        "stabilityai/sd-vae is not a folder here, and the hub does not give it (",
        "fetch it where there is a network",
    )
    refused(3, ("import", "diffusers", "stabilityai/sd-vae", *command), *says)
    refused(2, ("import", "diffusers", saved, "--out", saved / "o"), "do not say what data the model is of")


def test_without_the_library_it_is_asked_for(
    saved: Path, vaebench: Invoke, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    imported(saved, vaebench)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    card = saved.parent / "out" / "diffusers.toml"
    refused(2, ("check", "--card", card), "a model of diffusers needs it: pip install 'vaebench[diffusers]'")


def test_data_that_are_no_images(saved: Path) -> None:
    card = cards.Card("n", "two-moons", "", "diffusers", {"kind": "AutoencoderKL"})
    with pytest.raises(UserError, match="is of images, not of examples of shape"):
        build_model(card, plugins.space_of("two-moons"))


def test_a_network_of_the_library_comes_in_as_it_is() -> None:
    from vaebench.models.own import from_module

    network: nn.Module = large()
    model = from_module(network, "none", input="centred", output="centred").bind(plugins.space_of("digits"))
    assert model.latent == (2, 4, 4)
