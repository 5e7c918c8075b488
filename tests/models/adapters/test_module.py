"""Laws of networks as they are: every way to encode and decode; what is refused, and that code needs leave."""

import dataclasses
import json
import math
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import Result
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, Normal
from weekly import weekly

import vaebench as face
from vaebench.core import checks
from vaebench.core.data import Dataset, Space, Split, fingerprint
from vaebench.core.errors import UserError
from vaebench.core.metric import UnavailableError
from vaebench.functional import random
from vaebench.models.adapters._wiring import WiringError
from vaebench.models.own import from_module

Invoke = Callable[..., Result]
GREY, BINARY, REAL = Space((1, 8, 8), 17, "pmf"), Space((1, 8, 8), 2, "pmf"), Space((6,), None, "density")
UNIT = Space((1, 8, 8), None, "density", (0.0, 1.0))
FILE = """
import torch
from torch import nn


class VAE(nn.Module):
    def __init__(self, latent=4):
        super().__init__()
        self.inner, self.outer = nn.Linear(64, 2 * latent), nn.Linear(latent, 64)

    def encode(self, x):
        return self.inner(x).chunk(2, dim=1)

    def decode(self, z):
        return torch.sigmoid(self.outer(z))
"""
MODEL = {"likelihood": "discretised-logistic", "output": "unit", "scale": 0.1}


class Plain(nn.Module):
    """Flat vectors in and out."""

    def __init__(self, dims: int = 64, latent: int = 3, channels: int = 1) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(dims, 2 * latent), nn.Linear(latent, dims * channels)

    def encode(self, x: Tensor) -> Any:
        return self.inner(x).chunk(2, dim=1)

    def decode(self, z: Tensor) -> Any:
        return self.outer(z)


class Sigmoid(Plain):
    def decode(self, z: Tensor) -> Tensor:
        return self.outer(z).sigmoid()


class Tanh(Plain):
    def decode(self, z: Tensor) -> Tensor:
        return self.outer(z).tanh()


class Distributed(Plain):
    def encode(self, x: Tensor) -> Any:
        mean, log_variance = super().encode(x)
        return Independent(Normal(mean, (0.5 * log_variance).exp()), 1)


