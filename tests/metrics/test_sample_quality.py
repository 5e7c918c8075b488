"""What fid and fd-domain share, on models whose images are exact: closed forms, the cache, faults, cuts."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, final

import pytest
import torch
from torch import Tensor, nn
from torch.types import _size

from vaebench.boards.rows import Row
from vaebench.core import files
from vaebench.core.data import Binarised, Dataset, Space, Split, fingerprint
from vaebench.core.metric import Measurement
from vaebench.core.model import FactoredModel, LatentDistribution, Latents
from vaebench.distributions.gaussian import DiagonalGaussian
from vaebench.distributions.likelihoods import Likelihood
from vaebench.evaluation import runner
from vaebench.evaluation.entry import of_model
from vaebench.evaluation.journal import Journal
from vaebench.evaluation.progress import Silent
from vaebench.evaluation.run import MetricRun, NoResources, Settings
from vaebench.functional.frechet import gaussian_distance
from vaebench.metrics.fd_domain import FdDomain
from vaebench.metrics.fid import Fid

CPU, NONE = torch.device("cpu"), torch.Size()
SPACE = Space((1, 2, 2), 256, "pmf")
MAP = torch.tensor([20.0, -10.0, 5.0, 0.0])  # pixels = CENTRE + MAP z: one latent dimension, rank 1
CENTRE = 128.0


@final
class Shown(Likelihood):
    """Images that are `raw` itself, whether as mean or as sample (then one level brighter)."""

    family = "gaussian"

    @staticmethod
    def channels(shape: tuple[int, ...], levels: int | None) -> int:
        return shape[0]

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.zeros(self.batch_shape)

    @property
    def mean(self) -> Tensor:
        return self.raw

    def sample(self, sample_shape: _size = NONE) -> Tensor:
        return self.raw + 1


@final
class Categorical(Likelihood):
    """As `Shown`, under a name whose samples are shown."""

    family = "categorical"
    channels, log_prob, mean, sample = Shown.channels, Shown.log_prob, Shown.mean, Shown.sample


@final
class Other(LatentDistribution):
    """A posterior that is not a diagonal Gaussian, though its draws are another's."""

    def __init__(self, base: DiagonalGaussian) -> None:
        self.base = base

    def rsample(self, samples: int) -> Latents:
        return self.base.rsample(samples)

    def log_prob(self, latents: Latents) -> Tensor:
        return self.base.log_prob(latents)


Fault = Literal["", "nan", "bright", "constant"]


@final
class Line(FactoredModel):
    """z ~ N(0, 1), x = CENTRE + MAP z + shift; q(z|x) is a point at the z that x shows."""

    def __init__(
        self, shift: float = 0.0, fault: Fault = "", likelihood: type[Likelihood] = Shown, other: bool = False
    ):
        super().__init__(SPACE)
        self.shift, self.fault, self.kind, self.other = shift, fault, likelihood, other
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("calls", torch.zeros(1))

    def prior(self, batch: int, temperature: float = 1.0) -> LatentDistribution:
        return DiagonalGaussian(torch.zeros(batch, 1), torch.full((batch, 1), 2.0 * torch.tensor(temperature).log()))

    def posterior(self, x: Tensor) -> LatentDistribution:
        z = (x.flatten(1).float() - CENTRE) @ MAP[:, None] / MAP.square().sum()
        base = DiagonalGaussian(z, torch.full_like(z, -9.0))
        return Other(base) if self.other else base

    def likelihood(self, latents: Latents) -> Likelihood:
        raw = CENTRE + latents[0] * MAP * self.scale + self.shift
        if self.fault == "nan":
            raw = torch.where(latents[0] > 2, torch.nan, raw)  # of one sample in 44
        if self.fault == "bright":
            raw = torch.where(latents[0] > 2, 300.0, raw)
        if self.fault == "constant":
            raw = torch.full_like(raw, 100.0)
        return self.kind(raw.unflatten(2, SPACE.shape), SPACE.shape, 256)

    def embed(self, x: Tensor) -> Tensor:
        return x.flatten(1).float()

    def inference_parameters(self) -> "list[tuple[str, nn.Parameter]]":  # type: ignore[override]
        return [("scale", self.scale)]


