"""A pass is found again by what it was given, in a plug-in from outside too: never by convention, never yesterday's."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, final

import pytest
import torch
from torch import Tensor, nn

from vaebench.boards.rows import Row
from vaebench.core.data import Batch, Binarised, Dataset, Space, Split, fingerprint
from vaebench.core.metric import Column, Measurement, Metric, Run, Stage
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed, standard_normal
from vaebench.evaluation import runner
from vaebench.evaluation.entry import Entry
from vaebench.evaluation.journal import Journal
from vaebench.evaluation.progress import Silent
from vaebench.evaluation.run import MetricRun, Settings
from vaebench.models.adapters.flat import Flat, Options

CPU = torch.device("cpu")
SPACE = Space((1, 2, 2), 5, "pmf")
given: Any = None  # what the plug-in's pass is given; it is not a field of the metric
GLOBAL = torch.zeros(())


@dataclass(frozen=True)
class Held:
    """Something in a dataclass."""

    value: Any

    def __call__(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        return scaled(batch, seed, by=self.value)

    def scaled(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        """The same, as a method."""
        return self(batch, seed)


class Shift(nn.Module):
    """x + weight, and a number that is not a tensor of it."""

    def __init__(self, weight: Tensor, factor: float = 1.0) -> None:
        super().__init__()
        self.weight, self.factor = nn.Parameter(weight.clone()), factor

    def forward(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        return scaled(batch, seed, by=self.weight * self.factor)


class Object:
    """Something of no kind that is known."""

    def __init__(self, by: Tensor) -> None:
        self.by = by

    def scaled(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        """The pass."""
        return scaled(batch, seed, by=self.by)


def scaled(batch: Batch, seed: int, *, by: Any) -> dict[str, Tensor]:
    """The mean of x, and of what the pass was given."""
    while isinstance(by, Held | list | tuple | dict):
        by = by.value if isinstance(by, Held) else next(iter(by.values() if isinstance(by, dict) else by))
    if isinstance(by, Shift):
        by = by.weight * by.factor
    return {"v": batch.x.double().flatten(1).mean(1) + torch.as_tensor(by).double().mean()}


def twice(batch: Batch, seed: int, *, by: Any) -> dict[str, Tensor]:
    """Another function of the same things."""
    return {"v": 2 * scaled(batch, seed, by=by)["v"]}


def reads(batch: Batch, seed: int) -> dict[str, Tensor]:
    """Reads a global tensor."""
    return scaled(batch, seed, by=GLOBAL)


def takes(by: Any, batch: Batch, seed: int) -> dict[str, Tensor]:
    """What it is given comes first."""
    return scaled(batch, seed, by=by)


@final
@dataclass(frozen=True)
class Plugin(Metric):
    """A metric from outside whose pass is made by `make` of what happens to be at hand."""

    make: ClassVar[Callable[[Any], Callable[..., dict[str, Tensor]]]]
    version: ClassVar[int] = 1
    columns: ClassVar[tuple[Column, ...]] = (Column("v", "", "none", "estimate"),)

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        found = run.map(type(self).make(given), dataset.split(self.split), batch=100)["v"]
        yield Measurement("v", float(found.mean()), None, len(found))


def data(seed: int = 0, name: str = "test") -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 5, (30, *SPACE.shape), generator=generator, dtype=torch.uint8)
    splits = {"test": Split(name, x)}
    return Dataset("small", SPACE, splits, fingerprint(splits))


def entry(model: LatentVariableModel, dataset: Dataset | None = None) -> Entry:
    """An entry that says the same of architecture and weights, whatever the model is."""
    return Entry("m", dataset or data(), lambda: model, "a" * 64, "b" * 64)


def value(make: Callable[[Any], Any], by: Any, journal: Journal | None, dataset: Dataset | None = None) -> Row:
    """The plug-in's row, by a run that says the same of model, weights and metric whatever it is given."""
    model = Flat(SPACE, Options(latent=2, hidden=(4,), likelihood="categorical"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Plugin, "make", staticmethod(make), raising=False)
        patch.setitem(globals(), "given", by)
        settings = Settings(CPU, in_flight=1, journal=journal)
        ((row,),) = runner.measure(entry(model, dataset), {"plugin": Plugin()}, settings, progress=Silent())
    return row


def _global(by: Tensor) -> Callable[..., dict[str, Tensor]]:
    globals()["GLOBAL"] = by
    return reads


TOLD: dict[str, Callable[[Any], Any]] = {
    "tensor": lambda by: partial(scaled, by=by),
    "number": lambda by: partial(scaled, by=float(by[0])),
    "array": lambda by: partial(scaled, by=by.numpy()),
    "list": lambda by: partial(scaled, by=[by]),
    "mapping": lambda by: partial(scaled, by={"a": (by,)}),
    "dataclass": lambda by: partial(scaled, by=Held(by)),
    "nested": lambda by: partial(scaled, by=Held([Held(by)])),
    "weights": lambda by: partial(scaled, by=Shift(by)),
    "attribute": lambda by: partial(scaled, by=Shift(torch.ones(2), float(by[0]))),
    "module": Shift,
    "method of a dataclass": lambda by: Held(by).scaled,
    "callable dataclass": Held,
    "partial of a partial": lambda by: partial(partial(scaled, by=None), by=by),
    "function": lambda by: partial(scaled if by[0] else twice, by=1.0),
    "global": _global,
}
"""Every way in which a pass may be given something."""
REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "closure": (lambda by: _closure(by), "define it at the top of its module"),
    "lambda": (lambda by: lambda batch, seed: scaled(batch, seed, by=by), "define it at the top of its module"),
    "position": (lambda by: partial(takes, by), "give them by keyword: partial("),
    "object": (lambda by: partial(scaled, by=Object(by)), "cannot be told by its content"),
    "method of an object": (lambda by: Object(by).scaled, "cannot be told by its content"),
}


