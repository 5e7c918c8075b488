"""Memory that runs out means less at once, and never another number."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from weekly import weekly

from vaebench.boards.rows import Row
from vaebench.core import device as memory
from vaebench.core.data import Dataset, Space, Split
from vaebench.core.metric import Metric
from vaebench.evaluation import run as metric_run
from vaebench.evaluation import runner
from vaebench.evaluation.entry import of_model
from vaebench.evaluation.run import Settings
from vaebench.metrics.likelihood import Likelihood
from vaebench.models.adapters.flat import Flat, Options

CPU = torch.device("cpu")
N = 24
FULL = "[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"


class Log:
    """A `progress.Progress` that remembers warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def begin(self, metric: str, place: int, metrics: int) -> None: ...
    def tell(self, text: str) -> None: ...
    def start(self, metric: str, blocks: int) -> None: ...
    def advance(self, blocks: int) -> None: ...
    def failed(self, metric: str, error: Exception) -> None: ...
    def fetch(self, done: int, total: int | None, name: str) -> None: ...
    def warn(self, text: str) -> None:
        self.warnings.append(text)


def evaluate(metric: Metric, settings: Settings, log: Log) -> dict[str, Row]:
    x = torch.randint(0, 5, (N, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    dataset = Dataset("small", Space((1, 4, 4), 5, "pmf"), {"test": Split("test", x)}, "any")
    torch.manual_seed(0)
    model = Flat(dataset.space, Options(latent=2, hidden=(8,), likelihood="categorical"))
    entry = of_model(model, dataset, "small")
    (rows,) = runner.measure(entry, {"likelihood": metric}, settings, progress=log)
    return {row.column: row for row in rows}


ERRORS: dict[str, Callable[[], Exception]] = {
    "cpu": lambda: RuntimeError(FULL),
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
    "mps": lambda: RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    "numpy": MemoryError,
}


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("most", weekly([1, 7, 30], 7))
def test_an_allocation_that_fails_changes_no_number(
    most: int, error: str, in_flight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric_run, "BLOCK", 8)
    metric, real, sizes, log = Likelihood(samples=20), Flat.drawer, list[int](), Log()
    wanted = evaluate(metric, Settings(CPU, max_draws=160), Log())

    def limited(self: Flat, x: Tensor) -> Callable[[int], object]:
        draw = real(self, x)

        def few(samples: int) -> object:
            if len(x) * samples > most:
                raise ERRORS[error]()
            sizes.append(len(x) * samples)
            return draw(samples)

        return few

    monkeypatch.setattr(Flat, "drawer", limited)
    found = evaluate(metric, Settings(CPU, max_draws=160, in_flight=in_flight), log)
    assert {row.status for row in found.values()} == {"ok"}
    for column, row in found.items():
        assert row.value == pytest.approx(wanted[column].value, rel=1e-6)
        assert row.stderr == pytest.approx(wanted[column].stderr, rel=1e-5)
    assert sum(sizes) >= 20 * N
    assert max(sizes) > most / 2 - 1
    assert "memory ran out" in log.warnings[0]


def test_what_cannot_be_halved_fails_with_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, says in ((RuntimeError(FULL), "can't allocate memory"), (RuntimeError("another"), "another")):

        def never(*_: object, raised: Exception = error) -> None:
            raise raised

        monkeypatch.setattr(Flat, "drawer", never)
        log = Log()
        rows = evaluate(Likelihood(samples=20), Settings(CPU, max_draws=16), log)
        assert {row.status for row in rows.values()} == {"failed"}
        assert says in str(rows[""].reason)
        assert log.warnings == []


@pytest.mark.parametrize(("fixed", "each"), [(0, 1), (1000, 10), (0, 7), (5, 1000)])
@pytest.mark.parametrize("budget", [1, 1000, 123_456])
def test_the_draws_that_fit_are_as_many_as_fit(fixed: int, each: int, budget: int) -> None:
    def used(draws: int) -> int:
        return fixed + each * draws

    found = memory.fitting(used, budget, 4096)
    assert 1 <= found <= 4096
    assert found == 1 or used(found) <= budget
    assert found == 4096 or used(found + 1) > budget


FAULTS = """
import resource, sys, torch
from vaebench.core import device as memory

torch.set_num_threads(1)
if sys.argv[1] == "keep":
    memory.keep_freed()

def churn():
    for _ in range(50):
        torch.zeros(2**19).exp_().add_(torch.ones(2**19))

churn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
churn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.processes
def test_freed_memory_is_used_again() -> None:
    def faults(what: str) -> int:
        """From a start where all tensors are given back: the library's own rule depends on what else lies about."""
        env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
        found = subprocess.run([sys.executable, "-c", FAULTS, what], check=True, capture_output=True, env=env)
        return int(found.stdout)

    kept, given_back = faults("keep"), faults("default")
    if platform.libc_ver()[0] == "glibc":  # no other is told
        assert kept < given_back / 10