def line(count: int, mean: float = 0.0, scale: float = 1.0, name: str = "line") -> Dataset:
    """Images of z ~ N(mean, scale^2), at evenly spaced quantiles."""
    quantiles = (torch.arange(count) + 0.5) / count
    z = mean + scale * torch.distributions.Normal(0, 1).icdf(quantiles)
    x = (CENTRE + z[:, None] * MAP).round().to(torch.uint8).unflatten(1, SPACE.shape)
    splits = {"train": Split("train", x), "test": Split("test", x[::2])}
    return Dataset(name, SPACE, splits, fingerprint(splits))


@final
@dataclass(frozen=True)
class Planted:
    """`metric.Resources` whose classifier sees pixels; all of them count the images that they have seen."""

    digest: str = "0" * 64
    shift: float = 0.0
    seen: ClassVar[list[int]] = []
    none: ClassVar[NoResources] = NoResources()

    def features(self) -> tuple[str, Callable[[Tensor], Tensor]]:
        return self.digest, self._extract

    def _extract(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.uint8
        self.seen.append(len(x))
        return x.flatten(1).float() + self.shift

    dataset, model, trajectory = none.dataset, none.model, none.trajectory
    inception_weights = none.inception_weights


def measure(
    metric: FdDomain,
    model: Line,
    dataset: Dataset,
    planted: Planted | None = None,
    seed: int = 0,
    settings: Settings | None = None,
    journal: Journal | None = None,
) -> dict[str, Measurement]:
    entry = of_model(model.eval(), dataset, "line")
    settings = dataclasses.replace(settings or Settings(), seed=seed, journal=journal)
    run = MetricRun(entry, "fd-domain", metric, settings, Silent(), planted or Planted())
    return {found.column: found for found in metric.measure(model, dataset, run)}


def exact(mean: float, variance: float, shift: float, other_mean: float, other: float) -> float:
    """Of the images of z ~ N(mean, variance), moved by `shift`, from those of N(other_mean, other), rounded (1/12)."""
    blur, direction = torch.eye(4) / 12, MAP.outer(MAP)
    return gaussian_distance(
        mean * MAP + shift, variance * direction + blur, other_mean * MAP, other * direction + blur
    )


def off(found: Measurement, truth: float, slack: float) -> float:
    """In standard errors, beyond what rounding leaves."""
    assert found.stderr is not None
    return max(0.0, abs(found.value - truth) - slack) / found.stderr


MANY = FdDomain(samples=500, candidates=5000, repeats=6)
SMALL = FdDomain(samples=200, candidates=1000, repeats=2)


@pytest.mark.parametrize(("mean", "scale", "shift"), [(0.0, 1.0, 6.0), (0.5, 0.8, 0.0), (-1.0, 1.3, 2.0)])
def test_random_and_low_posterior_samples_meet_their_closed_forms(mean: float, scale: float, shift: float) -> None:
    """Where q(z) is N(mean, scale^2) with a positive mean, the lowest tenth of N(0, 1) is a truncated normal."""
    found = measure(MANY, Line(shift), line(1000, mean, scale))
    truth = exact(0, 1, shift, mean, scale**2)
    assert off(found["fd_domain"], truth, 0.02 * truth + 1) < 4
    assert found["fd_domain"].n == 500
    gap = found["fd_domain_lp"].value - found["fd_domain"].value
    assert found["fd_domain_gap"].value == pytest.approx(gap, abs=1e-9)


def test_the_pocket_that_the_posterior_leaves_is_what_low_posterior_samples_show() -> None:
    """q(z) = N(2, 1): the lowest tenth of N(0, 1) under it is z < a with P = 1/10, whose moments are known."""
    a = torch.tensor(-1.2815515)
    ratio = float(torch.exp(-0.5 * a**2) / (2 * torch.pi) ** 0.5 / 0.1)
    mean, variance = -ratio, 1 - float(a) * ratio - ratio**2
    found = measure(MANY, Line(), line(1000, 2.0))
    truth = exact(mean, variance, 0, 2, 1)
    assert off(found["fd_domain_lp"], truth, 0.01 * truth) < 4
    assert found["fd_domain_gap"].value > 2 * found["fd_domain"].value
    matched = measure(MANY, Line(), line(1000))
    assert matched["fd_domain"].value < 0.01 * found["fd_domain"].value


def test_reconstructions_of_a_lossless_model_are_the_images() -> None:
    metric = FdDomain(split="train", samples=300, candidates=1000)
    found = measure(metric, Line(), line(300))["fd_domain_reconstruction"]
    assert 0 <= found.value < 0.1  # the point posterior moves a pixel by a quarter of a level
    assert found.n == 300
    assert measure(metric, Line(shift=3), line(300))["fd_domain_reconstruction"].value == pytest.approx(36, rel=0.05)
    half = measure(dataclasses.replace(metric, samples=100), Line(), line(300))["fd_domain_reconstruction"]
    assert half.n == 100
    assert half.stderr  # each set is of other images


def test_samples_are_shown_of_discrete_likelihoods_and_means_of_others() -> None:
    plain, many = (measure(SMALL, Line(likelihood=kind), line(500)) for kind in (Shown, Categorical))
    asked = measure(dataclasses.replace(SMALL, decode="sample"), Line(), line(500))
    assert many == asked  # a level brighter
    assert measure(dataclasses.replace(SMALL, decode="mean"), Line(likelihood=Categorical), line(500)) == plain
    assert plain["fd_domain"].value != many["fd_domain"].value


def test_temperature_scales_every_sample() -> None:
    cold = measure(dataclasses.replace(SMALL, samples=999, temperature=0.5), Line(), line(500))
    truth = exact(0, 0.25, 0, 0, 1)
    assert off(cold["fd_domain"], truth, 0.02 * truth) < 4


def test_without_a_gaussian_posterior_the_low_posterior_columns_are_left_out() -> None:
    found, full = (measure(SMALL, Line(other=other), line(500)) for other in (True, False))
    assert set(full) == {column.name for column in FdDomain.columns}
    assert set(found) == {"fd_domain", "fd_domain_reconstruction"}
    assert all(found[name] == full[name] for name in found)


def rows(model: Line, metric: FdDomain = SMALL) -> list[Row]:
    entry = of_model(model, line(500), "line")
    (found,) = runner.measure(entry, {"fd-domain": metric}, Settings(), progress=Silent(), resources=Planted())
    return found


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("nan", "ValueError: decoder mean is NaN or infinite"),
        ("bright", "ValueError: decoder mean lies in ["),
        ("constant", "ValueError: all 200 samples of the prior are the same example"),
    ],
)
def test_samples_that_no_likelihood_agrees_with_fail_the_metric_and_say_so(fault: Fault, reason: str) -> None:
    found = rows(Line(fault=fault))
    assert len(found) == 1
    assert all(row.status == "failed" and row.value is None and str(row.reason).startswith(reason) for row in found)
    assert all(row.status == "ok" for row in rows(Line()))