class Spatial(nn.Module):
    """As diffusers' autoencoders: images in and out, latents (2, 4, 4), objects with names."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Conv2d(1, 4, 3, 2, 1), nn.ConvTranspose2d(2, 2, 4, 2, 1)

    def encode(self, x: Tensor) -> Any:
        mean, log_variance = self.inner(x).chunk(2, dim=1)
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=mean, logvar=log_variance))

    def decode(self, z: Tensor) -> Any:
        return SimpleNamespace(sample=self.outer(z))


CASES: dict[str, tuple[Callable[[], nn.Module], Space, dict[str, Any]]] = {
    "logits": (Plain, BINARY, {"likelihood": "bernoulli", "output": "logits"}),
    "sigmoid": (Sigmoid, BINARY, {"likelihood": "bernoulli", "output": "unit"}),
    "tanh": (Tanh, BINARY, {"likelihood": "bernoulli", "output": "centred", "input": "centred"}),
    "means": (Sigmoid, GREY, {**MODEL, "input": "levels"}),
    "centred means": (Tanh, GREY, {**MODEL, "output": "centred", "latent": 3}),
    "distribution": (Distributed, GREY, MODEL),
    "levels": (lambda: Plain(channels=17), GREY, {"likelihood": "categorical"}),
    "spatial": (Spatial, GREY, {"likelihood": "discretised-logistic", "latent": (2, 4, 4)}),
    "grey logits": (Plain, UNIT, {"likelihood": "continuous-bernoulli", "output": "logits", "input": "centred"}),
    "grey sigmoid": (Sigmoid, UNIT, {"likelihood": "continuous-bernoulli", "output": "unit"}),
    "real": (lambda: Plain(6), REAL, {"likelihood": "gaussian", "scale": 0.5}),
    "real, both": (lambda: Plain(6, channels=2), REAL, {"likelihood": "gaussian"}),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Space, dict[str, Any]]:
    torch.manual_seed(0)
    make, space, wiring = CASES[request.param]
    return make(), space, wiring


def test_every_promise_is_kept(case: tuple[nn.Module, Space, dict[str, Any]]) -> None:
    network, space, wiring = case
    model = from_module(network, **wiring).bind(space)
    assert [check for check in checks.check_model(model) if not check.passed] == []
    assert {name for name, _ in model.inference_parameters()} == {"network.inner.weight", "network.inner.bias"}


def test_a_network_is_left_as_it_was(case: tuple[nn.Module, Space, dict[str, Any]]) -> None:
    network, space, wiring = case
    network.train().requires_grad_(False)
    state = torch.get_rng_state()
    from_module(network, **wiring).bind(space)
    assert network.training
    assert torch.equal(state, torch.get_rng_state())
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())


@torch.no_grad()
def test_a_sigmoid_is_its_logits() -> None:
    x = torch.randint(0, 2, (5, 1, 8, 8)).to(torch.uint8)
    plain = Plain()
    same = Sigmoid()
    same.load_state_dict(plain.state_dict())
    z = (torch.randn(2, 5, 3),)
    logits = from_module(plain, "bernoulli", output="logits").bind(BINARY).likelihood(z).log_prob(x)
    unit = from_module(same, "bernoulli", output="unit").bind(BINARY).likelihood(z).log_prob(x)
    assert torch.allclose(logits, unit, rtol=1e-5, atol=1e-4)
    wanted = Bernoulli(logits=plain.decode(z[0])).log_prob(x.flatten(1).float()).sum(-1)
    assert torch.allclose(logits, wanted, rtol=1e-5, atol=1e-4)
    nn.init.constant_(same.outer.bias, 200.0)  # a full sigmoid
    full = from_module(same, "bernoulli", output="unit").bind(BINARY).likelihood(z).log_prob(x)
    assert full.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize(
    ("likelihood", "space", "output", "says"),
    [
        (
            "bernoulli",
            BINARY,
            "unit",
            r"decode gives 6.*, but output = 'unit' are means in \[0, 1\]; say output",
        ),
        ("bernoulli", BINARY, "centred", r"are means in \[-1, 1\]; say output = 'logits', or end it in a tanh"),
        ("discretised-logistic", GREY, "unit", r"are means in \[0, 1\]; end it in a sigmoid"),
    ],
)
def test_logits_are_not_taken_for_means(likelihood: str, space: Space, output: str, says: str) -> None:
    scale = 0.1 if likelihood == "discretised-logistic" else None
    model = from_module(Plain(), likelihood, output=output, scale=scale).bind(space)
    with torch.no_grad():
        model.network.outer.bias += 6  # type: ignore[operator,union-attr]
    with pytest.raises(WiringError, match=says):
        model.likelihood((torch.zeros(1, 2, 3),))
    splits = {name: Split(name, torch.zeros(4, 1, 8, 8, dtype=torch.uint8)) for name in ("train", "test")}
    with pytest.raises(UserError, match=says.replace("6", "-?[0-9]")):
        face.evaluate(model, Dataset("made", space, splits, fingerprint(splits)), "likelihood", "quick")


def test_inputs_and_scales_are_in_the_units_that_are_said() -> None:
    x = torch.arange(64).remainder(17).view(1, 1, 8, 8).to(torch.uint8)
    network = Sigmoid()
    for kind, given in (("unit", x / 16), ("centred", x / 8 - 1), ("levels", x.float())):
        q = from_module(network, **MODEL, input=kind).bind(GREY).posterior(x)
        assert torch.allclose(q.mean, network.encode(given.flatten(1))[0], atol=1e-6)
    z = torch.randn(1, 1, 3)
    found = from_module(network, **MODEL).bind(GREY).likelihood((z,)).raw
    mean = 2 * network.decode(z[0]).view(1, 1, 1, 8, 8) - 1
    assert torch.allclose(found, torch.cat([mean, torch.full_like(mean, math.log(0.2))], 2), atol=1e-6)


@torch.no_grad()
def test_real_data_in_an_interval_are_given_as_said() -> None:
    x, network = torch.rand(3, 1, 8, 8), Sigmoid()
    for space, unit in ((UNIT, x), (Space((1, 8, 8), None, "density", (-1.0, 1.0)), (x + 1) / 2)):
        for kind, given in (("unit", unit), ("centred", 2 * unit - 1)):
            q = from_module(network, "gaussian", scale=0.1, input=kind).bind(space).posterior(x)
            assert torch.allclose(q.mean, network.encode(given.flatten(1))[0], atol=1e-6)
    with pytest.raises(UserError, match="input = 'levels' is of data that have levels"):
        from_module(network, "gaussian", scale=0.1, input="levels").bind(UNIT)


def test_grey_cross_entropy_is_told_where_to_go() -> None:
    for likelihood, space, says in (
        ("bernoulli", GREY, "use 'continuous-bernoulli' on their dequantised twin, binarised data, 'discretised-log"),
        ("continuous-bernoulli", GREY, "the data has 17 integer levels; name their dequantised twin"),
        ("continuous-bernoulli", Space((1, 8, 8), None, "density"), "of numbers in [0, 1], but the data have no inter"),
    ):
        with pytest.raises(UserError) as caught:
            from_module(Sigmoid(), likelihood, output="unit").bind(space)
        assert says in str(caught.value)


class Constant(nn.Module):
    """Means that z does not change: one bright, one dark pixel, the others grey."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.mean = nn.Linear(64, 2), nn.Parameter(torch.full((1, 64), 0.5))

    def encode(self, x: Tensor) -> Any:
        return self.inner(x.flatten(1)).chunk(2, dim=1)

    def decode(self, z: Tensor) -> Tensor:
        return self.mean.expand(len(z), 64)


