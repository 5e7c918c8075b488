"""A model of pythae without the library: the values that its own classes gave, from files in its layout."""

import json
import math
from pathlib import Path

import golden_files
import pytest
import torch

from vaebench.core.data import Space
from vaebench.distributions import noise
from vaebench.models.adapters.flat import plugin as flat
from vaebench.models.formats.pythae import plugin

SHAPE = (1, 2, 3)


@pytest.mark.parametrize("loss", ["bce", "mse"])
@torch.no_grad()
def test_golden_values(loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = {name: torch.from_numpy(array) for name, array in golden_files.arrays("pythae").items()}
    state = {name.removeprefix("state."): tensor for name, tensor in golden.items() if name.startswith("state.")}
    torch.save({"model_state_dict": state}, tmp_path / "model.pt")
    config = {"name": "VAEConfig", "input_dim": list(SHAPE), "latent_dim": 2, "reconstruction_loss": loss,
              "uses_default_encoder": True, "uses_default_decoder": True}  # fmt: skip
    (tmp_path / "model_config.json").write_text(json.dumps(config))
    space = Space(SHAPE, 2, "pmf") if loss == "bce" else Space(SHAPE, None, "density", (0.0, 1.0))
    found = plugin.read(tmp_path, space=space)
    make, options = flat
    model = make(space, options(**{key: tuple(v) if isinstance(v, list) else v for key, v in found.model.items()}))
    model.load_state_dict(found.state)
    monkeypatch.setattr(noise, "standard_normal", lambda shape, like: golden["eps"].expand(shape))
    x = golden["binary"].to(torch.uint8) if loss == "bce" else golden["real"]
    draws, rate = model.eval().draw_with_rate(x, 1)
    constant = 0.0 if loss == "bce" else math.prod(SHAPE) / 2 * math.log(2 * math.pi)
    torch.testing.assert_close(rate, golden[f"{loss}.kl"], rtol=1e-5, atol=1e-5)
    elbo = draws.log_likelihood[0] - rate
    torch.testing.assert_close(elbo, -golden[f"{loss}.loss"] - constant, rtol=1e-5, atol=1e-5)
    shown = model.likelihood(draws.latents).mean[0]
    torch.testing.assert_close(shown, golden[f"{loss}.reconstruction"], rtol=0, atol=1e-5)