def test_the_model_is_left_as_it_was() -> None:
    model = Line().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure(SMALL, model, line(500))
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def reference(seen: list[int]) -> int:
    """How many images were looked at beside 2 sets each of 200 random, low-posterior and reconstructed ones."""
    return sum(seen) - 6 * 200


def test_the_reference_is_found_again_by_content_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAEBENCH_CACHE", str(tmp_path))
    planted = Planted()
    planted.seen.clear()
    first = measure(SMALL, Line(), line(500), planted)
    assert reference(planted.seen) == 500
    planted.seen.clear()
    assert measure(SMALL, Line(), line(500, name="another name"), planted) == first
    assert reference(planted.seen) == 0
    for changed, metric, other in (
        (line(500, 0.1), SMALL, planted),
        (line(500), dataclasses.replace(SMALL, limit=400), planted),
        (line(500), dataclasses.replace(SMALL, flipped=True), planted),
        (line(500), SMALL, Planted("1" * 64, shift=1.0)),
    ):
        other.seen.clear()
        measure(metric, Line(), changed, other)
        assert reference(other.seen) == (metric.limit or 500)
    kept = sorted((files.cache() / "moments").iterdir())
    assert len(kept) == 5
    for path in kept:  # truncated, then exchanged: neither is believed
        path.write_bytes(path.read_bytes()[:-1])
    planted.seen.clear()
    assert measure(SMALL, Line(), line(500), planted) == first
    assert reference(planted.seen) == 500
    whole = next(path for path in kept if len(path.read_bytes()) != min(len(p.read_bytes()) for p in kept))
    content = whole.read_bytes()
    for path in kept:
        path.write_bytes(content)
    planted.seen.clear()
    measure(SMALL, Line(), line(500, 0.1), planted)
    assert reference(planted.seen) == 500