def logistic_digits(scale: float, n: int = 1500) -> Dataset:
    """Grey images whose pixels are logistic about 1/2 on [0, 1] with `scale`, quantised to 17 levels."""
    u = random.uniform(random.keys(5, torch.arange(n)), (1, 8, 8))
    x = ((0.5 + scale * torch.logit(u)) * 16).round().clamp(0, 16).to(torch.uint8)
    splits = {"train": Split("train", x), "test": Split("test", x[:50])}
    return Dataset("made", GREY, splits, fingerprint(splits))


@pytest.mark.parametrize("scale", [0.05, 0.2])
def test_a_scale_is_fitted_on_the_training_split_and_told(scale: float) -> None:
    network, dataset = Constant(), logistic_digits(scale)
    made = from_module(network, "discretised-logistic", output="unit", scale="fit")
    results = face.evaluate(made, dataset, "likelihood", "quick")
    (told,) = {row.reason for row in results.rows}
    found = re.fullmatch(r"scale = ([0-9.]+) was fitted on 1000 images of train", str(told))
    assert found is not None
    assert float(found[1]) == pytest.approx(scale, rel=0.02)  # 64,000 pixels: the error is about 0.3%
    given = from_module(network, "discretised-logistic", output="unit", scale=float(found[1]))
    again = face.evaluate(given, dataset, "likelihood", "quick")
    assert again["nll"].value == results["nll"].value
    for other in (0.9, 1.1):
        worse = from_module(network, "discretised-logistic", output="unit", scale=other * float(found[1]))
        assert face.evaluate(worse, logistic_digits(scale), "likelihood", "quick")["nll"].value > again["nll"].value
    assert all(check.passed for check in face.check(made, dataset))


def test_a_scale_that_cannot_be_fitted() -> None:
    made = from_module(Constant(), "discretised-logistic", output="unit", scale="fit")
    dataset = logistic_digits(0.1)
    with pytest.raises(UserError, match="scale = 'fit' needs a split 'train', which made lacks; give a number"):
        face.evaluate(made, dataclasses.replace(dataset, splits={"test": dataset.split("test")}), "likelihood")
    with pytest.raises(UnavailableError, match="nothing is known before"):
        made.bind(GREY).likelihood((torch.zeros(1, 2, 1),)).log_prob(torch.zeros(2, 1, 8, 8))
    sick = Constant()
    sick.mean.data[0, 0] = math.nan
    with pytest.raises(UserError, match="scale = 'fit' on made: the decoder gives a number that is not finite"):
        face.evaluate(dataclasses.replace(made, network=sick), dataset, "likelihood")


class Single(Plain):
    """As diffusers' AutoencoderTiny: one z."""

    def encode(self, x: Tensor) -> Any:
        return SimpleNamespace(latents=self.inner(x)[:, :3])

    def decode(self, z: Tensor) -> Any:
        return SimpleNamespace(sample=self.outer(z).tanh())


@pytest.mark.parametrize("kind", weekly([Tanh, Single], Single))
def test_without_a_likelihood_what_needs_none_is_measured(kind: type[nn.Module]) -> None:
    network = kind()
    made = from_module(network, "none", output="centred")
    model = made.bind(GREY)
    assert [check for check in checks.check_model(model) if not check.passed] == []
    (asked,) = (check for check in checks.check_model(model, quick=True) if check.name == checks.PROPER)
    assert asked.detail.startswith("not asked: the model has no likelihood p(x|z)")
    z = torch.randn(2, 4, 3)
    with torch.no_grad():
        picture = network.decode(z.flatten(0, 1))  # type: ignore[operator]
        picture = getattr(picture, "sample", picture).view(2, 4, 1, 8, 8)
        torch.testing.assert_close(model.likelihood((z,)).mean, (picture + 1) * 8)
    none = ["likelihood", "code-length", "certified", "regret", "tracin"]
    some = ["probe", "reconstruction", "fd-domain", "consistency", "gallery", "information", "latent-gap"]
    results = face.evaluate(made, "digits", none + some, "quick")
    status = {row.metric: (row.status, str(row.reason)) for row in results.rows}
    assert {metric for metric, (word, _) in status.items() if word == "failed"} == set()
    measured = set(some) - (
        set() if isinstance(network, Tanh) else {"information"}
    )  # a z has no density to be known by
    assert {metric for metric, (word, _) in status.items() if word == "ok"} == measured
    why = "the model has no likelihood p(x|z): its decoder gives a picture, trained to look right"
    for metric in ("regret", "tracin"):
        assert why in status[metric][1]
    for metric in none[:3]:  # a posterior that has no density is found first
        assert re.search(re.escape(why) if isinstance(network, Tanh) else "single z for each x", status[metric][1])
    if isinstance(network, Single):
        assert "single z for each x, with no density" in status["information"][1]


