"""How much work a run is, what of it fits a budget, and preset quick: few examples, with the values of a whole run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, final

import pytest
import torch
from torch import Tensor

from vaebench.boards.rows import Row
from vaebench.core import registry
from vaebench.core.data import Batch, Binarised, Dataset, Space, Split, fingerprint, thinner
from vaebench.core.metric import Column, Measurement, Metric, Run
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed, standard_normal
from vaebench.evaluation import budget, choice, foresight, runner
from vaebench.evaluation.budget import Budget, told
from vaebench.evaluation.entry import Entry
from vaebench.evaluation.executor import Pass
from vaebench.evaluation.foresight import Foresight, OverBudgetError, tried
from vaebench.evaluation.run import MetricRun, Settings
from vaebench.metrics.likelihood import Likelihood
from vaebench.models.adapters.flat import Flat, Options

CPU, EACH, N = torch.device("cpu"), 0.02, 130


class Clock:
    """A `time` that goes on where a test says so, and by a millionth at each look: no machine changes it."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 1e-6
        return self.now

    perf_counter = monotonic

    def sleep(self, seconds: float) -> None:
        self.now += seconds


clock = Clock()


@pytest.fixture(autouse=True)
def clocked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "time", clock)
    monkeypatch.setattr(foresight, "time", clock)


