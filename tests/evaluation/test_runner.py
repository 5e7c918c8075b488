"""One run: values that no way of cutting changes, rows that say where they come from, blocks computed once."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor
from weekly import weekly

from vaebench import __version__
from vaebench.boards.rows import KINDS, Row
from vaebench.core.data import Batch, Binarised, Dataset, Space, Split, fingerprint
from vaebench.core.metric import Column, Measurement, Metric, Run
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed, standard_normal
from vaebench.evaluation import run as metric_run
from vaebench.evaluation import runner
from vaebench.evaluation.entry import Entry
from vaebench.evaluation.journal import Journal
from vaebench.evaluation.run import Settings
from vaebench.metrics.likelihood import Likelihood
from vaebench.models.adapters.flat import Flat, Options

CPU = torch.device("cpu")
N = 130


class Log:
    """A `progress.Progress` that remembers."""

    def __init__(self) -> None:
        self.started: list[tuple[str, int]] = []
        self.done = 0
        self.failures: list[tuple[str, Exception]] = []
        self.warnings: list[str] = []

    def begin(self, metric: str, place: int, metrics: int) -> None: ...
    def tell(self, text: str) -> None: ...
    def start(self, metric: str, blocks: int) -> None:
        self.started.append((metric, blocks))

    def advance(self, blocks: int) -> None:
        self.done += blocks

    def failed(self, metric: str, error: Exception) -> None:
        self.failures.append((metric, error))

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def fetch(self, done: int, total: int | None, name: str) -> None: ...


def _dataset(binarise: bool = False, seed: int = 0) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    space = Space((1, 4, 4), 2 if binarise else 5, "pmf")
    x = torch.randint(0, 256 if binarise else 5, (N, 1, 4, 4), generator=generator, dtype=torch.uint8)
    splits = {"test": Split("test", x, reading=Binarised() if binarise else None)}
    return Dataset("small", space, splits, fingerprint(splits))


def _entry(dataset: Dataset, seed: int = 0, likelihood: Literal["bernoulli", "categorical"] = "categorical") -> Entry:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Flat(dataset.space, Options(latent=2, hidden=(8,), likelihood=likelihood))
    return Entry("small", dataset, lambda: model, f"{seed:064}", f"{seed + 1:064}")


def _run(
    dataset: Dataset | None = None,
    entry: Entry | None = None,
    metric: Metric | None = None,
    seed: int = 0,
    settings: Settings | None = None,
    journal: Journal | None = None,
    log: Log | None = None,
    name: str = "likelihood",
) -> dict[str, Row]:
    entry = entry or _entry(dataset or _dataset())
    settings = dataclasses.replace(settings or Settings(CPU), seed=seed, journal=journal)
    (rows,) = runner.measure(entry, {name: metric or Likelihood(samples=20)}, settings, progress=log or Log())
    return {row.column: row for row in rows}


def _values(rows: dict[str, Row]) -> dict[str, tuple[float | None, float | None]]:
    return {column: (row.value, row.stderr) for column, row in rows.items()}


def _near(found: dict[str, Row], wanted: dict[str, Row]) -> None:
    for column, row in wanted.items():
        assert found[column].value == pytest.approx(row.value, rel=1e-5)
        assert found[column].stderr == pytest.approx(row.stderr, rel=1e-4)


@pytest.mark.parametrize("binarise", [False, True])
@pytest.mark.parametrize("block", [1, 7, 100, 1000])
def test_values_do_not_depend_on_the_block(block: int, binarise: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = _run(_dataset(binarise))
    monkeypatch.setattr(metric_run, "BLOCK", block)
    _near(_run(_dataset(binarise)), wanted)


@pytest.mark.parametrize("binarise", [False, True])
@pytest.mark.parametrize("rows", weekly([3, 20, 64, 10**6], 20, 10**6))
def test_values_do_not_depend_on_how_much_is_decoded_at_once(rows: int, binarise: bool) -> None:
    wanted = _run(_dataset(binarise))
    _near(_run(_dataset(binarise), settings=Settings(CPU, max_draws=rows)), wanted)


@pytest.mark.parametrize("in_flight", [2, 5])
def test_values_are_the_same_bits_with_blocks_in_flight(in_flight: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_run, "BLOCK", 10)
    wanted = _run(_dataset(binarise=True))
    for _ in range(3):
        assert _values(_run(_dataset(binarise=True), settings=Settings(CPU, in_flight=in_flight))) == _values(wanted)


def test_values_do_not_depend_on_torch_s_generator() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = _run()
        torch.manual_seed(2)
        assert _values(_run()) == _values(first)


def test_another_seed_changes_values_within_their_errors() -> None:
    first, second = _run(seed=0), _run(seed=1)
    for column, row in first.items():
        other = second[column]
        assert row.value is not None
        assert other.value is not None
        assert row.value != other.value
        assert abs(row.value - other.value) < 4 * math.hypot(row.stderr or 0, other.stderr or 0)


def test_double_precision_agrees_with_single() -> None:
    _near(_run(settings=Settings(CPU, torch.float64)), _run())


def test_rows_carry_their_provenance() -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    dataset = _dataset()
    rows = _run(dataset, seed=3, settings=Settings(CPU, torch.float64))
    assert list(rows) == [column.name for column in Likelihood.columns if column.name != "nll_point"]
    for row in rows.values():
        assert (row.model, row.dataset, row.split, row.metric) == ("small", "small", "test", "likelihood")
        assert row.weights_sha256 == f"{1:064}"
        assert row.data_fingerprint == dataset.fingerprint
        assert json.loads(row.parameters) == {"repeats": 3, "samples": 20, "split": "test"}
        assert (row.metric_version, row.seed, row.n, row.device, row.dtype) == (1, 3, N, "cpu", "float64")
        assert (row.status, row.reason, row.origin, row.source, row.verified) == (
            "ok", None, "measured", None, "unverified")  # fmt: skip
        assert (row.torch, row.vaebench) == (torch.__version__, __version__)
        assert (row.commit is None) == (row.dirty is None)
        assert before <= datetime.fromisoformat(row.created) <= datetime.now(UTC)
        assert row.seconds is not None
        assert row.seconds > 0
        assert row.peak_memory is not None
        assert row.peak_memory > 10**6
    units = {column: (row.unit, row.better, row.bound) for column, row in rows.items()}
    assert units["nll"] == ("nats", "lower", "upper")
    assert units["elbo"] == ("nats", "higher", "lower")
    assert KINDS.keys() == {field.name for field in dataclasses.fields(Row)}


def test_rows_of_a_machine_without_git_have_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    row = _run()["nll"]
    assert row.commit is None
    assert row.dirty is None


@pytest.mark.parametrize(
    ("binarise", "likelihood", "says"),
    [
        (False, "categorical", {"levels": 5, "binarisation": "none"}),
        (True, "categorical", {"levels": 2, "binarisation": "dynamic", "repeats": 2}),
        (True, "bernoulli", {"levels": 2, "binarisation": "dynamic", "repeats": 2}),
    ],
)
def test_comparability_says_what_must_be_equal(
    binarise: bool, likelihood: Literal["bernoulli", "categorical"], says: dict[str, object]
) -> None:
    dataset = _dataset(binarise)
    rows = _run(dataset, _entry(dataset, likelihood=likelihood), Likelihood(samples=7, repeats=2))
    found = json.loads(rows["nll"].comparability)
    wanted = {"samples": 7, "split": "test", "measure": "pmf", "mass": "proper", **says}
    assert found == wanted
    assert rows["nll"].comparability == json.dumps(found, sort_keys=True)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The blocks computed, by their number of examples."""
    computed: list[int] = []
    put = Journal.put

    def counted(self: Journal, key: object, arrays: dict[str, object]) -> None:
        computed.append(len(next(iter(arrays.values()))))  # type: ignore[arg-type]
        put(self, key, arrays)  # type: ignore[arg-type]

    monkeypatch.setattr(Journal, "put", counted)
    return computed