def test_no_cut_changes_a_value_and_a_journal_gives_all_of_it_back(tmp_path: Path) -> None:
    cuts = [Settings(CPU, max_draws=r, in_flight=n) for r, n in ((1, 1), (1000, 1), (1000, 3))]
    one, *others = (measure(SMALL, Line(), line(500), settings=cut) for cut in cuts)
    assert others == [one, one]
    journal, planted = Journal(tmp_path / "journal"), Planted()
    assert measure(SMALL, Line(), line(500), planted, journal=journal) == one
    planted.seen.clear()
    assert measure(SMALL, Line(), line(500), planted, journal=journal) == one
    assert planted.seen == []
    other = Planted("1" * 64, shift=1.0)  # another network: no journalled feature is taken for its own
    other.seen.clear()
    measure(SMALL, Line(), line(500), other, journal=journal)
    assert reference(other.seen) == 500


def test_seeds_differ_within_their_errors() -> None:
    a, b = (measure(dataclasses.replace(SMALL, repeats=5), Line(6.0), line(500), seed=seed) for seed in (0, 1))
    for name in a:
        assert a[name].value != b[name].value
        assert off(a[name], b[name].value, 0.0) < 6


def test_mirrored_images_are_half_of_the_reference() -> None:
    """Left and right pixels differ by 30 z: mirrored halves have half the covariance between them, and equal means."""
    flipped = dataclasses.replace(SMALL, samples=999, flipped=True)
    found, plain = (measure(metric, Line(), line(500)) for metric in (flipped, dataclasses.replace(SMALL, samples=999)))
    assert found["fd_domain"].value > 10 * plain["fd_domain"].value


def test_a_dynamically_binarised_reference_is_its_grey_levels() -> None:
    grey = line(500)
    splits = {name: dataclasses.replace(split, reading=Binarised()) for name, split in grey.splits.items()}
    space = Space(SPACE.shape, 2, "pmf")
    dataset = Dataset("dynamic", space, splits, grey.fingerprint)

    @final
    class Half(FactoredModel):
        """Means CENTRE / 255, of every pixel, give or take a level."""

        def __init__(self) -> None:
            super().__init__(space)
            self.base = Line()

        def prior(self, batch: int, temperature: float = 1.0) -> LatentDistribution:
            return self.base.prior(batch, temperature)

        def posterior(self, x: Tensor) -> LatentDistribution:
            return self.base.posterior(x)

        def likelihood(self, latents: Latents) -> Likelihood:
            return Shown(self.base.likelihood(latents).mean / 255, SPACE.shape, 2)

        def embed(self, x: Tensor) -> Tensor:
            return self.base.embed(x)

        def inference_parameters(self) -> "list[tuple[str, nn.Parameter]]":  # type: ignore[override]
            return []

    found = measure(dataclasses.replace(SMALL, samples=999), Half(), dataset)["fd_domain"]  # type: ignore[arg-type]
    assert found == measure(dataclasses.replace(SMALL, samples=999), Line(), grey)["fd_domain"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 1}, "samples = 1 should be at least 2"),
        ({"samples": 50_000}, "below candidates = 50000"),
        ({"repeats": 0}, "repeats = 0"),
        ({"temperature": 0.0}, r"temperature = 0\.0"),
        ({"limit": 1}, "limit = 1 should be at least 2"),
    ],
)
def test_parameters_are_checked(change: dict[str, float], message: str) -> None:
    for kind in (FdDomain, Fid):
        with pytest.raises(ValueError, match=message):
            kind(**change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "levels", "split", "reason"),
    [
        ((1, 2, 2), 256, "train", None),
        ((3, 2, 2), 256, "train", None),
        ((2, 2, 2), 256, "train", "any does not hold images of 1 or 3 channels of integers"),
        ((4,), 256, "train", "any does not hold images of 1 or 3 channels of integers"),
        ((1, 2, 2), None, "train", "any does not hold images of 1 or 3 channels of integers"),
        ((1, 2, 2), 256, "valid", "any has no split 'valid'"),
    ],
)
def test_what_cannot_be_measured_has_a_reason(
    shape: tuple[int, ...], levels: int | None, split: str, reason: str | None
) -> None:
    x = torch.zeros(1, *shape)
    dataset = Dataset("any", Space(shape, levels, "pmf" if levels else "density"), {}, "")
    dataset = dataclasses.replace(dataset, splits={"train": Split("train", x), "test": Split("test", x)})
    for kind in (FdDomain, Fid):
        assert kind(reference=split).unsupported(Line(), dataset) == reason