def _closure(by: Tensor) -> Callable[..., dict[str, Tensor]]:
    def function(batch: Batch, seed: int) -> dict[str, Tensor]:
        return scaled(batch, seed, by=by)

    return function


@pytest.mark.parametrize("way", TOLD)
def test_another_thing_given_is_never_yesterdays_value(way: str, tmp_path: Path) -> None:
    journal, make = Journal(tmp_path), TOLD[way]
    first = value(make, torch.ones(2), journal)
    assert (first.status, first.reason) == ("ok", None)
    blocks = len(list(journal.blocks()))
    assert value(make, torch.ones(2), journal).value == first.value
    assert len(list(journal.blocks())) == blocks  # and the same thing is found
    other = value(make, torch.zeros(2), journal)
    assert other.value == value(make, torch.zeros(2), None).value
    assert other.value != first.value


@pytest.mark.parametrize("way", REFUSED)
@pytest.mark.parametrize("remembers", [False, True])
def test_what_cannot_be_told_fails_with_the_remedy(way: str, remembers: bool, tmp_path: Path) -> None:
    make, says = REFUSED[way]
    row = value(make, torch.ones(2), Journal(tmp_path) if remembers else None)
    assert (row.status, row.value) == ("failed", None)
    assert row.reason is not None
    assert row.reason.startswith("TypeError: ")
    assert says in row.reason
    assert "\n" not in row.reason
    assert not list(Journal(tmp_path).blocks())