def test_finished_blocks_are_never_computed_again(journal: Journal, calls: list[int]) -> None:
    first = _run(journal=journal)
    assert calls == [100, 30]
    log = Log()
    assert _values(_run(journal=journal, log=log)) == _values(first)
    assert calls == [100, 30]
    assert (log.started, log.done) == ([("likelihood", 2)], 2)
    assert _values(_run()) == _values(first)


def test_a_journal_hit_does_not_call_the_model(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _run(journal=journal)

    def never(*args: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(Flat, "drawer", never)
    assert _values(_run(journal=journal)) == _values(first)
    assert _run(seed=1, journal=journal)[""].status == "failed"


def test_only_lost_or_damaged_blocks_are_computed_again(journal: Journal, calls: list[int], tmp_path: Path) -> None:
    first = _run(journal=journal)
    blocks = sorted((tmp_path / "journal").glob("*/*.block"))
    for spoil in (Path.unlink, lambda p: p.write_bytes(p.read_bytes()[:-1]), lambda p: p.write_bytes(b"")):
        calls.clear()
        spoil(blocks[0])
        assert _values(_run(journal=journal)) == _values(first)
        assert len(calls) == 1


def _other_weights() -> dict[str, object]:
    return {"entry": dataclasses.replace(_entry(_dataset()), weights_sha256="f" * 64)}


CHANGES: dict[str, Callable[[], dict[str, object]]] = {
    "weights": _other_weights,
    "architecture": lambda: {"entry": dataclasses.replace(_entry(_dataset()), architecture="f" * 64)},
    "data": lambda: {"dataset": _dataset(seed=1)},
    "parameter": lambda: {"metric": Likelihood(samples=21)},
    "unused parameter": lambda: {"metric": Likelihood(samples=20, repeats=4)},
    "seed": lambda: {"seed": 1},
    "dtype": lambda: {"settings": Settings(CPU, torch.float64)},
    "metric": lambda: {"name": "another"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_input_never_meets_a_stale_block(change: str, journal: Journal, calls: list[int]) -> None:
    _run(journal=journal)
    _run(journal=journal, **CHANGES[change]())  # type: ignore[arg-type]
    assert len(calls) == 4


@pytest.mark.parametrize("settings", [Settings(CPU, max_draws=5), Settings(CPU, in_flight=2)])
def test_how_to_run_meets_the_same_blocks(settings: Settings, journal: Journal, calls: list[int]) -> None:
    first = _run(journal=journal)
    assert _values(_run(journal=journal, settings=settings)) == _values(first)
    assert len(calls) == 2


def test_a_journal_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    log = Log()
    rows = _run(journal=Journal(tmp_path / "file"), log=log)
    assert _values(rows) == _values(_run())
    (warning,) = (text for text in log.warnings if "guessing at random" not in text)  # the model is not trained
    assert "cannot write" in warning
    assert "goes on without resume" in warning


@dataclass(frozen=True)
class Planted(Metric):
    """Gives `found`, or raises it where it is an exception."""

    found: tuple[object, ...] = ()
    version: ClassVar[int] = 1
    columns: ClassVar[tuple[Column, ...]] = (
        Column("one", "", "lower", "exact"),
        Column("two", "", "none", "exact"),
    )

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        for found in self.found:
            if isinstance(found, Exception):
                raise found
            assert isinstance(found, Measurement)
            yield found


class Refuses(Planted):
    def unsupported(self, model: LatentVariableModel, dataset: Dataset) -> str | None:
        return f"{dataset.name} is too small"


ONE = Measurement("one", 1.0, 0.1, N)
FAILURES = {
    "nan": (ONE._replace(value=math.nan), "one is nan"),
    "infinite": (ONE._replace(value=-math.inf), "one is -inf"),
    "error nan": (ONE._replace(stderr=math.nan), "one is 1.0 +- nan"),
    "undeclared": (ONE._replace(column="three"), "column 'three' is undeclared or came twice"),
    "raises": (RuntimeError("boom\nand more"), "RuntimeError: boom and more"),
    "assertion": (AssertionError(), "AssertionError"),
    "memory": (MemoryError(), "MemoryError"),
}


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "parameters", lambda metric: "{}")
    monkeypatch.setattr(runner, "_comparability", lambda *_: "{}")


@pytest.mark.parametrize("fault", FAILURES)
@pytest.mark.usefixtures("planted")
def test_a_metric_that_fails_costs_its_own_rows_only(fault: str) -> None:
    found, says = FAILURES[fault]
    log, dataset = Log(), _dataset()
    metrics = {"bad": Planted(found=(found,)), "twice": Planted(found=(ONE, ONE)), "good": Planted(found=(ONE,))}
    bad, twice, good = runner.measure(_entry(dataset), metrics, Settings(CPU), progress=log)
    assert [(row.column, row.status, row.value, row.n) for row in bad] == [("", "failed", None, None)]
    assert all(row.reason is not None and says in row.reason for row in bad)
    assert {row.status for row in twice} == {"failed"}
    assert [(row.column, row.status, row.value, row.stderr, row.reason) for row in good] == [
        ("one", "ok", 1.0, 0.1, None)
    ]
    assert [name for name, _ in log.failures] == ["bad", "twice"]


class Nudges(Planted):
    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        with torch.no_grad():
            next(model.parameters()).add_(1.0)
        run.keep("picture.png", b"of what is not there")
        yield from super().measure(model, dataset, run)


@pytest.mark.usefixtures("planted")
def test_no_value_is_of_tensors_that_a_metric_has_changed() -> None:
    entry = _entry(_dataset())
    metrics = {"before": Planted(found=(ONE,)), "nudges": Nudges(found=(ONE,)), "after": Planted(found=(ONE,))}
    kept: list[str] = []
    measured = runner.measure(entry, metrics, Settings(CPU), progress=Log(), keep=lambda *file: kept.append(file[1]))
    before, nudges, after = measured
    assert kept == []
    assert [row.status for row in before] == ["ok"]
    for row in (*nudges, *after):
        assert row.status == "failed"
        assert row.reason is not None
        assert "or a metric before it changed the model's tensors; work on a copy" in row.reason


@pytest.mark.usefixtures("planted")
def test_a_metric_that_does_not_apply_is_skipped_with_its_reason() -> None:
    log = Log()
    rows = _run(metric=Refuses(found=(RuntimeError("never"),)), log=log)
    assert {(row.status, row.reason, row.value) for row in rows.values()} == {("skipped", "small is too small", None)}
    assert list(rows) == [""]
    assert not log.failures


def test_an_absent_split_is_skipped() -> None:
    rows = _run(metric=Likelihood(split="valid"))
    assert {(row.status, row.reason) for row in rows.values()} == {("skipped", "small has no split 'valid'")}


def seeing(batch: Batch, seed: int) -> dict[str, Tensor]:
    """At most 7 examples as they are, and noise of each."""
    assert len(batch.x) <= 7
    with keyed(seed, batch.example, 0):
        noise = standard_normal((1, len(batch.x), 3), torch.empty(())).squeeze(0)
    return {"example": batch.example, "x": batch.x, "noise": noise}


@dataclass(frozen=True)
class Maps(Metric):
    """Reads the split twice in two passes, and keeps what it saw in `seen`."""

    repeats: int = 2
    version: ClassVar[int] = 1
    columns: ClassVar[tuple[Column, ...]] = (Column("one", "", "lower", "exact"),)
    seen: ClassVar[list[dict[str, Tensor]]] = []

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        for _ in range(2):
            self.seen.append(run.map(seeing, dataset.split(self.split), repeats=self.repeats, batch=7))
        yield ONE


def test_map_reads_every_example_in_order_with_noise_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Maps, "seen", [])
    dataset = _dataset(binarise=True)
    _run(dataset, metric=Maps(), name="maps")
    first, second = Maps.seen
    assert torch.equal(first["example"], torch.arange(2 * N))
    assert first["noise"].shape == (2 * N, 3)
    assert len(first["noise"].unique()) == first["noise"].numel()
    assert not torch.isin(first["noise"], second["noise"]).any()
    grey = dataset.split("test").x.repeat(2, 1, 1, 1)
    assert not first["x"][grey == 0].any()
    assert first["x"][grey == 255].all()
    assert not torch.equal(first["x"][:N], first["x"][N:])
    assert not torch.equal(first["x"], second["x"])
