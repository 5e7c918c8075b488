"""Checkpoints of VAE-TracIn's release: the values of its own code on its images, and what is refused."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from torch import nn
from torch.nn import functional as F

from vaebench.core import registry as plugins
from vaebench.models import card as cards
from vaebench.models.loading import build_model, load_weights

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden" / "tracin"
Invoke = Callable[..., Result]


def nets(colours: int = 3, latent: int = 5) -> tuple[nn.Sequential, nn.Sequential]:
    """The release's two halves, with its numbers of the layers, for images (B, C, 64, 64)."""
    torch.manual_seed(0)
    down = [(colours, 32), (32, 32), (32, 64), (64, 64)]
    encoder = nn.Sequential(
        *(layer for c, d in down for layer in (nn.Conv2d(c, d, 4, 2, 1), nn.ReLU())),
        nn.Conv2d(64, 256, 4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2 * latent),
    )  # fmt: skip
    up = [(64, 64), (64, 32), (32, 32), (32, colours)]
    decoder = nn.Sequential(
        nn.Linear(latent, 256), nn.Unflatten(1, (256, 1, 1)), nn.ReLU(), nn.ConvTranspose2d(256, 64, 4),
        *(layer for c, d in up for layer in (nn.ReLU(), nn.ConvTranspose2d(c, d, 4, 2, 1))),
    )  # fmt: skip
    return encoder, decoder


def checkpoint(**options: int) -> dict[str, Any]:
    halves = zip(("encoder", "decoder"), nets(**options), strict=True)
    net = {f"{half}.{name}": tensor for half, layers in halves for name, tensor in layers.state_dict().items()}
    return {"iter": 50000, "win_states": {"recon": None}, "model_states": {"net": net}, "optim_states": {"optim": {}}}


def imported(path: Path, vaebench: Invoke) -> cards.Card:
    result = vaebench("import", "tracin", path, "--out", path.parent / "out")
    assert result.exit_code == 0, result.output
    return cards.read(path.parent / "out" / "tracin.toml")


@pytest.mark.parametrize("latent", [5, 64])
@torch.no_grad()
def test_the_fold_is_exact(latent: int, tmp_path: Path, vaebench: Invoke) -> None:
    torch.save(checkpoint(latent=latent), tmp_path / "50000")
    card = imported(tmp_path / "50000", vaebench)
    assert (card.dataset, card.model["latent"]) == ("cifar10-64-dequantised", latent)
    assert "iteration 50000" in card.notes
    model = build_model(card, plugins.space_of(card.dataset)).eval()
    load_weights(model, card.weights_path())
    encoder, decoder = nets(latent=latent)
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(model.embed(x), encoder(x)[:, :latent], rtol=1e-5, atol=1e-6)
    z = torch.randn(1, 2, latent)
    likelihood, shown = model.likelihood((z,)), decoder(z[0]).sigmoid()
    torch.testing.assert_close(likelihood.mean[0], shown, rtol=0, atol=1e-6)
    wanted = -F.mse_loss(shown, x, reduction="none").flatten(1).sum(1) - 3 * 64 * 64 / 2 * math.log(math.pi)
    torch.testing.assert_close(likelihood.log_prob(x)[0], wanted, rtol=1e-5, atol=1e-3)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="../shared/golden/tracin is not beside the checkout")
@pytest.mark.parametrize("name", ["500000", "1500000"])
@torch.no_grad()
def test_golden_values_of_the_releases_own_files(name: str, tmp_path: Path, vaebench: Invoke) -> None:
    (tmp_path / name).write_bytes((GOLDEN / name).read_bytes())
    card = imported(tmp_path / name, vaebench)
    model = build_model(card, plugins.space_of(card.dataset)).eval()
    load_weights(model, card.weights_path())
    with np.load(GOLDEN / "tracin.npz") as file:
        golden = dict(file)
    wanted = json.loads((GOLDEN / "tracin.json").read_text())["expected"][name]
    x = torch.from_numpy(golden["images_uint8"]).float() / 255
    q = model.posterior(x).moments()
    torch.testing.assert_close(q.mean, torch.from_numpy(golden[f"mu_{name}"]), rtol=1e-5, atol=1e-5)
    shown = model.likelihood((q.mean[None],)).mean[0]
    squares = (shown - x).square().flatten(1).sum(1)
    assert float(squares.mean()) == pytest.approx(wanted["mean_sum_squared_error"], rel=1e-5)
    kl = 0.5 * (q.mean.square() + q.log_variance.exp() - q.log_variance - 1).sum(1)
    assert float(kl.mean()) == pytest.approx(wanted["mean_kl_nats"], rel=1e-5)
    loss = (squares / 3 + 2 * kl) / (3 * 64 * 64)
    assert float(loss.mean()) == pytest.approx(wanted["mean_loss"], rel=1e-5)


def test_files_that_are_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    command = ("import", "tracin", tmp_path / "c", "--out", tmp_path / "o")
    content = checkpoint()
    net = content["model_states"]["net"]
    for broken, says in (
        ({"iter": 3}, "is not a checkpoint of VAE-TracIn: it lacks model_states with net"),
        ({"model_states": {"net": {"w": torch.ones(2)}}}, "is not of the convolutional beta-VAE of VAE-TracIn"),
        ({"model_states": {"net": {**net, "encoder.4.bias": torch.ones(3)}}}, "encoder.4.bias is [3] instead of [64]"),
        ({"model_states": {"net": {**net, "more": torch.ones(3)}}}, "does not fit: unknown more"),
        ({"model_states": {"net": {**net, "decoder.5.bias": net["decoder.5.bias"] / 0}}}, "NaN or infinity in decoder"),
    ):
        torch.save(broken, tmp_path / "c")
        refused(3, command, says)
    torch.save(checkpoint(colours=1), tmp_path / "c")
    refused(2, command, "no dataset here is the model's own; name one of examples of shape (1, 64, 64) with real num")
    torch.save(content, tmp_path / "c")
    refused(2, (*command, "--dataset", "celeba64"), "with real numbers in [0.0, 1.0], but 'celeba64' has")
