"""Models of pythae: what its classes save, evaluated as they evaluate it; what is refused, and that nothing runs."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result

from vaebench.core import registry as plugins
from vaebench.core.model import LatentVariableModel
from vaebench.distributions import noise
from vaebench.models import card as cards
from vaebench.models.formats.pythae import KINDS
from vaebench.models.loading import build_model, load_weights

models = pytest.importorskip("pythae.models", reason="pythae is not installed: pip install 'vaebench[dev]'")
Invoke = Callable[..., Result]
CASES = {  # the class, its loss, the dataset
    "bernoulli": ("VAE", "bce", "mnist"),
    "beta": ("BetaVAE", "bce", "mnist-static"),
    "importance-weighted": ("IWAE", "bce", "mnist"),
    "grey": ("VAE", "bce", "mnist-grey-dequantised"),
    "default loss": ("VAE", "mse", "mnist-grey-dequantised"),
    "default loss, small": ("INFOVAE_MMD", "mse", "digits-dequantised"),
    "with a discriminator": ("FactorVAE", "bce", "mnist"),
    "total correlation": ("BetaTCVAE", "mse", "fashion-mnist-dequantised"),
}


def made(kind: str, loss: str, shape: tuple[int, ...], latent: int = 3) -> Any:
    """A model of the library with weights far from where they start."""
    torch.manual_seed(0)
    config = {"INFOVAE_MMD": "INFOVAE_MMD_Config"}.get(kind, f"{kind}Config")
    given = getattr(models, config)(input_dim=shape, latent_dim=latent, reconstruction_loss=loss)
    model = getattr(models, kind)(given)
    for parameter in model.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def imported(folder: Path, vaebench: Invoke, dataset: str) -> LatentVariableModel:
    result = vaebench("import", "pythae", folder / "saved", "--dataset", dataset, "--out", folder / "out")
    assert result.exit_code == 0, result.output
    card = cards.read(folder / "out" / "pythae.toml")
    assert card.dataset == dataset
    model = build_model(card, plugins.space_of(dataset)).eval()
    load_weights(model, card.weights_path())
    return model


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_values_are_the_librarys(case: str, tmp_path: Path, vaebench: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, loss, dataset = CASES[case]
    space = plugins.space_of(dataset)
    library = made(kind, loss, space.shape)
    library.save(str(tmp_path / "saved"))
    model = imported(tmp_path, vaebench, dataset)
    torch.manual_seed(1)
    x = torch.rand(5, *space.shape)
    x = x if space.levels is None else (x < 0.3).to(torch.uint8)
    eps = torch.randn(5, 3)
    monkeypatch.setattr(noise, "standard_normal", lambda shape, like: eps.expand(shape))
    draws, rate = model.draw_with_rate(x, 1)
    encoded = library.encoder(x.float())
    mean, log_variance = encoded.embedding, encoded.log_covariance
    shown = library.decoder(mean + (log_variance / 2).exp() * eps)["reconstruction"].view(5, *space.shape)
    found = [
        models.VAE.loss_function(library, *(each[i : i + 1] for each in (shown, x.float(), mean, log_variance)), None)
        for i in range(5)
    ]
    losses, kls = (torch.stack([each[part] for each in found]) for part in (1, 2))
    constant = torch.zeros(5)
    if loss == "mse":
        constant = torch.full((5,), space.dims / 2 * math.log(2 * math.pi))
    elif space.levels is None:  # what cross-entropy lacks
        logit = torch.logit(shown.double())
        constant = -(logit / torch.tanh(logit / 2)).log().flatten(1).sum(1).float()
    torch.testing.assert_close(rate, kls, rtol=1e-5, atol=1e-5)
    elbo = draws.log_likelihood[0] - rate
    torch.testing.assert_close(elbo, -(losses + kls + constant), rtol=1e-5, atol=1e-3)
    if space.levels == 2 or loss == "mse":  # a continuous Bernoulli's mean is not its lambda
        torch.testing.assert_close(model.likelihood(draws.latents).mean[0], shown, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.embed(x), mean, rtol=1e-5, atol=1e-5)


def test_the_table_of_a_saved_model(tmp_path: Path, vaebench: Invoke, boards: Path) -> None:
    made("VAE", "mse", (1, 8, 8)).save(str(tmp_path / "saved"))
    imported(tmp_path, vaebench, "digits-dequantised")
    card = tmp_path / "out" / "pythae.toml"
    result = vaebench("run", "--card", card, "--metric", "likelihood", "--preset", "quick", "--leaderboards", boards)
    assert result.exit_code == 0, result.output
    assert "bpd" in result.output


def test_examples_in_a_row(tmp_path: Path, vaebench: Invoke) -> None:
    made("VAE", "bce", (784,)).save(str(tmp_path / "saved"))
    assert imported(tmp_path, vaebench, "mnist").space.shape == (1, 28, 28)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    made("VAE", "bce", (1, 28, 28)).save(str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_a_dataset_must_be_named(saved: Path, refused: Callable[..., str]) -> None:
    refused(2, ("import", "pythae", saved, "--out", saved / "o"), "do not say what data", "name them with --dataset")


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        ("mnist-grey", "its loss 'bce' is a likelihood of two levels, such as mnist, or real numbers in [0, 1], and"),
        ("digits", "is for examples of shape (1, 28, 28), but --dataset has (1, 8, 8)"),
        ("two-moons", "is for examples of shape (1, 28, 28)"),
    ],
)
def test_data_that_do_not_fit(dataset: str, says: str, saved: Path, refused: Callable[..., str]) -> None:
    refused(3, ("import", "pythae", saved, "--dataset", dataset, "--out", saved / "o"), says)
    assert not (saved / "o").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "VAMPConfig"}, "holds a 'VAMPConfig', whose prior, posterior or likelihood is another; known: VAEC"),
        ({"name": "AEConfig"}, "holds a 'AEConfig'"),
        ({"uses_default_decoder": False}, "has its own decoder, a pickle that runs code, and is not opened"),
        ({"reconstruction_loss": "l1"}, "reconstruction_loss = 'l1' should be 'bce' or 'mse'"),
        ({"reconstruction_loss": "mse"}, "its loss 'mse' is a likelihood of real numbers in [0, 1], and --dataset has"),
        ({"latent_dim": 4}, "model.pt does not fit: decoder.layers.0.0.weight is [512, 3] instead of [512, 4]"),
        ({"latent_dim": "x"}, "latent_dim = 'x'"),
        ({"input_dim": None}, "input_dim = None"),
    ],
)
def test_configurations_that_are_refused(
    changes: dict[str, Any], says: str, saved: Path, refused: Callable[..., str]
) -> None:
    path = saved / "model_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    refused(3, ("import", "pythae", saved, "--dataset", "mnist", "--out", saved / "o"), says)


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (lambda d: (d / "model_config.json").unlink(), "model_config.json cannot be read: No such file"),
    "text": (lambda d: (d / "model_config.json").write_text("{"), "model_config.json is not JSON"),
    "list": (lambda d: (d / "model_config.json").write_text("[1]"), "it holds a list, not an object"),
    "deep": (lambda d: (d / "model_config.json").write_text("[" * 100_000), "is not JSON: it is nested too deep"),
    "weights": (lambda d: (d / "model.pt").write_bytes(b"PK"), "model.pt is truncated or not a PyTorch state dict"),
    "another": (
        lambda d: torch.save({"model_state_dict": {"fc.weight": torch.ones(2)}}, d / "model.pt"),
        "it has the weights of another model: none of its 1 names is of this model's 10 (it has 'fc.weight'",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_folders_that_are_damaged(damage: str, saved: Path, refused: Callable[..., str]) -> None:
    make, says = DAMAGED[damage]
    make(saved)
    refused(3, ("import", "pythae", saved, "--dataset", "mnist", "--out", saved / "o"), says)


def test_networks_of_ones_own_are_not_opened(saved: Path, refused: Callable[..., str]) -> None:
    (saved / "encoder.pkl").write_bytes(b"cos\nsystem\n(S'touch " + bytes(saved / "ran") + b"'\ntR.")
    says = ("has its own encoder, a pickle that runs code", "vaebench.from_module")
    refused(3, ("import", "pythae", saved, "--dataset", "mnist", "--out", saved / "o"), *says)
    assert not (saved / "ran").exists()


def test_every_kind_is_one_of_the_librarys() -> None:
    assert set(KINDS) <= set(vars(models))