class Three(Plain):
    def encode(self, x: Tensor) -> Any:
        return (*super().encode(x), x)


class One(Plain):
    def encode(self, x: Tensor) -> Any:
        return self.inner(x)


class Pair(Plain):
    def decode(self, z: Tensor) -> Any:
        return z, z


@pytest.mark.parametrize(
    ("network", "changes", "says"),
    [
        (Three(), {}, "encode gives 3 things (Tensor, Tensor, Tensor); it should return (mean, log-variance)"),
        (One(), {}, "encode gives one tensor (2, 6); it should return"),
        (Pair(), {}, "decode gives 2 things (Tensor, Tensor); it should return a tensor"),
        (Plain(channels=2), {}, "decode gives (128,) for an example; discretised-logistic on examples (1, 8, 8)"),
        (Plain(dims=65), {}, "encode ('encode') does not take (2, 1, 8, 8): "),
        (Plain(), {"latent": 7}, "encode gives latents of shape (3,), not latent = (7,)"),
        (Plain(), {"encode": "encoder"}, "Plain has no 'encoder' to encode by; set encode = NAME"),
        ("network", {}, "a str is not a network"),
    ],
)
def test_a_network_that_does_not_fit_is_one_line(network: Any, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        from_module(network, **{**MODEL, **changes}).bind(GREY)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"likelihood": "bernouli"}, "likelihood = 'bernouli' should be one of"),
        ({"output": "logits"}, "output = 'logits' is of bernoulli, continuous-bernoulli, categorical, not of"),
        ({"likelihood": "gaussian", "output": "raw", "scale": "fit"}, "scale = 'fit' is of discretised-logistic alone"),
        ({"scale": "fitt"}, "scale = 'fitt' should be float or one of 'fit'"),
        ({"scale": -1.0}, "scale = -1.0 should be positive"),
        ({"scale": None}, "gives means alone; give their scale = NUMBER, or 'fit'"),
        ({"likelihood": "categorical"}, "scale = 0.1 is of discretised-logistic and gaussian alone"),
    ],
)
def test_wirings_that_do_not_go_together(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says.replace("(", r"\(")):
        from_module(Plain(), **{**MODEL, **changes})


def test_a_bare_network_is_told_how_to_come_in() -> None:
    with pytest.raises(UserError, match=r"a Plain is a network; say how it is called, by vaebench\.from_module"):
        face.evaluate(Plain(), "digits")  # type: ignore[arg-type]


