"""Laws that every metric keeps, whichever it is: the list is the plug-ins', and each runs where it applies.

They are tried on `TRIED` by default, and on all metrics with `-m slow` besides.
"""

import dataclasses
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from perceptive import efficient
from torch import Tensor, nn
from weekly import weekly

from vaebench.boards.classes import title
from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.data import Dataset, GroundTruth, Source, Space, Split, Subsampled, fingerprint
from vaebench.core.metric import Checkpoint, Metric, Stage, Trajectory, UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.distributions import noise
from vaebench.evaluation import runner
from vaebench.evaluation.entry import of_model
from vaebench.evaluation.journal import Journal
from vaebench.evaluation.progress import Silent
from vaebench.evaluation.resources import LocalResources
from vaebench.evaluation.run import MetricRun, Settings
from vaebench.functional.factors import uniform_factors
from vaebench.metrics.shared import imagenet, inception
from vaebench.metrics.shared.passes import PriorSample
from vaebench.models import card as cards
from vaebench.models import loading
from vaebench.models.adapters import points
from vaebench.models.adapters.flat import Flat, Options
from vaebench.models.adapters.points import Points

CPU = torch.device("cpu")
WHOLE = Settings(CPU, in_flight=1)
SMALLER: dict[str, dict[str, Any]] = {  # than the quick preset, so that a run takes about a second
    "certified": {"images": 6, "steps": 4, "chains": 2, "samples": 10},
    "cloud-reconstruction": {"assigned": 8},
    "cloud-samples": {"clouds": 20},
    "code-length": {"split": "test", "samples": 20},
    "disentanglement": {"points": 300, "test_points": 200, "mixture": 300, "draws": 200, "dci_points": 60, "trees": 2,
                        "votes": 50, "test_votes": 30, "vote_size": 8, "centres": 2, "local_points": 100},
    "fd-domain": {"samples": 40, "candidates": 200, "repeats": 2},
    "fd-imagenet": {"samples": 3, "candidates": 12, "repeats": 2, "limit": 4, "side": 32},
    "fid": {"samples": 3, "candidates": 12, "repeats": 2, "limit": 4},
    "gallery": {"samples": 16, "candidates": 200, "images": 8},
    "latent-gap": {"draws": 300},
    "likelihood": {"samples": 20},
    "regret": {"images": 6, "samples": 10, "steps": 2, "resamples": 20},
    "tracin": {"samples": 2, "queries": 12, "top": 3},
}  # fmt: skip
DECODING = {
    "certified", "cloud-reconstruction", "cloud-samples", "code-length", "fd-domain", "fd-imagenet", "fid", "gallery",
    "likelihood", "pocket-leak", "reconstruction", "regret", "tracin",
}  # fmt: skip
METRICS = plugins.names("metrics")
TRIED = ("fd-domain", "likelihood", "probe")  # of draws of the prior, of posterior draws, of embeddings and labels
LOOKING = {
    "cloud-samples",
    "fd-domain",
    "fd-imagenet",
    "fid",
    "gallery",
}  # at samples of the prior; laws find out for themselves which metrics do


class Outcome(NamedTuple):
    """What one run of a metric gave, and what it asked for."""

    status: str
    reason: str | None
    values: dict[str, tuple[Any, ...]]
    """By column: value, standard error, n, curve."""
    pictures: dict[str, bytes]
    stages: set[Stage]
    seeds: set[int]
    """Of all noise that was drawn."""