def test_a_split_is_told_by_its_examples_in_their_order_and_not_by_its_name(tmp_path: Path) -> None:
    x, y = torch.arange(12).view(3, 4), torch.tensor([0, 1, 2])
    split = Split("a", x, y)
    assert split.identity == Split("b", x.clone(), y.clone()).identity
    others = [Split("a", x.flip(0), y), Split("a", x, y.flip(0)), Split("a", x), Split("a", x, y, reading=Binarised())]
    others += [Split("a", x.byte(), y), Split("a", x.view(3, 2, 2), y), split.part(torch.arange(2), "a")]
    assert len({each.identity for each in (split, *others)}) == 1 + len(others)
    # the fingerprint of a dataset is that of its content in any order
    first = data()
    turned = dataclasses.replace(first, splits={"test": Split("test", first.split("test").x.flip(0))})
    assert fingerprint(turned.splits) == first.fingerprint
    journal = Journal(tmp_path)
    kept = [per_example(part, journal) for part in (first, turned)]
    assert torch.equal(kept[0].flip(0), kept[1])


def per_example(dataset: Dataset, journal: Journal) -> Tensor:
    """What a pass gives for each example."""
    model = Flat(SPACE, Options(latent=2, hidden=(4,), likelihood="categorical"))
    run = MetricRun(entry(model, dataset), "m", Plugin(), Settings(CPU, journal=journal), Silent())
    return run.map(partial(scaled, by=0.0), dataset.split("test"))["v"]


def noisy(batch: Batch, seed: int) -> dict[str, Tensor]:
    """Noise alone."""
    with keyed(seed, batch.example):
        return {"v": standard_normal((1, len(batch.x), 2), torch.empty(()))[0]}


def test_two_passes_of_one_function_have_noise_and_blocks_of_their_own(tmp_path: Path) -> None:
    def passes() -> list[Tensor]:
        model = Flat(SPACE, Options(latent=2, hidden=(4,), likelihood="categorical"))
        run = MetricRun(entry(model), "m", Plugin(), Settings(CPU, journal=Journal(tmp_path)), Silent())
        split = data().split("test")
        return [run.map(noisy, split, stream=stream)["v"] for stream in (None, None, "another")]

    first, again = passes(), passes()
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({tuple(each.flatten().tolist()) for each in first}) == 3
    assert len(list(Journal(tmp_path).blocks())) == 3


def test_noise_is_what_it_was() -> None:
    """The seeds that every row of the boards was drawn with: metric, name of the split, number of the pass."""
    model = Flat(SPACE, Options(latent=2, hidden=(4,), likelihood="categorical"))
    run = MetricRun(entry(model), "likelihood", Plugin(), Settings(CPU), Silent())
    found = [run.map(seeded, data().split("test"))["seed"][0].item() for _ in range(2)]
    assert found == SEEDS


def seeded(batch: Batch, seed: int) -> dict[str, Tensor]:
    """The seed itself."""
    return {"seed": torch.full((len(batch.x),), seed)}


SEEDS = [6082950776522104871, 7185303329330081255]


@final
@dataclass(frozen=True)
class Posterior(Stage):
    """A stage from outside that is called as the suite's own is."""

    version: ClassVar[int] = 1
    stream: ClassVar[str] = "posterior"

    def __call__(self, model: LatentVariableModel, batch: Batch, seed: int) -> dict[str, Tensor]:
        return {"mean": torch.zeros(len(batch.x), 1)}


def test_a_stage_is_told_by_where_it_is_defined_and_by_the_model(tmp_path: Path) -> None:
    from vaebench.metrics.shared import passes

    def shared(stage: Stage, scale: float) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Flat(SPACE, Options(latent=2, hidden=(4,), likelihood="categorical"))
        for parameter in model.parameters():
            parameter.data.mul_(scale)
        run = MetricRun(entry(model), "m", Plugin(), Settings(CPU, journal=Journal(tmp_path)), Silent())
        return run.shared(stage, data().split("test"))["mean"]

    assert shared(passes.Posterior(), 1.0).shape == (30, 2)
    assert shared(Posterior(), 1.0).shape == (30, 1)
    assert not torch.equal(shared(passes.Posterior(), 1.0), shared(passes.Posterior(), 2.0))
