"""Certified likelihoods: exact where the answer is known, the same however they are cut, skipped with a reason."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from weekly import weekly

from vaebench.core import registry as plugins
from vaebench.core.data import Batch, Dataset, Source, Space, Split
from vaebench.core.metric import Measurement
from vaebench.core.model import FactoredModel, LatentVariableModel
from vaebench.distributions.latent import LatentDistribution
from vaebench.distributions.likelihoods import Likelihood
from vaebench.distributions.noise import keyed
from vaebench.evaluation.entry import of_model
from vaebench.evaluation.progress import Silent
from vaebench.evaluation.run import MetricRun, Settings
from vaebench.functional import ais
from vaebench.functional.statistics import mean_stderr
from vaebench.metrics import certified
from vaebench.metrics.certified import Certified, real, spaced
from vaebench.metrics.certified import Path as Annealing
from vaebench.models import card as cards
from vaebench.models import loading
from vaebench.models.adapters.flat import Flat, Options
from vaebench.models.oracles import oracles

Measure = Callable[..., dict[str, Measurement]]
FAMILIES = ("flat", "decoupled", "two-level", "hamiltonian")
SOME = ["flat", pytest.param("decoupled", marks=pytest.mark.slow), "two-level", "hamiltonian"]
LIMIT = 4.0  # standard errors


@pytest.fixture(scope="module")
def moons() -> tuple[LatentVariableModel, Tensor, Tensor]:
    """The zoo's two-moons/vae in double precision, 150 test points, and their -log p(x) by quadrature."""
    source = plugins.load("datasets", "two-moons")
    assert isinstance(source, Source)
    card = cards.find("vae", "two-moons")
    model = loading.build_model(card, source.space)
    loading.load_weights(model, card.weights_path())
    model = model.eval().double().requires_grad_(False)
    x = spaced(source.load(Path()).split("test"), 150).x.double()
    axis = torch.linspace(-6, 6, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    parts = []
    with torch.no_grad():
        for z in grid[:, None].split(40_000):
            mean = model.likelihood((z,)).mean  # (S, 1, 2); the scale is 0.1
            log_x = -0.5 * ((x - mean) / 0.1).square().sum(-1) - 2 * math.log(0.1) - math.log(2 * math.pi)
            log_z = -0.5 * z.square().sum(-1) - math.log(2 * math.pi)
            parts.append((log_x + log_z).logsumexp(0))
    return model, x, -(torch.stack(parts).logsumexp(0) + 2 * (axis[1] - axis[0]).log())


def found(model: LatentVariableModel, x: Tensor, metric: Certified, seed: int = 0, first: int = 0) -> dict[str, Tensor]:
    """What `real` gives for x, whose first example is number `first`."""
    batch = Batch(x, None, torch.arange(first, first + len(x)))
    with torch.no_grad():
        return real(batch, seed, model=model, metric=metric, rows=10_000)


@pytest.mark.parametrize("start", weekly(["posterior", "prior"], "posterior"))
@pytest.mark.parametrize("family", SOME)
def test_linear_gaussian_models_are_exact(family: str, start: Literal["posterior", "prior"]) -> None:
    oracle = oracles(count=40, slack=0.5)[FAMILIES.index(family)]
    metric = Certified(images=40, steps=40, chains=8, samples=10, start=start)
    values = found(oracle.model.double(), oracle.dataset.split("test").x, metric)
    off, stderr = mean_stderr(values["nll_ais"] - oracle.exact["nll"])
    assert stderr is not None
    assert abs(off) < LIMIT * stderr
    assert stderr < 0.07  # nats
    if start == "prior":
        assert mean_stderr(values["steps 1"] - oracle.exact["nll"])[0] > 1  # what annealing is for


@pytest.mark.parametrize("family", SOME)
def test_the_gap_of_linear_gaussian_models_closes(family: str, measure: Measure) -> None:
    oracle = oracles(count=20, slack=0.5)[FAMILIES.index(family)]
    values = measure(Certified(images=20, steps=24, chains=6, samples=1), oracle.model, oracle.dataset)
    gap, wide = values["bdmc_gap"], values["k_gap"]
    assert gap.stderr is not None
    assert -LIMIT * gap.stderr < gap.value < 0.05 + LIMIT * gap.stderr
    assert wide.value > 0.1  # KL(q || p(z|x)) on average
    assert set(values) == {column.name for column in Certified.columns}
    curve = values["nll_ais"].curve
    assert curve is not None
    assert curve.x == (1, 6, 12, 24)
    assert curve.y[-1] == values["nll_ais"].value < curve.y[0]


@pytest.mark.slow
def test_two_moons_agree_with_quadrature(moons: tuple[LatentVariableModel, Tensor, Tensor]) -> None:
    model, x, exact = moons
    values = found(model, x, Certified(images=150, steps=200))
    off, stderr = mean_stderr(values["nll_ais"] - exact)
    assert stderr is not None
    assert abs(off) < LIMIT * stderr
    assert stderr < 0.005
    assert mean_stderr(values["nll_k"] - exact)[1] > 2 * stderr  # type: ignore[operator]


@pytest.mark.slow
def test_a_schedule_that_ends_before_one_is_seen_on_two_moons(
    moons: tuple[LatentVariableModel, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x, exact = moons
    monkeypatch.setattr(certified, "schedule", lambda steps: [0.95 * beta for beta in ais.schedule(steps)])
    off, stderr = mean_stderr(found(model, x, Certified(images=150, steps=50))["nll_ais"] - exact)
    assert abs(off) > 2 * LIMIT * stderr  # type: ignore[operator]


def test_steps_come_of_the_pilot_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever noise and however many chains the weighted passes have, and whoever shares the batch."""
    oracle = oracles(count=5, slack=0.5)[0]
    model, x, example = oracle.model.double(), oracle.dataset.split("test").x.double(), torch.arange(5)

    def paths(chains: int, x: Tensor, example: Tensor) -> Annealing:
        metric = Certified(images=5, steps=12, chains=chains)
        return Annealing.of(model.joint(x), metric, 3, example)

    def other(self: certified.Source, t: int) -> tuple[Tensor, Tensor]:
        momenta, uniform = source(dataclasses.replace(self, seed=self.seed + 1), t)
        return (momenta, uniform) if self.chains != certified.PILOTS else source(self, t)

    with torch.no_grad():
        one = paths(3, x, example)
        before, steps = one.forward(12).log_weight, one.steps
        source = certified.Source.__call__
        monkeypatch.setattr(certified.Source, "__call__", other)
        two = paths(3, x, example)
        after = two.forward(12).log_weight
        many, alone = paths(9, x, example), paths(9, x[3:4], example[3:4])
    assert torch.equal(steps, two.steps)
    assert torch.equal(steps, many.steps)
    torch.testing.assert_close(alone.steps, steps[:, 3:4])
    assert not torch.equal(before, after)


def measured(
    model: LatentVariableModel, dataset: Dataset, metric: Certified, **settings: Any
) -> dict[str, Measurement]:
    run = MetricRun(of_model(model, dataset, "model"), "certified", metric, Settings(**settings), Silent())
    return {m.column: m for m in metric.measure(model, dataset, run)}


@pytest.mark.parametrize(
    "name", ["vae", *(pytest.param(name, marks=pytest.mark.slow) for name in ("hvae", "nvae", "dpvae"))]
)
def test_the_cut_changes_nothing(
    name: str, zoo: Callable[[str], LatentVariableModel], digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one acceptance, of any chain, is decided otherwise."""
    model = zoo(name)
    images, steps = (3, 3) if name == "nvae" else (5, 8)
    metric = Certified(images=images, steps=steps, chains=2, samples=10)
    whole = measured(model, digits, metric)
    parts = measured(model, digits, metric, max_draws=2 * metric.chains * certified.PART, in_flight=2)
    single = measured(model, digits, metric, max_draws=1)
    for column, value in whole.items():
        for other in (parts[column], single[column]):
            assert other.value == pytest.approx(value.value, rel=1e-7, abs=1e-7)
    monkeypatch.setattr(certified, "TOGETHER", 2)
    assert measured(model, digits, metric)["nll_ais"].value == pytest.approx(whole["nll_ais"].value, rel=1e-9)


@pytest.mark.parametrize("name", ["vae", "dpvae", "nvae"])
def test_noise_and_latents_are_two_names_of_one_thing(
    name: str, zoo: Callable[[str], LatentVariableModel], digits: Dataset
) -> None:
    model, x = zoo(name).double().requires_grad_(False), digits.split("test").x[:3]
    with torch.no_grad():
        with keyed(0, torch.arange(3)):
            draws = model.draw(x, 2)
        joint, prior = model.joint(x), model.joint(x, "prior")
        noise = joint.noise_of(draws.latents)
        assert tuple(noise.shape) == (2, 3, joint.size)
        torch.testing.assert_close(joint.log_weight(noise), draws.log_weight, rtol=1e-8, atol=1e-8)
        below = prior.log_weight(prior.noise_of(draws.latents))
        torch.testing.assert_close(below, draws.log_likelihood, rtol=1e-6, atol=1e-6)
    assert abs(float(noise.mean())) < 0.5
    assert 0.5 < float(noise.std()) < 1.5


def test_a_gradient_keeps_no_graph(zoo: Callable[[str], LatentVariableModel], digits: Dataset) -> None:
    model = zoo("vae").double()
    with torch.no_grad():
        joint = model.joint(digits.split("test").x[:2])
        value, gradient = certified.with_gradient(joint.log_weight, torch.zeros(3, 2, joint.size, dtype=torch.float64))
    assert not value.requires_grad
    assert not gradient.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_images_are_spread_over_the_split() -> None:
    split = Split("test", torch.arange(10))
    assert spaced(split, 4).x.tolist() == [0, 2, 5, 7]
    assert spaced(split, 10) is split
    assert spaced(split, 11) is split
    assert spaced(split, 4).name == "4 of test"


SPACE = Space((2,), None, "density")
DATASET = Dataset("toy", SPACE, {"test": Split("test", torch.zeros(5, 2))}, "")


class _Coins(LatentDistribution):
    """A distribution over discrete latents."""

    def rsample(self, samples: int) -> tuple[Tensor, ...]:
        return (torch.ones(samples, 1, 2, dtype=torch.int64),)

    def log_prob(self, latents: tuple[Tensor, ...]) -> Tensor:
        return torch.zeros(latents[0].shape[:2])


class _Real(_Coins):
    """A distribution over real latents that does not say what it makes them of."""

    def rsample(self, samples: int) -> tuple[Tensor, ...]:
        return (torch.ones(samples, 1, 2),)


def outside(distribution: Any, base: Any = None, cut: bool = False) -> LatentVariableModel:
    """A flat model with another prior and posterior, or a decoder that lets no gradient through."""
    inner = Flat(SPACE, Options(2, (4,), "gaussian"))

    class Outside(FactoredModel):
        def __init__(self) -> None:
            super().__init__(SPACE)
            self.inner = inner

        def prior(self, batch: int, temperature: float = 1.0) -> Any:
            return inner.prior(batch) if distribution is None else distribution

        def posterior(self, x: Tensor) -> Any:
            return inner.posterior(x) if distribution is None else distribution

        def likelihood(self, latents: tuple[Tensor, ...]) -> Likelihood:
            return inner.likelihood((latents[0].detach(),) if cut else latents)

        def embed(self, x: Tensor) -> Tensor:
            return x

        def inference_parameters(self) -> Any:
            return inner.inference_parameters()

    return Outside()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (outside(_Coins()), "the latents are discrete, and annealing moves along a gradient"),
        (outside(_Real()), "a _Real does not say which noise makes its draws"),
        (outside(None, cut=True), r"log p\(x\|z\) has no gradient in z, along which annealing moves"),
    ],
)
def test_what_cannot_be_annealed_is_skipped_with_the_reason(model: LatentVariableModel, reason: str) -> None:
    found = Certified().unsupported(model, DATASET)
    assert found is not None
    assert found == reason.replace("\\", "")


def test_what_can_be_annealed_is_not_skipped() -> None:
    assert Certified().unsupported(outside(None), DATASET) is None
    assert Certified(split="validation").unsupported(outside(None), DATASET) == "toy has no split 'validation'"


@pytest.mark.parametrize(
    ("name", "low"), [("images", 2), ("steps", 2), ("chains", 1), ("leapfrogs", 1), ("samples", 1)]
)
def test_counts_have_a_least_value(name: str, low: int) -> None:
    with pytest.raises(ValueError, match=f"{name} = {low - 1} should be at least {low}"):
        Certified(**{name: low - 1})
    Certified(**{name: low})


def test_a_start_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="start = 'middle' should be 'posterior' or 'prior'"):
        Certified(start="middle")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "images"), [((8, 8), 20), ((1, 28, 28), 20), ((3, 32, 32), 5), ((1, 64, 64), 2), ((3, 256, 256), 2)]
)
def test_quick_anneals_fewer_of_larger_images(shape: tuple[int, ...], images: int) -> None:
    dataset = Dataset("d", Space(shape, 2, "pmf"), {"test": Split("test", torch.zeros(30, *shape))}, "")
    presets = plugins.load("metrics", "certified")
    assert isinstance(presets, dict)
    assert presets["quick"].quick(dataset, dear=False).images == images
    assert presets["quick"].quick(dataset, dear=True).images == 2