@dataclass(frozen=True, eq=False)
class Case:
    """A metric, and what it is run on."""

    name: str
    metric: Metric
    dataset: Dataset
    build: Callable[[], LatentVariableModel]
    weights: Path

    def run(
        self,
        model: LatentVariableModel,
        seed: int = 0,
        settings: Settings = WHOLE,
        journal: Journal | None = None,
    ) -> Outcome:
        settings = dataclasses.replace(settings, seed=seed, journal=journal, inception=str(self.weights))
        entry, kept, seeds, stages = (
            of_model(model, self.dataset, "dpvae"),
            dict[str, bytes](),
            set[int](),
            set[Stage](),
        )

        def keep(_: str, name: str, content: bytes) -> None:
            kept[name] = content

        with pytest.MonkeyPatch.context() as patch:
            _watch(patch, seeds, stages)
            patch.setattr(inception, "load", partial(inception.load, layer="64"))
            patch.setattr(imagenet, "load", lambda side, device: ("of no meaning", efficient(side).to(device)))
            (rows,) = runner.measure(
                entry, {self.name: self.metric}, settings, progress=Silent(), keep=keep,
                resources=Here(self, LocalResources(entry, settings)),
            )  # fmt: skip
        values = {title(row): (row.value, row.stderr, row.low, row.n, row.curve) for row in rows}
        status, reasons = "/".join(sorted({row.status for row in rows})), {row.reason for row in rows}
        reason = reasons.pop() if len(reasons) == 1 else "of each column"
        pictures = {name: content for name, content in kept.items() if name.endswith(".png")}
        return Outcome(status, reason, values, pictures, stages, seeds)


def _watch(patch: pytest.MonkeyPatch, seeds: set[int], stages: set[Stage]) -> None:
    """Note the seed of all noise that is drawn or that a metric asks for, and the stages that it shares."""
    keys, own = noise._Keyed.keys, MetricRun.seed.fget  # type: ignore[attr-defined]

    def noted(self: Any, shape: tuple[int, ...], device: torch.device) -> Tensor:
        seeds.add(self.seed)
        return keys(self, shape, device)

    def asked(self: MetricRun) -> int:
        seeds.add(own(self))
        return int(own(self))

    shared = MetricRun.shared

    def noted_stage(self: MetricRun, stage: Stage, split: Split, **how: Any) -> dict[str, Tensor]:
        stages.add(stage)
        return shared(self, stage, split, **how)

    patch.setattr(MetricRun, "shared", noted_stage)
    patch.setattr(noise._Keyed, "keys", noted)
    patch.setattr(MetricRun, "seed", property(asked))


@dataclass(frozen=True)
class Here:
    """Resources: the zoo's classifier, its vae as any other model, random Inception, two checkpoints of a training."""

    case: Case
    local: LocalResources

    def dataset(self, name: str) -> Dataset:
        raise UnavailableError(f"{name} is not here")

    def model(self, name: str) -> LatentVariableModel:
        return _zoo("vae", self.case.dataset).to(self.local.settings.device)

    def trajectory(self) -> Trajectory:
        def load(scale: float, model: LatentVariableModel) -> None:
            model.load_state_dict({name: scale * tensor for name, tensor in self.case.build().state_dict().items()})

        points = tuple(Checkpoint(i, 1, 1e-3, partial(load, scale)) for i, scale in enumerate((0.5, 0.9)))
        data = self.case.dataset
        return Trajectory("c" * 64, data.fingerprint, len(data.split("train")), 10, points)

    def features(self) -> tuple[str, Callable[[Tensor], Tensor]]:
        return self.local.features()

    def inception_weights(self) -> Path:
        return self.local.inception_weights()


# Where a metric is run: on the first of these that it supports.


def _zoo(name: str, dataset: Dataset) -> LatentVariableModel:
    card = cards.find(name, dataset.name)
    with torch.random.fork_rng():
        model = loading.build_model(card, dataset.space)
    loading.load_weights(model, card.weights_path())
    return model.eval()


@cache
def _few(name: str) -> Dataset:
    """The first examples of a dataset that is bundled."""
    source = plugins.load("datasets", name)
    assert isinstance(source, Source)
    whole = source.load(Path())
    sizes = {"train": 150, "test": 60}
    splits = {part: whole.split(part).part(torch.arange(size), part) for part, size in sizes.items()}
    return dataclasses.replace(whole, splits=splits, fingerprint=fingerprint(splits))


def _centred(factors: Tensor) -> Tensor:
    return factors / torch.tensor((10, 20, 12)) - 0.5


