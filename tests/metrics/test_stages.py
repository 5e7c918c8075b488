"""Stages: what they give is the model's own, the same for every cut, metric and company, and computed once."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import pytest
import torch
from torch import Tensor
from weekly import weekly

from vaebench.core import registry as plugins
from vaebench.core.data import Batch, Dataset, Source, Space, Split, eight_bit
from vaebench.core.metric import Stage, UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.gaussian import DiagonalGaussian
from vaebench.distributions.likelihoods import Categorical, Gaussian
from vaebench.distributions.noise import keyed, standard_normal
from vaebench.evaluation import run as metric_run
from vaebench.evaluation.entry import of_model
from vaebench.evaluation.journal import Journal
from vaebench.evaluation.progress import Silent
from vaebench.evaluation.run import MetricRun, Settings, Stages
from vaebench.functional.random import derive
from vaebench.metrics.information import Information
from vaebench.metrics.shared.passes import (
    Embedding,
    Posterior,
    PriorLatents,
    PriorSample,
    candidates,
    displayed,
    varied,
)
from vaebench.models import card as cards
from vaebench.models import loading
from vaebench.models.oracles import oracles

CPU = torch.device("cpu")
SPACE = Space((1, 8, 8), 17, "pmf")
N = 130  # a full block and a part of one


@pytest.fixture(scope="module")
def digits() -> Dataset:
    source = plugins.load("datasets", "digits")
    assert isinstance(source, Source)
    return source.load(Path())


@pytest.fixture(scope="module")
def zoo(digits: Dataset) -> Callable[[str], LatentVariableModel]:
    """`zoo(name)`: the zoo's model on digits."""

    def build(name: str) -> LatentVariableModel:
        card = cards.find(name, "digits")
        model = loading.build_model(card, digits.space)
        loading.load_weights(model, card.weights_path())
        return model.eval()

    return build


@pytest.fixture
def split(digits: Dataset) -> Split:
    return digits.split("test").part(torch.arange(N), "some")


Zoo = Callable[[str], LatentVariableModel]


def run(
    model: LatentVariableModel,
    dataset: Dataset,
    metric: str = "metric",
    seed: int = 0,
    in_flight: int = 1,
    journal: Journal | None = None,
    stages: Stages | None = None,
) -> MetricRun:
    settings = Settings(CPU, seed=seed, in_flight=in_flight, journal=journal)
    return MetricRun(of_model(model, dataset, "model"), metric, Information(), settings, Silent(), stages=stages)


@dataclass(frozen=True)
class Case:
    """A stage and the split, of images or of draws, that it maps over."""

    stage: Stage
    draws: bool

    def split(self, images: Split) -> Split:
        return candidates(torch.arange(N)) if self.draws else images


CASES = [
    Case(Posterior(), False),
    Case(Embedding(), False),
    Case(PriorLatents(), True),
    Case(PriorLatents(0.7), True),
    Case(PriorSample(), True),
    Case(PriorSample("sample"), True),
    Case(PriorSample("sample", 0.7), True),
]
cases = pytest.mark.parametrize("case", CASES, ids=str)


def close(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Equal but for rounding: an 8-bit value may be one off, and a sample that falls on an edge another level."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if value.dtype == torch.uint8:
            assert float((found[name] != value).float().mean()) < 1e-3
        else:
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4)


