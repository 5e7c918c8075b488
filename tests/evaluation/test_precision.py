"""bfloat16 reaches networks and nothing else; what it changes is measured, recorded, and refused where it shows."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from click.testing import Result
from torch import Tensor

from vaebench.boards.rows import Row
from vaebench.core.arithmetic import arithmetic, reduced
from vaebench.core.data import Batch, Dataset, Space, Split
from vaebench.core.errors import UserError
from vaebench.core.metric import Column, Measurement, Metric, Run
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed
from vaebench.evaluation import precision, runner
from vaebench.evaluation import run as metric_run
from vaebench.evaluation.entry import of_model
from vaebench.evaluation.executor import Pass, Values
from vaebench.evaluation.journal import Journal
from vaebench.evaluation.precision import effects
from vaebench.evaluation.progress import Silent
from vaebench.evaluation.run import Settings
from vaebench.functional.gaussian import log_density
from vaebench.functional.statistics import mean_stderr
from vaebench.metrics.likelihood import Likelihood
from vaebench.models.adapters import flat, hamiltonian, likelihood_regret
from vaebench.models.oracles import oracles

CPU, HALF = torch.device("cpu"), torch.bfloat16
N = 130
SMALL, BIG = Space((1, 8, 8), 5, "pmf"), Space((1, 32, 32), 256, "pmf")
MODELS: dict[str, Callable[[], LatentVariableModel]] = {
    "mlp": lambda: flat.Flat(SMALL, flat.Options(2, (64,), "categorical")),
    "conv, coupling": lambda: flat.Flat(SMALL, flat.Options(2, (8, 16), "categorical", "conv", "coupling")),
    "hamiltonian": lambda: hamiltonian.Hamiltonian(SMALL, hamiltonian.Options(2, (64,), "categorical")),
    "likelihood regret": lambda: likelihood_regret.LikelihoodRegret(BIG, likelihood_regret.Options(2, 4)),
}


def model(name: str = "mlp") -> LatentVariableModel:
    torch.manual_seed(0)
    return MODELS[name]().eval()


def dataset() -> Dataset:
    x = torch.randint(0, 5, (N, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Dataset("small", SMALL, {"test": Split("test", x)}, "any")


def evaluate(metric: Metric, journal: Journal | None = None, dtype: torch.dtype = HALF) -> dict[str, Row]:
    entry, settings = of_model(model(), dataset(), "small"), Settings(CPU, dtype, journal=journal)
    (rows,) = runner.measure(entry, {"m": metric}, settings, progress=Silent())
    return {row.column: row for row in rows}


def values(rows: Mapping[str, Row]) -> dict[str, float | None]:
    return {column: row.value for column, row in rows.items()}


@pytest.mark.parametrize("samples", [3, 300])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_networks_compute_in_bfloat16_and_densities_do_not(name: str, samples: int) -> None:
    m = model(name)
    x = torch.randint(0, m.space.levels or 2, (2, *m.space.shape)).to(torch.uint8)
    with arithmetic(HALF), keyed(0, torch.arange(2)):
        draws = m.draw(x, min(samples, 30 if name == "likelihood regret" else samples))
        raw, embedding = m.likelihood(draws.latents).raw, m.embed(x)
    exact = m.likelihood(draws.latents).raw
    assert {part.dtype for part in (*draws.latents, *draws[1:], raw, embedding)} == {torch.float32}
    for half, single in ((raw, exact), (embedding, m.embed(x))):
        assert 0 < float((half - single).norm() / single.norm()) < 0.02
    if name in ("mlp", "likelihood regret"):
        z, origin = draws.latents[0], torch.zeros(2)
        torch.testing.assert_close(draws.log_prior, log_density(z, origin, origin))
    with keyed(0, torch.arange(2)):
        near = m.draw(x, draws.log_prior.shape[0]).log_weight
    assert float((draws.log_weight - near).mean().abs()) < 0.02 * float(near.mean().abs())


def test_the_change_of_a_mean_is_measured_on_a_tenth_of_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_run, "BLOCK", 2)
    half, single = (evaluate(Likelihood(samples=20), dtype=dtype) for dtype in (HALF, torch.float32))
    for column in ("nll", "elbo", "distortion"):
        row, note = half[column], half[column].reason
        assert (row.status, row.dtype) == ("ok", "bfloat16")
        assert note is not None
        assert note.startswith("bfloat16 moves it by ")
        assert note.endswith("measured on 11% of the blocks")  # 7 of 65
        assert row.value is not None
        assert row.stderr is not None
        assert 0 < abs(row.value - (single[column].value or 0)) < 0.1 * row.stderr
    monkeypatch.setattr(metric_run, "EVERY", 1)
    for column, row in evaluate(Likelihood(samples=20)).items():
        assert row.reason is not None
        change = float(row.reason.partition("by ")[2].partition(",")[0])
        assert (row.value or 0) - (single[column].value or 0) == pytest.approx(change, rel=0.05, abs=1e-9)


def turning(batch: Batch, seed: int, *, shift: float) -> dict[str, Tensor]:
    """0 and 1 in turn, and `shift` more where networks compute in bfloat16."""
    return {"v": batch.example.double() % 2 + shift * reduced()}


@dataclass(frozen=True)
class Shifted(Metric):
    """0 and 1 in turn, and `shift` more where networks compute in bfloat16; `total` is their sum, without an error."""

    shift: float = 0.0
    version: ClassVar[int] = 1
    columns: ClassVar[tuple[Column, ...]] = (Column("mean", "", "lower", "exact"), Column("total", "", "none", "exact"))

    def measure(self, model: LatentVariableModel, dataset: Dataset, run: Run) -> Iterator[Measurement]:
        found = run.map(partial(turning, shift=self.shift), dataset.split(self.split), batch=50)["v"]
        yield Measurement("mean", *mean_stderr(found), len(found))
        yield Measurement("total", float(found.sum()), None, len(found))


# the standard error of the mean is 0.0440, so 0.0044 is the most it may move; of the total, 65 + 130 shift, 0.1% may
@pytest.mark.parametrize(
    ("shift", "status"),
    [(0.0, ("ok", "ok")), (4e-4, ("ok", "ok")), (-4e-3, ("ok", "failed")), (5e-3, ("failed", "failed"))],
)
def test_a_value_that_bfloat16_moves_visibly_is_refused(
    shift: float, status: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric_run, "BLOCK", 10)
    rows = evaluate(Shifted(shift=shift))
    assert tuple(row.status for row in rows.values()) == status
    assert [row.value is None for row in rows.values()] == [each == "failed" for each in status]
    for row, count in zip(rows.values(), (1, N), strict=True):
        assert row.reason is not None
        assert f"moves it by {shift * count:+.2g}, measured on 15% of the blocks" in row.reason
        assert ("use --dtype float32" in row.reason) == (row.status == "failed")


def test_a_column_that_bfloat16_alone_has_is_refused() -> None:
    one = Measurement("one", 1.0, None, 1)
    assert not effects({"one": one}, {}, 1.0)["one"].stands
    assert effects({"one": one}, {"one": one, "two": one}, 0.1).keys() == {"one"}


@pytest.mark.parametrize("kept", [False, True])
def test_no_block_is_computed_twice(kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_run, "BLOCK", 10)
    computed: list[tuple[int, bool]] = []
    real = Pass.__call__

    def counted(self: Pass, block: range, cut: int) -> tuple[Values, int]:
        computed.append((block.start, self.dtype_of(block) == HALF))
        return real(self, block, cut)

    monkeypatch.setattr(Pass, "__call__", counted)
    journal = Journal(tmp_path / "journal") if kept else None
    first = evaluate(Likelihood(samples=5), journal)
    assert sorted(computed) == sorted([*((start, True) for start in range(0, N, 10)), (0, False), (100, False)])
    computed.clear()
    assert values(evaluate(Likelihood(samples=5), journal)) == values(first)
    assert computed == [] or not kept


def test_where_bfloat16_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = oracles(count=2)[0]
    with pytest.raises(UserError, match="changes nothing in the networks of LinearGaussian; use --dtype float32"):
        precision.check(oracle.model, CPU)
    precision.check(model(), CPU)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old card")
    with pytest.raises(UserError, match="an old card has no bfloat16"):
        precision.check(model(), torch.device("cuda"))


def test_the_command_line_runs_in_bfloat16(
    vaebench: Callable[..., Result], quick: tuple[object, ...], boards: Path
) -> None:
    result = vaebench(*quick, "--dtype", "bfloat16", "--json")
    assert result.exit_code == 0
    assert '"bfloat16 moves it by' in result.stdout
    (line,) = csv.DictReader(io.StringIO((boards / "digits.csv").read_text(encoding="utf-8")))
    bpd, elbo = (line[name] for name in ("bpd (bits/dim, lower is better)", "elbo (nats, higher is better)"))
    assert (line["model"], bpd != "\u2013", elbo != "\u2013") == ("vae", True, True)
    again = vaebench("reproduce", "vae", "digits", "--leaderboards", boards)
    assert again.exit_code == 0, again.output
