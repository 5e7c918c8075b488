"""The Likelihood Regret nets: names and shapes of the release, its scores, what they refuse, and training."""

import csv
import json
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
import torch
from golden_files import GOLDEN, arrays, likelihood_regret_pair
from safetensors.torch import load_file
from torch import Tensor, nn
from weekly import weekly

from vaebench.core import checks
from vaebench.core.data import Batch, Dataset, Space, Split, fingerprint
from vaebench.core.errors import UserError
from vaebench.core.tables import build
from vaebench.metrics.shared.bounds import score
from vaebench.models.adapters.likelihood_regret import LikelihoodRegret, Options
from vaebench.models.card import Card, Recipe
from vaebench.models.formats.likelihood_regret import read
from vaebench.training import loop as training

GREY, COLOUR = Space((1, 32, 32), 256, "pmf"), Space((3, 32, 32), 256, "pmf")
SPREAD = {"fashion": 2.40, "mnist": 6.50}  # nats: the golden README's standard deviation of one score


def model(space: Space = GREY, latent: int = 3, width: int = 2) -> LikelihoodRegret:
    torch.manual_seed(0)
    return LikelihoodRegret(space, Options(latent, width))


def images(count: int, space: Space = GREY) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, *space.shape), generator=generator).to(torch.uint8)


NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@pytest.mark.parametrize(("space", "colours"), [(GREY, 1), (COLOUR, 3)])
def test_names_and_shapes_are_the_releases(space: Space, colours: int) -> None:
    a, b, c, z = 64, 128, 256, 200
    expected = {
        "encoder.main.input-conv.weight": (a, colours, 4, 4),
        "encoder.main.pyramid:64-128:conv.weight": (b, a, 4, 4),
        "encoder.main.pyramid:128-256:conv.weight": (c, b, 4, 4),
        **{f"encoder.{head}.weight": (z, c, 4, 4) for head in ("conv1", "conv2")},
        **{f"encoder.{head}.bias": (z,) for head in ("conv1", "conv2")},
        "decoder.main.initial:200-256:convt.weight": (z, c, 4, 4),
        "decoder.main.pyramid:256-128:convt.weight": (c, b, 4, 4),
        "decoder.main.pyramid:128-64:convt.weight": (b, a, 4, 4),
        f"decoder.main.final:64-{colours}:convt.weight": (a, 256 * colours, 4, 4),
    }
    norms = {
        "encoder.main.input-BN": a,
        "encoder.main.pyramid:128:batchnorm": b,
        "encoder.main.pyramid:256:batchnorm": c,
    }
    norms |= {f"decoder.main.{n}:batchnorm": w for n, w in (("initial:256", c), ("pyramid:128", b), ("pyramid:64", a))}
    expected |= {f"{norm}.{part}": (width,) for norm, width in norms.items() for part in NORM[:4]}
    expected |= {f"{norm}.num_batches_tracked": () for norm in norms}
    found = LikelihoodRegret(space, Options(z, a)).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == expected


def test_the_model_keeps_its_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "PIXELS", 4)  # each costs 256 images of 256 logits a pixel
    assert {check.name: check.detail for check in checks.check_model(model()) if not check.passed} == {}


@torch.no_grad()
def test_colours_are_decoded_apart() -> None:
    """Channel 256 c + k is the logit of level k of colour c: raising one moves that colour alone."""
    network, x = model(COLOUR).eval(), images(2, COLOUR)
    draws = network.draw(x, 3)
    assert draws.log_weight.shape == (3, 2)
    likelihood = network.likelihood(draws.latents)
    COLOUR.check(likelihood.sample())
    likelihood.raw[:, :, 256 * 2 + 7] += 100
    sample = likelihood.sample()
    assert bool((sample[:, :, 2] == 7).all())
    assert float((sample[:, :, :2] == 7).float().mean()) < 0.1


@pytest.mark.parametrize(
    "space", [Space((1, 28, 28), 256, "pmf"), Space((1, 32, 32), 2, "pmf"), Space((1024,), 256, "pmf"),
              Space((1, 32, 32), None, "density")],
)  # fmt: skip
def test_other_images_are_refused(space: Space) -> None:
    with pytest.raises(
        ValueError, match=r"need 256-level images of shape \(colours, 32, 32\), not .* resized to 32x32"
    ):
        LikelihoodRegret(space, Options())


@pytest.mark.parametrize(("change", "message"), [({"latent": 0}, "positive"), ({"ngf": 4}, "unknown key 'ngf'")])
def test_options_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(Options, change, "here")