@cases
@pytest.mark.parametrize("name", weekly(["vae", "dpvae", "nvae"], "dpvae"))
def test_no_cut_changes_a_value(
    name: str, case: Case, zoo: Zoo, digits: Dataset, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, over = zoo(name), case.split(split)
    whole = run(model, digits).shared(case.stage, over, batch=N)
    assert {len(value) for value in whole.values()} == {N}
    for batch, in_flight, block in ((7, 1, 100), (100, 3, 20)):
        monkeypatch.setattr(metric_run, "BLOCK", block)
        close(run(model, digits, in_flight=in_flight).shared(case.stage, over, batch=batch), whole)


@cases
def test_every_metric_is_given_the_same_and_it_is_computed_once(
    case: Case, zoo: Zoo, digits: Dataset, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, over, calls = zoo("vae"), case.split(split), Counter[str]()
    real = type(case.stage).__call__

    def counted(self: Stage, model: LatentVariableModel, batch: Batch, seed: int) -> Mapping[str, Tensor]:
        calls[over.name] += len(batch.x)
        return real(self, model, batch, seed)

    monkeypatch.setattr(type(case.stage), "__call__", counted)
    stages = Stages()
    one, other = (run(model, digits, metric, stages=stages).shared(case.stage, over) for metric in ("one", "other"))
    assert calls[over.name] == N
    apart = run(model, digits, "third").shared(case.stage, over)
    assert calls[over.name] == 2 * N
    for name, value in one.items():
        assert torch.equal(value, other[name])
        assert torch.equal(value, apart[name])


@cases
def test_a_journal_gives_all_of_it_back(
    case: Case, zoo: Zoo, digits: Dataset, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, over, journal = zoo("vae"), case.split(split), Journal(tmp_path / "journal")
    first = run(model, digits, journal=journal).shared(case.stage, over)

    def never(*_: object) -> Mapping[str, Tensor]:
        raise AssertionError("computed again")

    monkeypatch.setattr(type(case.stage), "__call__", never)
    again = run(model, digits, "another", journal=journal).shared(case.stage, over)
    assert all(torch.equal(again[name], value) for name, value in first.items())
    with pytest.raises(AssertionError, match="computed again"):
        run(model, digits, seed=1, journal=journal).shared(case.stage, over)


def test_what_one_metric_is_given_another_cannot_spoil(zoo: Zoo, digits: Dataset, split: Split) -> None:
    stages = Stages()
    found = run(zoo("vae"), digits, stages=stages).shared(Embedding(), split)
    found.clear()
    assert set(run(zoo("vae"), digits, stages=stages).shared(Embedding(), split)) == {"embedding"}


@pytest.mark.parametrize("stage", [PriorLatents(), PriorSample(), PriorSample("sample")])
def test_seeds_draw_other_noise(stage: Stage, zoo: Zoo, digits: Dataset) -> None:
    first, second = (run(zoo("vae"), digits, seed=s).shared(stage, candidates(torch.arange(50))) for s in (0, 1))
    for name, value in first.items():
        apart = (value != second[name]).reshape(len(value), -1)
        assert apart.any(1).all()


@pytest.mark.parametrize("name", ["vae", "dpvae", "nvae"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_what_is_decoded_are_the_draws_that_are_ranked(
    name: str, temperature: float, zoo: Zoo, digits: Dataset
) -> None:
    model, index = zoo(name), torch.arange(40)
    here = run(model, digits)
    z = here.shared(PriorLatents(temperature), candidates(index))["z"]
    shown = here.shared(PriorSample("mean", temperature), candidates(index))["x"]
    with torch.no_grad(), keyed(derive(0, "stage", "prior"), index):
        latents = model.prior(40, temperature).rsample(1)
        mean = model.likelihood(latents).mean[0]
    torch.testing.assert_close(z, latents[0][0].flatten(1))
    assert shown.dtype == torch.uint8
    assert (shown.double() - mean.double() * 255 / 16).abs().max() < 0.501


def test_a_draw_is_the_same_in_whatever_company(zoo: Zoo, digits: Dataset) -> None:
    here, order = run(zoo("vae"), digits), torch.tensor([90, 3, 41, 127])
    for stage in (PriorLatents(), PriorSample(), PriorSample("sample")):
        whole = here.shared(stage, candidates(torch.arange(N)))
        some = here.shared(stage, candidates(order))
        close(some, {name: value[order] for name, value in whole.items()})


def test_candidates_are_told_by_their_content() -> None:
    a, b = torch.arange(10), torch.arange(10).flip(0)
    assert candidates(a).identity == candidates(a.clone()).identity
    assert len({candidates(index).identity for index in (a, b, a[:9], a + 1)}) == 4
    assert torch.equal(candidates(b).x, b)


@pytest.mark.parametrize("name", ["vae", "dpvae", "nvae", "hvae"])
def test_embeddings_are_the_models_own(name: str, zoo: Zoo, digits: Dataset, split: Split) -> None:
    model = zoo(name)
    found = run(model, digits).shared(Embedding(), split)["embedding"]
    with torch.no_grad():
        torch.testing.assert_close(found, model.embed(split.x), rtol=1e-4, atol=1e-4)


def test_posteriors_are_the_models_own(zoo: Zoo, digits: Dataset, split: Split) -> None:
    for name in ("vae", "dpvae"):
        model = zoo(name)
        found = run(model, digits).shared(Posterior(), split)
        with torch.no_grad():
            q = model.posterior(split.x)
        assert isinstance(q, DiagonalGaussian)
        torch.testing.assert_close(found, {"mean": q.mean, "log_variance": q.log_variance}, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["two-level", "nvae"])
def test_of_several_groups_the_first_is_given(name: str, zoo: Zoo, digits: Dataset, split: Split) -> None:
    oracle = oracles(count=1)[2]
    model, x, count = (zoo(name), split.x[:1], 2000) if name == "nvae" else (oracle.model, torch.ones(1, 6), 40_000)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        q = model.posterior(x).first().moments()
        draws = model.posterior(x).rsample(count)[0][:, 0].flatten(1).double()
    assert q.mean.shape == q.log_variance.shape == (1, draws.shape[1])
    scale = (0.5 * q.log_variance[0]).exp().double()
    assert ((draws.mean(0) - q.mean[0]) / scale).abs().max() < 4.5 / count**0.5
    assert (draws.std(0) / scale - 1).abs().max() < 4.5 / (2 * count) ** 0.5


def test_a_posterior_without_a_gaussian_is_unavailable(zoo: Zoo, digits: Dataset, split: Split) -> None:
    with pytest.raises(UnavailableError, match=r"needs a diagonal Gaussian.*HamiltonianGaussian"):
        run(zoo("hvae"), digits).shared(Posterior(), split)
    q = oracles(count=2)[2].model.posterior(torch.zeros(2, 6))
    q.bijections = (object(),)  # type: ignore[attr-defined]
    with pytest.raises(UnavailableError, match="Gaussian carried by a flow"):
        q.first()


def test_temperature_scales_the_draws(zoo: Zoo, digits: Dataset) -> None:
    here, over = run(zoo("vae"), digits), candidates(torch.arange(4000))
    hot, cold = (here.shared(PriorLatents(t), over)["z"] for t in (1.0, 0.25))
    torch.testing.assert_close(cold, 0.25 * hot)
    assert float(hot.std()) == pytest.approx(1, abs=0.02)


@final
@dataclass(frozen=True)
class Toss(Stage):
    """Noise on a stream of its own."""

    shift: float = 0.0

    version: ClassVar[int] = 1
    stream: ClassVar[str] = "toss"

    def __call__(self, model: LatentVariableModel, batch: Batch, seed: int) -> Mapping[str, Tensor]:
        with keyed(seed, batch.example):
            return {"e": standard_normal((1, len(batch.x), 2), torch.zeros(1))[0] + self.shift}


@final
@dataclass(frozen=True)
class Twin(Stage):
    """Another stage of the same stream."""

    version: ClassVar[int] = 1
    stream: ClassVar[str] = "toss"
    __call__ = Toss.__call__
    shift: ClassVar[float] = 0.0


def test_a_streams_stages_share_noise_and_other_parameters_are_other_values(
    zoo: Zoo, digits: Dataset, split: Split
) -> None:
    here = run(zoo("vae"), digits)
    plain, moved, twin = (here.shared(stage, split)["e"] for stage in (Toss(), Toss(1.0), Twin()))
    assert torch.equal(plain, twin)
    torch.testing.assert_close(moved, plain + 1)


def shown(raw: Tensor, decode: str = "mean", space: Space = SPACE) -> Tensor:
    """`displayed` of a categorical likelihood with logits `raw`, of one draw for each example."""
    return displayed(Categorical(raw, space.shape, space.levels), decode, space)[0]  # type: ignore[arg-type]


def certain(levels: Tensor) -> Tensor:
    """Logits of a categorical that gives `levels` (B, 1, 8, 8) for sure."""
    return 1e4 * torch.nn.functional.one_hot(levels[:, 0].long(), 17).movedim(-1, 1)[None].float()


def test_what_is_shown_is_8_bit(split: Split) -> None:
    for decode in ("mean", "sample"):
        found = shown(certain(split.x), decode)
        assert found.dtype == torch.uint8
        assert torch.equal(found, eight_bit(split.x, SPACE))


def test_a_mean_is_no_sample() -> None:
    raw = torch.zeros(1, 200, 17, 8, 8)  # any level alike
    with keyed(0, torch.arange(200)):
        found = shown(raw, "sample").double()
    assert (shown(raw) == 128).all()
    assert float(found.mean()) == pytest.approx(127.5, abs=4 * 78 / 12_800**0.5)
    assert len(found.unique()) == 17


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_a_number_is_refused(value: float) -> None:
    raw = torch.zeros(1, 3, 17, 8, 8)
    raw[0, 1, 4, 2, 2] = value
    with pytest.raises(ValueError, match="decoder mean is NaN or infinite"):
        shown(raw)
    space = Space((2,), None, "density")
    bad = Gaussian(torch.full((1, 3, 4), value), space.shape, None)
    with pytest.raises(ValueError, match="decoder mean is NaN or infinite"):
        displayed(bad, "mean", space)


@pytest.mark.parametrize("value", [-0.1, 16.1])
def test_what_lies_outside_the_levels_is_refused(value: float) -> None:
    raw = torch.full((1, 2, 2, 8, 8), value)
    likelihood = Gaussian(raw, SPACE.shape, None)
    with pytest.raises(ValueError, match=r"decoder mean lies in \[.*\], outside 0\.\.16"):
        displayed(likelihood, "mean", SPACE)
    edge = Gaussian(raw.clamp(0, 16), SPACE.shape, None)
    assert set(displayed(edge, "mean", SPACE).unique().tolist()) <= {0, 255}


def test_real_numbers_are_shown_as_they_are() -> None:
    space = Space((2,), None, "density")
    raw = torch.randn(1, 50, 4, generator=torch.Generator().manual_seed(0)) * 1000
    assert torch.equal(displayed(Gaussian(raw, space.shape, None), "mean", space), raw[..., :2])


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_eight_bits_span_the_levels_evenly(levels: int) -> None:
    found = eight_bit(torch.arange(levels, dtype=torch.uint8), Space((1,), levels, "pmf"))
    assert found.dtype == torch.uint8
    assert (int(found[0]), int(found[-1])) == (0, 255)
    exact = torch.linspace(0, 255, levels, dtype=torch.float64)
    assert (found.double() - exact).abs().max() <= 0.5
    assert torch.equal(found, found.sort().values)
    assert len(found.unique()) == levels


def test_all_the_same_is_refused_and_one_example_is_not() -> None:
    x = torch.ones(5, 1, 2, 2)
    with pytest.raises(ValueError, match="all 5 samples of the prior are the same example"):
        varied(x, "samples of the prior")
    assert varied(x[:1], "samples") is not None
    x[3, 0, 1, 1] = 2
    assert varied(x, "samples") is x