@pytest.fixture
def card(tmp_path: Path) -> Path:
    (tmp_path / "vae.py").write_text(FILE, encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(
        textwrap.dedent("""
            dataset = "digits"
            summary = "A plain VAE."
            family = "module"

            [model]
            file = "vae.py"
            name = "VAE"
            arguments = {latent = 5}
            likelihood = "discretised-logistic"
            output = "unit"
            scale = 0.1

            [training]
            epochs = 1
        """),
        encoding="utf-8",
    )
    return path


def test_what_is_collapsed_says_so_where_it_is_measured(card: Path, vaebench: Invoke, boards: Path) -> None:
    shapes = {"inner.weight": (10, 64), "inner.bias": (10,), "outer.weight": (64, 5), "outer.bias": (64,)}
    save_file({f"network.{name}": torch.zeros(shape) for name, shape in shapes.items()}, card.with_suffix(".zero"))
    command = ("run", "--card", card, "--weights", card.with_suffix(".zero"), "--allow-code", "--preset", "quick")
    command += ("--metric", "likelihood", "--leaderboards", boards)
    assert "(collapsed)" in vaebench(*command).stdout
    assert all("collapsed" in row["marks"] for row in json.loads(vaebench(*command, "--json").stdout))


def test_code_runs_only_with_leave(card: Path, vaebench: Invoke, refused: Callable[..., str], boards: Path) -> None:
    out = card.parent / "out"
    train = ("train", "--card", card, "--out", out)
    mark = card.parent / "ran"
    (card.parent / "vae.py").write_text(f"open({str(mark)!r}, 'w').close()\n{FILE}", encoding="utf-8")
    refused(2, train, "vae.py is code, which its card asks to run", "--allow-code")
    refused(2, ("check", "--card", card), "--allow-code")
    assert not mark.exists()
    assert vaebench(*train, "--allow-code").exit_code == 0
    assert mark.exists()
    mark.unlink()
    run = ("run", "--card", out / "mine.toml", "--metric", "likelihood", "--preset", "quick", "--leaderboards", boards)
    (out / "vae.py").write_text(f"open({str(mark)!r}, 'w').close()\n{FILE}\n", encoding="utf-8")  # another content
    refused(2, run, "--allow-code")
    found = vaebench("submit", out, "--dry-run")
    assert "runs a file of code" in found.output
    assert not mark.exists()
    refused(2, (*run, "--allow-code", "--workers", 2), "leave out --workers")
    assert vaebench(*run, "--allow-code").exit_code == 0
    assert mark.exists()
    assert vaebench("check", "--card", out / "mine.toml", "--allow-code").exit_code == 0


def test_the_card_and_the_call_have_the_same_values(card: Path) -> None:
    torch.manual_seed(0)
    model = face.from_module(torch.nn.Module(), **MODEL)
    scope: dict[str, Any] = {}
    exec(FILE, scope)
    model = dataclasses.replace(model, network=scope["VAE"](latent=5))
    weights = card.parent / "mine.safetensors"
    save_file({f"network.{name}": tensor for name, tensor in model.network.state_dict().items()}, weights)
    named = face.evaluate(card, metrics="likelihood", preset="quick", weights=weights, allow_code=True)
    own = face.evaluate(model, "digits", "likelihood", "quick")
    assert {name: value.value for name, value in own.items()} == {name: value.value for name, value in named.items()}
    assert {row.model for row in own.rows} == {"own-vae"}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("import torch\n", "import tensorflow_of_mine\n", "which runs alone"),
        ("class VAE", "class VAEE", "unknown name 'VAE'; did you mean 'VAEE'?"),
        ("latent=4", "width=4", "VAE(latent=5) raises TypeError"),
    ],
)
def test_files_that_do_not_give_a_network(
    card: Path, refused: Callable[..., str], old: str, new: str, says: str
) -> None:
    (card.parent / "vae.py").write_text(FILE.replace(old, new, 1), encoding="utf-8")
    refused(2, ("check", "--card", card, "--allow-code"), says)


def test_a_card_whose_scale_is_fitted(card: Path, vaebench: Invoke, refused: Callable[..., str], boards: Path) -> None:
    card.write_text(card.read_text().replace("scale = 0.1", 'scale = "fit"'))
    train = ("train", "--card", card, "--out", card.parent / "out", "--allow-code")
    refused(2, train, "digits/mine cannot be trained: scale = 'fit' is found on trained weights")
    scope: dict[str, Any] = {}
    exec(FILE, scope)
    torch.save(scope["VAE"](latent=5).state_dict(), card.parent / "vae.pt")
    out = card.parent / "imported"
    assert vaebench("import", "torch", card.parent / "vae.pt", "--card", card, "--out", out).exit_code == 0
    run = ("run", "--card", out / "mine.toml", "--metric", "likelihood", "--preset", "quick", "--leaderboards", boards)
    result = vaebench(*run, "--allow-code", "--json")
    assert result.exit_code == 0, result.output
    (reason,) = {row["reason"] for row in json.loads(result.stdout)}
    assert re.fullmatch(r"scale = [0-9.]+ was fitted on 1000 images of train", reason)
    assert vaebench("check", "--card", out / "mine.toml", "--allow-code").exit_code == 0


def test_weights_of_another_model_are_one_line(card: Path, refused: Callable[..., str]) -> None:
    save_file({"layers.0.weight": torch.ones(2), "layers.0.bias": torch.ones(2)}, card.parent / "w.safetensors")
    run = ("run", "--card", card, "--weights", card.parent / "w.safetensors", "--metric", "likelihood", "--allow-code")
    refused(
        3, run, "do not fit the card: it has the weights of another model: none of its 2 names is of this model's 4"
    )


def test_a_file_elsewhere_is_refused(card: Path, refused: Callable[..., str]) -> None:
    card.write_text(card.read_text().replace('"vae.py"', '"../vae.py"'))
    refused(2, ("check", "--card", card, "--allow-code"), "should be the name of a .py file beside the card")