@torch.no_grad()
def test_batch_norm_follows_the_mode() -> None:
    """In evaluation an example's companions change nothing and no buffer moves; in training both do."""
    network, x = model(), images(4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.eval()
    torch.testing.assert_close(network.embed(x)[:2], network.embed(x[:2]))
    assert all(tensor.equal(before[name]) for name, tensor in network.state_dict().items())
    network.train()
    assert not torch.allclose(network.embed(x)[:2], network.embed(x[:2]))
    moved = {name for name, tensor in network.state_dict().items() if not tensor.equal(before[name])}
    assert moved == {name for name in before if name.startswith("encoder.") and name.rpartition(".")[2] in NORM[2:]}


def test_it_trains_and_its_buffers_are_kept(tmp_path: Path) -> None:
    dark = images(48) // 8
    splits = {"train": Split("train", dark), "test": Split("test", dark[:4])}
    dataset = Dataset("dark", GREY, splits, fingerprint(splits))
    recipe = Recipe(2, 16, learning_rate=3e-3, weight_decay=3e-5, validation=16)
    card = Card("lr", "dark", "", "likelihood-regret", {"latent": 3, "width": 4}, training=recipe)
    trained = training.train(card, dataset, tmp_path, device=torch.device("cpu"), report=lambda *_: None)
    assert trained.trained is not None
    steps = 2 * trained.trained.best_epoch  # 32 examples in batches of 16
    found = load_file(tmp_path / "lr.safetensors")
    counts = {int(tensor) for name, tensor in found.items() if name.endswith("num_batches_tracked")}
    assert counts == {steps}
    assert not any(bool((t == 1).all()) for name, t in found.items() if name.endswith("running_var"))
    network = LikelihoodRegret(GREY, Options(3, 4))
    network.load_state_dict(found)
    log = [json.loads(line) for line in (tmp_path / "lr.log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert log[1]["train"]["total"] < log[0]["train"]["total"] < 1.02 * 1024 * np.log(256)


@pytest.fixture
def release(tmp_path: Path) -> LikelihoodRegret:
    found = read(*likelihood_regret_pair(tmp_path))
    assert (found.model, found.space) == ({"latent": 100, "width": 32}, GREY)
    network = LikelihoodRegret(found.space, build(Options, found.model, "golden"))
    network.load_state_dict(found.state)
    return network.eval()


def published() -> dict[tuple[str, int], list[float]]:
    """The release's importance-weighted NLL, K = 1000, before any tuning: nats, one to four seeds an image."""
    scores = defaultdict(list)
    for name in ("scores", "repeats"):
        with (GOLDEN / f"likelihood_regret_{name}.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                scores[row["set"], int(row["index"])].append(float(row["nll_before_nats"]))
    return scores


@torch.no_grad()
def error(network: LikelihoodRegret, name: str, index: int, samples: int) -> float:
    """Our NLL less the mean of the release's, in standard deviations of that difference."""
    scores = published()[name, index]
    x = torch.from_numpy(arrays("likelihood_regret_images")[f"{name}_even"][index // 2])[None, None]
    nll = score(Batch(x, None, torch.tensor([index])), 0, model=network, samples=samples, rows=50)["nll"]
    return (float(nll) - mean(scores)) / (SPREAD[name] * (1 + 1 / len(scores)) ** 0.5)


@pytest.mark.parametrize(("name", "index"), weekly([("fashion", 0), ("mnist", 4)], ("mnist", 4)))
def test_scores_are_the_releases(name: str, index: int, release: LikelihoodRegret) -> None:
    assert abs(error(release, name, index, 1000)) < 4


def leaky(network: LikelihoodRegret) -> None:
    for part in list(network.encoder.main._modules):
        if part.endswith("relu"):
            network.encoder.main._modules[part] = nn.LeakyReLU(0.2)


def swapped_heads(network: LikelihoodRegret) -> None:
    network.encoder.conv1, network.encoder.conv2 = network.encoder.conv2, network.encoder.conv1


def batch_statistics(network: LikelihoodRegret) -> None:
    network.decoder.train()


def reversed_levels(network: LikelihoodRegret) -> None:
    weight = network.decoder.get_parameter("main.final:32-1:convt.weight")
    weight.data = weight.data.flip(1)


@pytest.mark.parametrize("slip", [leaky, swapped_heads, batch_statistics, reversed_levels])
def test_a_planted_slip_misses_the_releases_scores(slip: Any, release: LikelihoodRegret) -> None:
    network = release
    assert abs(error(network, "fashion", 2, 50)) < 10  # fewer draws: the bound is a little looser
    slip(network)
    assert abs(error(network, "fashion", 2, 50)) > 12