@cache
def _rendered() -> Dataset:
    """Vectors of three factors."""
    truth = GroundTruth(("a", "b", "c"), (10, 20, 12), _centred)
    x = truth.render(uniform_factors(0, truth.sizes, torch.arange(80)))
    splits = {"train": Split("train", x[:40]), "test": Split("test", x[40:])}
    return Dataset("rendered", Space((3,), None, "density"), splits, fingerprint(splits), truth)


def _random() -> LatentVariableModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Flat(_rendered().space, Options(3, (8,), "gaussian", prior="coupling")).eval()


@cache
def _clouds() -> Dataset:
    """Clouds of 16 of 24 points."""
    x = torch.rand(40, 24, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    splits = {name: Split(name, part, None, Subsampled(16)) for name, part in (("train", x[:20]), ("test", x[20:]))}
    return Dataset("clouds", Space((16, 3), None, "density"), splits, fingerprint(splits))


def _mixture() -> LatentVariableModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Points(_clouds().space, points.Options(3, (8,), (8,), components=4)).eval()


def _summarised() -> LatentVariableModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Flat(_few("gaussian-toy-25").space, Options(25, (8,), "gaussian-summary")).eval()


def _places() -> Iterator[tuple[Dataset, Callable[[], LatentVariableModel]]]:
    for name in ("digits", "two-moons"):
        yield _few(name), partial(_zoo, "dpvae", _few(name))
    yield _rendered(), _random
    yield _clouds(), _mixture
    yield _few("gaussian-toy-25"), _summarised
    yield _few("digits"), partial(_zoo, "vae", _few("digits"))


@cache
def placed(name: str, weights: Path) -> Case:
    """The metric, smaller than its quick preset, on the first of `_places` that it supports."""
    presets: Any = plugins.load("metrics", name)
    changes = SMALLER.get(name, {}) | ({"release": files.sha256(weights)[:8]} if name == "fid" else {})
    metric = dataclasses.replace(presets["quick"], **changes)
    for dataset, build in _places():
        if metric.unsupported(build(), dataset) is None:
            return Case(name, metric, dataset, build, weights)
    raise AssertionError(f"{name} applies to none of the datasets here; add one")


@pytest.fixture(scope="module", params=weekly(METRICS, *TRIED))
def case(request: pytest.FixtureRequest, weights: Path) -> Case:
    """Each metric, those that are not `TRIED` where slow tests run."""
    return placed(request.param, weights)


@cache
def first(case: Case) -> Outcome:
    """The run that others are compared with."""
    return case.run(case.build())


def state(model: nn.Module) -> tuple[list[Any], dict[str, Tensor]]:
    """Everything of a model that a metric could leave changed."""
    flags = [(name, p.requires_grad, p.grad is None) for name, p in model.named_parameters()]
    modes = [(name, module.training) for name, module in model.named_modules()]
    return [flags, modes], {
        name: tensor.clone() for name, tensor in (*model.named_buffers(), *model.named_parameters())
    }


def test_declared_columns_come_out_and_the_model_is_left_as_it_was(case: Case) -> None:
    model = case.build()
    flags, tensors = state(model)
    found = case.run(model)
    assert (found.status, found.reason) == ("ok", None)
    assert found.values
    names = {name.partition(" (")[0] for name in found.values}
    assert names <= {column.name for column in case.metric.columns}
    after, now = state(model)
    assert after == flags
    assert now.keys() == tensors.keys()
    assert all(now[name].equal(tensor) for name, tensor in tensors.items())
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


def test_equal_seeds_give_equal_values_whatever_other_generators_hold(case: Case) -> None:
    found = first(case)
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    assert case.run(case.build()) == found


def test_another_seed_gives_other_values_where_noise_is_drawn(case: Case) -> None:
    found, other = first(case), case.run(case.build(), seed=1)
    differs = (found.values, found.pictures) != (other.values, other.pictures)
    assert differs == (found.seeds != other.seeds)
    exact = {column.name for column in case.metric.columns if column.bound == "exact"}
    assert [name for name in exact & found.values.keys() if found.values[name] != other.values[name]] == []


def close(a: Any, b: Any) -> bool:
    """Equal to rounding."""
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(close, a, b))
    return bool(a == (pytest.approx(b, rel=1e-4, abs=1e-6) if isinstance(b, float) else b))