class Heard:
    """A `progress.Progress` that remembers."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.warnings: list[str] = []
        self.begun: list[tuple[str, int, int]] = []

    def start(self, metric: str, blocks: int) -> None: ...
    def advance(self, blocks: int) -> None: ...
    def failed(self, metric: str, error: Exception) -> None: ...
    def fetch(self, done: int, total: int | None, name: str) -> None: ...

    def begin(self, metric: str, place: int, metrics: int) -> None:
        self.begun.append((metric, place, metrics))

    def tell(self, text: str) -> None:
        self.told.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def _dataset(binarise: bool = False) -> Dataset:
    space = Space((1, 4, 4), 2 if binarise else 5, "pmf")
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256 if binarise else 5, (N, *space.shape), generator=generator, dtype=torch.uint8)
    splits = {"test": Split("test", x, reading=Binarised() if binarise else None)}
    return Dataset("small", space, splits, fingerprint(splits))


def _entry(dataset: Dataset) -> Entry:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        family: Literal["bernoulli", "categorical"] = "bernoulli" if dataset.space.levels == 2 else "categorical"
        model = Flat(dataset.space, Options(latent=2, hidden=(8,), likelihood=family))
    return Entry("small", dataset, lambda: model, "0" * 64, "1" * 64)


@final
@dataclass(frozen=True)
class Slow(Metric):
    """The mean of one normal number an example, which takes `EACH` seconds to find."""

    version: ClassVar[int] = 1
    columns: ClassVar[tuple[Column, ...]] = (Column("number", "", "none", "estimate"),)

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        found = run.map(slow, dataset.split(self.split))
        run.keep_values({"number": found["number"]})
        yield Measurement.mean("number", found["number"])


def slow(batch: Batch, seed: int) -> Mapping[str, Tensor]:
    clock.sleep(EACH * len(batch.x))
    with keyed(seed, batch.example):
        return {"number": standard_normal((1, len(batch.x)), torch.empty(()))[0]}


def measured(
    span: float | None, metrics: Mapping[str, Metric], log: Heard | None = None, dataset: Dataset | None = None
) -> tuple[list[Row], dict[str, bytes]]:
    limit = None if span is None else Budget.of(span)
    settings = Settings(CPU, in_flight=1, foresee=True, budget=limit)
    kept: dict[str, bytes] = {}

    def keep(metric: str, name: str, content: bytes) -> None:
        kept[name] = content

    runs = runner.measure(_entry(dataset or _dataset()), metrics, settings, progress=log or Heard(), keep=keep)
    return [row for rows in runs for row in rows], kept


@pytest.mark.parametrize(
    ("text", "span"), [("90", 90), ("90s", 90), ("10m", 600), ("10 min", 600), ("1h30m", 5400), ("1.5h", 5400)]
)
def test_a_budget_is_a_span_of_time(text: str, span: float) -> None:
    assert budget.seconds(text) == span


@pytest.mark.parametrize("text", ["0", "0s", "-5", "", "10x", "m", "1e3", "inf", "nan", "10m!", "999999999999d"])
def test_what_is_no_budget_is_one_line(text: str, refused: Callable[..., str], quick: tuple[object, ...]) -> None:
    refused(2, (*quick, f"--budget={text}"), repr(text), "above zero", "10m")


def test_a_budget_needs_this_process(refused: Callable[..., str], quick: tuple[object, ...]) -> None:
    refused(2, (*quick, "--budget", "5m", "--workers", 2), "--budget", "leave out --workers")


def test_spans_are_told_by_their_largest_unit() -> None:
    spans = (0.0, 0.24, 3.2, 99, 130, 4 * 3600, 3 * 86400)
    assert [told(span) for span in spans] == ["0.001 s", "0.2 s", "3 s", "99 s", "2 min", "4 h", "3 d"]


def test_a_thinned_split_is_thinned_further() -> None:
    assert [thinner("test", 10_000, most) for most in (10_000, 9_999, 500, 1)] == [
        "test", "test[::2]", "test[::20]", "test[::10000]",
    ]  # fmt: skip
    assert thinner("test[::20]", 500, 250) == "test[::40]"


@pytest.mark.parametrize("binarise", [False, True])
@pytest.mark.parametrize("repeats", [1, 3])
def test_a_thinned_split_has_the_values_of_the_whole(binarise: bool, repeats: int) -> None:
    dataset = _dataset(binarise)
    entry = _entry(dataset)

    def values(name: str) -> dict[str, Tensor]:
        """Of each example, by the names that readings have in the whole split."""
        split, run = dataset.split(name), MetricRun(entry, "m", Likelihood(samples=5), Settings(CPU), Heard())
        found = run.map(partial(seen, model=entry.model), split, repeats=repeats, batch=7)
        return {name: value.unflatten(0, (repeats, len(split))) for name, value in found.items()}

    whole, some, fewer = values("test"), values("test[::3]"), values("test[::12]")
    for name, value in whole.items():
        torch.testing.assert_close(some[name], value[:, ::3])
        torch.testing.assert_close(fewer[name], value[:, ::12])
    assert len(whole["number"].unique()) == repeats * len(dataset.split("test"))  # repeats draw anew


def seen(batch: Batch, seed: int, *, model: LatentVariableModel) -> Mapping[str, Tensor]:
    with keyed(seed, batch.example):
        draws = model.draw(batch.x, 3)
    return {"x": batch.x.double().flatten(1), "weight": draws.log_weight.mT, "number": batch.example}


def test_thinned_splits_of_one_content_are_told_apart_by_their_numbers() -> None:
    whole = Split("test", torch.zeros(12, 3), reading=Binarised())
    parts = [Dataset("d", None, {"test": whole}, "").split(f"test[::{step}]") for step in (1, 2, 3)]  # type: ignore[arg-type]
    parts += [whole.part(torch.arange(0, 12, 2), "part")]
    assert len({part.identity for part in (whole, *parts)}) == 5
    again = whole.thinned(torch.arange(0, 12, 2), "a").thinned(torch.arange(0, 6, 3), "b")
    assert (again.number(torch.arange(4)).tolist(), again.stream) == ([0, 6, 12, 18], "test")


def test_a_line_says_how_much_work_there_is_before_the_first_block() -> None:
    log = Heard()
    measured(None, {"slow": Slow(), "likelihood": Likelihood(samples=20, repeats=1)}, log)
    assert [line.partition(", about ")[0] for line in log.told] == [
        "slow: 130 images", "likelihood: 130 images \N{MULTIPLICATION SIGN} 20 draws"
    ]  # fmt: skip
    assert all("on this machine (" in line and line.endswith(" measured)") for line in log.told)
    assert log.begun == [("slow", 1, 2), ("likelihood", 2, 2)]


def test_readings_and_what_is_done_are_said() -> None:
    log, entry, metric = Heard(), _entry(_dataset(binarise=True)), Likelihood(samples=7)
    list(runner.measure(entry, {"likelihood": metric}, Settings(CPU, foresee=True), progress=log))
    times = "\N{MULTIPLICATION SIGN}"
    assert log.told[0].startswith(f"likelihood: 130 images {times} 3 readings {times} 7 draws, about ")


def test_the_time_told_is_that_of_the_run() -> None:
    log, started = Heard(), clock.now
    measured(None, {"slow": Slow()}, log)
    took = clock.now - started
    told_seconds = float(log.told[0].partition("about ")[2].partition(" s")[0])
    assert told_seconds == pytest.approx(took, rel=0.2)  # to one digit


def test_nobody_waits_long_for_the_line() -> None:
    """A pass of minutes is told of after its first example, although all of its examples fit one batch."""
    calls = list[int]()

    def function(batch: Batch, seed: int) -> Mapping[str, Tensor]:
        calls.append(len(batch.x))
        clock.sleep(5 * len(batch.x))
        return {"x": batch.x.double().flatten(1).mean(1)}

    work = Pass(function, _dataset().split("test[::30]"), 0, 100, None, 1, CPU, lambda block: torch.float32)
    trial = tried(work, range(5), 1, count=5, left=float("inf"))
    assert (calls, trial.values) == ([1], None)
    assert trial.each == pytest.approx(5, rel=1e-3)


def test_a_budget_takes_every_nth_example_and_says_so() -> None:
    (whole,), _ = measured(None, {"slow": Slow()})
    log = Heard()
    (row,), kept = measured(1.2, {"slow": Slow()}, log)
    assert row.status == "ok"
    assert row.split.startswith("test[::")
    assert row.n is not None
    assert 0.15 * 1.2 / EACH < row.n < 1.2 / EACH
    assert '"split": "test[::' in row.parameters
    assert row.identity != whole.identity
    assert len(kept) == 1  # nothing of an attempt on more
    assert len(log.told) == 1


def test_the_examples_that_fit_have_the_values_of_a_whole_run() -> None:
    model, metric = _entry(_dataset()), Slow()
    settings = Settings(CPU, in_flight=1)

    def numbers(name: str) -> Tensor:
        return MetricRun(model, "slow", metric, settings, Heard()).map(slow, model.dataset.split(name))["number"]

    (row,), _ = measured(1.2, {"slow": metric})
    step = int(row.split.removeprefix("test[::").removesuffix("]"))
    mean = numbers("test")[::step].double().mean()
    assert row.value == pytest.approx(float(mean), rel=1e-6)


def test_the_metrics_share_a_budget() -> None:
    started = clock.now
    rows, _ = measured(3.0, {"a": Slow(), "b": Slow(), "likelihood": Likelihood(samples=2)})
    assert clock.now - started < 4.5
    assert [row.status for row in rows if row.metric in "ab"] == ["ok", "ok"]
    assert all(0 < (row.n or 0) < 130 for row in rows if row.metric in "ab")


def test_a_budget_that_is_ample_changes_nothing() -> None:
    (whole,), _ = measured(None, {"slow": Slow()})
    (row,), _ = measured(600, {"slow": Slow()})
    assert (row.split, row.value, row.n) == (whole.split, whole.value, whole.n)


def test_where_not_one_example_fits_there_is_one_line_and_what_is_finished_is_kept(
    vaebench: Callable[..., object], quick: tuple[object, ...], boards: Path
) -> None:
    log = Heard()
    rows, kept = measured(1e-3, {"slow": Slow(), "likelihood": Likelihood(samples=2)}, log)
    assert rows[0].status == "failed"
    assert "too few examples fit" in str(rows[0].reason)
    assert "give a longer one" in str(rows[0].reason)
    assert log.warnings[0].startswith("slow: too few examples fit")
    assert "\n" not in log.warnings[0]
    assert (rows[0].value, kept) == (None, {})
    assert vaebench(*quick).exit_code == 0  # type: ignore[attr-defined]
    before = (boards / "digits" / "vae.parquet").read_bytes()
    done = vaebench(*quick, "--fresh", "--budget", "0.000001s")
    assert done.exit_code == 1  # type: ignore[attr-defined]
    assert "too few examples fit" in done.stderr  # type: ignore[attr-defined]
    assert (boards / "digits" / "vae.parquet").read_bytes() == before


def test_a_block_that_was_tried_whole_is_not_computed_twice() -> None:
    calls = list[int]()

    def function(batch: Batch, seed: int) -> Mapping[str, Tensor]:
        calls.append(len(batch.x))
        clock.sleep(0.6)
        return {"x": batch.x.double().flatten(1).mean(1)}

    dataset = _dataset()
    work = Pass(function, dataset.split("test[::30]"), 0, 100, None, 1, CPU, lambda block: torch.float32)
    trial = tried(work, range(5), 1, count=10_000, left=1e9)
    assert calls == [1, 4, 5]
    assert trial.values is not None
    assert len(trial.values["x"]) == 5


def test_a_pass_that_does_not_fit_says_what_share_would() -> None:
    dataset = _dataset()
    work = Pass(slow, dataset.split("test"), 0, 1, None, 1, CPU, lambda block: torch.float32)
    foresight = Foresight("slow", Slow(), dataset, Heard(), 1, Budget.of(1.5))
    with pytest.raises(OverBudgetError) as caught:
        foresight(work, [range(100), range(100, 130)], 130)
    assert 0.15 < caught.value.share < 1.5 / (130 * EACH)


@pytest.mark.parametrize("name", registry.names("metrics"))
def test_quick_reads_few_examples(name: str) -> None:
    x = torch.zeros(3000, 1, 2, 2, dtype=torch.uint8)
    splits = {split: Split(split, x) for split in ("train", "test")}
    dataset = Dataset("d", _dataset().space, splits, "")
    for dear, most in ((False, 500), (True, 50)):
        metric = choice.metrics([name], "quick", (), dataset, dear=dear)[name]
        for field in metric.splits:
            assert len(dataset.split(getattr(metric, field))) <= most
        for field in metric.counts:
            assert getattr(metric, field) <= 2000


def test_changes_come_after_what_is_quick() -> None:
    dataset = Dataset("d", _dataset().space, {"test": Split("test", torch.zeros(3000, 1, 4, 4, dtype=torch.uint8))}, "")
    of = partial(choice.metrics, ["likelihood"], "quick")
    assert of((), dataset)["likelihood"] == Likelihood("test[::6]", samples=100)
    assert of((), dataset, dear=True)["likelihood"] == Likelihood("test[::60]", samples=50)
    changes = ("likelihood.samples=10", "likelihood.split=test")
    assert of(changes, dataset, dear=True)["likelihood"] == Likelihood("test", samples=10)
    assert choice.metrics(["likelihood"], "standard", (), dataset, dear=True)["likelihood"] == Likelihood()