def test_no_cut_of_the_run_changes_a_value_and_the_journal_gives_it_back(case: Case, tmp_path: Path) -> None:
    journal, settings = Journal(tmp_path / "journal"), Settings(CPU, max_draws=7, in_flight=3)
    cut = case.run(case.build(), settings=settings, journal=journal)
    assert cut.values.keys() == first(case).values.keys()
    assert {name for name, value in cut.values.items() if not close(value, first(case).values[name])} == set()
    assert cut.pictures.keys() == first(case).pictures.keys()
    again = case.run(case.build(), journal=journal)
    assert again.values == cut.values
    assert again.pictures == cut.pictures


def test_what_the_journal_holds_of_other_weights_is_never_found(case: Case, tmp_path: Path) -> None:
    """Though the run says that adapter and weights are the same: what counts is what a pass is given."""
    journal, other = Journal(tmp_path / "journal"), case.build()
    generator = torch.Generator().manual_seed(0)
    for parameter in other.parameters():
        parameter.data.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    case.run(case.build(), journal=journal)
    found = case.run(other, journal=journal)
    assert found.values == case.run(other).values
    alike = case.name == "size"  # which asks for no value of a weight
    assert alike or found.values != first(case).values or found.pictures != first(case).pictures


def test_what_bfloat16_leaves_in_the_journal_is_its_own(case: Case, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    case.run(case.build(), settings=Settings(CPU, torch.bfloat16, in_flight=1), journal=journal)
    assert case.run(case.build(), journal=journal).values == first(case).values


def test_another_device_gives_the_same_values(case: Case, second: torch.device) -> None:
    found = case.run(case.build(), settings=Settings(second))
    assert (found.status, found.reason) == ("ok", None)
    assert {name for name, value in found.values.items() if not close(value, first(case).values[name])} == set()
    assert found.pictures.keys() == first(case).pictures.keys()


def faulty(case: Case, fault: Callable[[Tensor, Tensor], Tensor]) -> LatentVariableModel:
    """The model, with what its decoder makes of z replaced by `fault(z, made)`."""
    model = case.build()
    model.decoder.register_forward_hook(lambda module, arguments, made: fault(arguments[0], made))  # type: ignore
    return model


@pytest.mark.parametrize("some", [False, True], ids=["all", "some"])
def test_a_decoder_that_gives_nan_fails_the_metric_or_is_never_asked(case: Case, some: bool) -> None:
    def fault(z: Tensor, made: Tensor) -> Tensor:
        sick = z[..., 0] > (1.0 if some else -torch.inf)
        return torch.where(sick.view(*sick.shape, *(1 for _ in made.shape[sick.ndim :])), torch.nan, made)

    found = case.run(faulty(case, fault))
    if found.status == "ok":
        assert found == first(case)
        assert some or case.name not in DECODING
    else:
        assert found.status == "failed"
        assert found.reason
    names = {name.partition(" (")[0] for name in found.values}
    assert names == {""} or names <= {column.name for column in case.metric.columns}


def test_a_decoder_that_always_gives_one_image_fails_what_looks_at_samples(case: Case) -> None:
    def fault(z: Tensor, made: Tensor) -> Tensor:
        certain = torch.zeros_like(made)
        certain[..., 3, :, :] = 1e4  # of the levels of a pixel
        return certain

    looks = len(case.dataset.space.shape) == 3 and any(isinstance(stage, PriorSample) for stage in first(case).stages)
    assert looks or case.name not in LOOKING
    if looks:
        found = case.run(faulty(case, fault))
        assert found.status == "failed"
        assert str(found.reason).endswith("samples of the prior are the same example")
