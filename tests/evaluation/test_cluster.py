"""Blocks on a Dask cluster: schedulers and workers are processes, killed, late, foreign and lost as real ones are."""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import Result
from dask.tokenize import tokenize
from distributed import Client

import vaebench as package
from vaebench import evaluation
from vaebench.boards import store as board
from vaebench.core import files
from vaebench.core.data import Binarised, Split
from vaebench.core.errors import UserError
from vaebench.core.metric import UnavailableError
from vaebench.evaluation import cluster, provenance
from vaebench.evaluation import executor as execution
from vaebench.evaluation.executor import Pass, Values
from vaebench.evaluation.journal import Journal
from vaebench.evaluation.run import dtype_of

Invoke = Callable[..., Result]
CPU = torch.device("cpu")
BLOCKS = [range(start, start + 10) for start in range(0, 60, 10)]
SPLIT = Split("test", torch.arange(40, dtype=torch.uint8)[:, None], reading=Binarised())
LIMIT = 300  # seconds that a process may take to start on a machine that is busy

FUNCTIONS = '''
    import os
    import signal
    import time

    from vaebench.distributions.noise import keyed, standard_normal
    from vaebench.core.metric import UnavailableError


    class Counted:
        """Writes down in which process it was unpickled."""

        def __init__(self, log):
            self.log = log

        def __setstate__(self, state):
            self.__dict__.update(state)
            with self.log.open("a") as file:
                file.write(f"{os.getpid()}\\n")


    def noisy(batch, seed, *, weight=1.0, counted=None):
        with keyed(seed, batch.example):
            noise = standard_normal((1, len(batch.x), 2), batch.x.float())[0]
        return {"value": weight * (batch.x + noise)}


    def met(batch, seed, *, folder, victim=None):
        """Waits until three processes have come here, of which `victim` does not go on."""
        (folder / str(os.getpid())).touch()
        end = time.monotonic() + 300
        while len(list(folder.iterdir())) < 3 and time.monotonic() < end:
            time.sleep(0.01)
        if os.getpid() == victim:
            os.kill(victim, signal.SIGKILL)
        return noisy(batch, seed)


    def deadly(batch, seed, *, mark):
        """Kills the process that reads the first example first."""
        if 0 in batch.example and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return noisy(batch, seed)


    def unavailable(batch, seed):
        raise UnavailableError("nothing here")
'''


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """A module of functions of a block, which workers can import."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "planted_blocks.py").write_text(textwrap.dedent(FUNCTIONS), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module("planted_blocks")


@contextmanager
def _process(*args: object, first: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """`python -m args`, which looks for modules in `first` before all else."""
    paths = [str(first)] * (first is not None) + [path for path in sys.path if path]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command, pipe = [sys.executable, "-P", "-m", *map(str, args)], subprocess.PIPE
    process = subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def _scheduler(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of a scheduler of its own, and the process."""
    file = folder / "scheduler.json"
    place = ("--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", file)
    with _process("distributed.cli.dask_scheduler", *place) as process:
        _wait(lambda: file.exists() and file.read_text().endswith("}"))
        yield json.loads(file.read_text())["address"], process


def _worker(address: str, first: Path | None = None) -> "contextmanager[subprocess.Popen[str]]":  # type: ignore[valid-type]
    alone = ("--host", "127.0.0.1", "--nthreads", 1, "--no-nanny", "--no-dashboard")
    return _process("distributed.cli.dask_worker", address, *alone, first=first)


def _wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not until():
        assert time.monotonic() < end
        time.sleep(0.01)


def _refused(address: str) -> str:
    """What `connect` says once a worker has joined."""
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(1, LIMIT)
    with pytest.raises(UserError) as refusal, cluster.connect(address):
        pass
    return str(refusal.value)


def _pass(function: Callable[..., Values], seed: int = 0, batch: int = 10) -> Pass:
    return Pass(function, SPLIT, seed, batch, None, 1, CPU, partial(dtype_of, dtype=torch.float32, spliced=False))


def _computed(executor: execution.Executor, work: Pass, blocks: list[range] = BLOCKS) -> dict[range, torch.Tensor]:
    found: dict[range, torch.Tensor] = {}

    def finished(block: range, values: Values, cut: int) -> None:
        assert (block in found, cut) == (False, 1)
        found[block] = values["value"]

    executor(work, blocks, finished)
    return found


def _same(found: dict[range, torch.Tensor], work: Pass) -> None:
    """`found` is, to the bit, what this process computes."""
    wanted = _computed(partial(execution.in_process, in_flight=1), work)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[block], wanted[block]) for block in BLOCKS)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "TIMEOUT", LIMIT)


@pytest.fixture(scope="module")
def address(planted: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler with two workers."""
    with _scheduler(tmp_path_factory.mktemp("scheduler")) as (found, _), _worker(found), _worker(found):
        yield found


@pytest.mark.processes
def test_values_are_those_of_one_process_to_the_bit(address: str, planted: ModuleType) -> None:
    work = _pass(partial(planted.noisy, weight=torch.tensor([1.0, 2.0])), 3, 4)
    with cluster.connect(address) as executor:
        _same(_computed(executor, work), work)
        assert _computed(executor, work, []) == {}


@pytest.mark.processes
def test_what_blocks_read_reaches_a_worker_once_by_its_content(
    address: str, planted: ModuleType, tmp_path: Path
) -> None:
    with cluster.connect(address) as executor:
        for seed in range(3):
            counted = planted.Counted(tmp_path / "log")
            _computed(executor, _pass(partial(planted.noisy, counted=counted), seed))
    found = [int(line) for line in (tmp_path / "log").read_text().split()]
    workers = [process for process in found if process != os.getpid()]  # naming content unpickles it here as well
    assert len(workers) == len(set(workers)) == 2


def test_content_has_one_name() -> None:
    def model(width: int = 3, slope: float = 0.1) -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.LeakyReLU(slope)).eval()

    others = [model(4), model(slope=0.2), model().double(), model().train(), model().requires_grad_(False)]
    moved = model()
    with torch.no_grad():
        moved[0].bias[0] += 1e-6  # type: ignore[index]
    with torch.random.fork_rng(devices=[]):
        assert tokenize(model()) == tokenize(model())
        assert len({tokenize(each) for each in (model(), moved, *others)}) == 7
    x = torch.zeros(2, 3)
    assert tokenize(x) == tokenize(torch.zeros(4, 3)[1:3])
    assert len({tokenize(each) for each in (x, x.T, x.double(), x.view(6), x - 0.0, -x)}) == 5


@pytest.mark.processes
def test_the_exception_of_a_block_ends_the_pass_and_not_the_cluster(address: str, planted: ModuleType) -> None:
    work = _pass(planted.noisy)
    with cluster.connect(address) as executor:
        with pytest.raises(UnavailableError, match="nothing here"):
            _computed(executor, work._replace(function=planted.unavailable))
        _same(_computed(executor, work), work)


@pytest.mark.processes
@pytest.mark.parametrize("killed", [False, True])
def test_a_worker_that_joins_late_takes_part_and_one_that_is_killed_costs_no_value(
    killed: bool, address: str, planted: ModuleType, tmp_path: Path
) -> None:
    found: list[dict[range, torch.Tensor]] = []
    with cluster.connect(address) as executor, _worker(address) as late:
        work = _pass(partial(planted.met, folder=tmp_path, victim=late.pid if killed else None))
        running = threading.Thread(target=lambda: found.append(_computed(executor, work)))
        running.start()
        running.join(LIMIT)
        assert {path.name for path in tmp_path.iterdir()} >= {str(late.pid)}
        assert (late.poll() == -signal.SIGKILL) == killed
    _same(found[0], work._replace(function=planted.noisy))


@pytest.mark.processes
def test_a_pass_outlives_the_only_worker_that_held_its_data(planted: ModuleType, tmp_path: Path) -> None:
    work = _pass(partial(planted.deadly, mark=tmp_path / "mark"))
    with cluster.local(1) as executor:
        found = _computed(executor, work)
    assert (tmp_path / "mark").exists()
    _same(found, work)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with another version of the package."""
    folder = tmp_path_factory.mktemp("foreign")
    source = Path(package.__file__).parent
    shutil.copytree(source, folder / "vaebench", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "vaebench" / "__init__.py").write_text('"""Another."""\n__version__ = "0.0.9"\n')
    return folder


@pytest.mark.processes
def test_a_worker_with_another_version_is_refused(foreign: Path, tmp_path: Path) -> None:
    with _scheduler(tmp_path) as (address, _), _worker(address, foreign):
        line = _refused(address)
    assert line.startswith("worker tcp://127.0.0.1:")
    assert "vaebench 0.0.9 (" in line
    assert f"instead of {package.__version__} ({provenance.code()})" in line
    assert "torch" not in line


@pytest.mark.processes
def test_a_late_worker_with_another_version_ends_before_any_block(
    address: str, planted: ModuleType, foreign: Path, tmp_path: Path
) -> None:
    with cluster.connect(address) as executor:
        with _worker(address, foreign) as late:
            _, said = late.communicate(timeout=LIMIT)
        assert late.returncode != 0
        assert "this worker has vaebench 0.0.9" in said
        work = _pass(planted.noisy)
        _same(_computed(executor, work), work)


@pytest.mark.processes
def test_a_worker_without_the_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vaebench.py").write_text("raise ImportError('no such package')\n")
    with _scheduler(tmp_path) as (address, _), _worker(address, tmp_path):
        assert re.match(r"worker tcp://127.0.0.1:\d+ has .*no such package", _refused(address))


LONG = ("run", "--model", "vae", "--dataset", "digits", "--metric", "likelihood", "--set", "likelihood.split=train",
        "--set", "likelihood.samples=60")  # fmt: skip


def _values(boards: Path) -> list[tuple[object, ...]]:
    return [(row.column, row.value, row.stderr, row.n, row.status) for row in board.read(boards, "digits")]


def _blocks() -> int:
    return len(list((files.cache() / "journal").glob("*/*.block")))


@pytest.mark.processes
def test_a_lost_scheduler_is_one_line_and_loses_no_finished_block(
    vaebench: Invoke, boards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        _scheduler(tmp_path) as (address, scheduler),
        _worker(address),
        _process("vaebench", *LONG, "--cluster", address, "--leaderboards", boards) as run,
    ):
        _wait(lambda: _blocks() >= 3)
        scheduler.kill()
        said = run.communicate(timeout=LIMIT)
    line = f"vaebench: the scheduler at {address} is lost; finished blocks are kept, and the same command goes on\n"
    assert (run.returncode, said[0]) == (2, "")
    ahead, last = said[1].splitlines(keepends=True)
    assert ahead.startswith("likelihood: 1,437 images")
    assert last == line
    assert not boards.exists()
    kept, computed = _blocks(), list[object]()
    assert 3 <= kept < 15
    put = Journal.put
    monkeypatch.setattr(Journal, "put", lambda self, key, arrays: (computed.append(key), put(self, key, arrays)))
    assert vaebench(*LONG, "--leaderboards", boards).exit_code == 0
    assert len(computed) == 15 - kept
    assert vaebench(*LONG, "--fresh", "--leaderboards", tmp_path / "whole").exit_code == 0
    assert _values(boards) == _values(tmp_path / "whole")


@pytest.mark.processes
def test_mistakes_are_told(
    refused: Callable[..., str], quick: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(2, (*quick, "--cluster", "tcp://127.0.0.1:1", "--workers", 2), "one of --workers", "--cluster")
    monkeypatch.setattr(cluster, "TIMEOUT", 0.5)
    refused(2, (*quick, "--cluster", "tcp://127.0.0.1:1"), "no scheduler at tcp://127.0.0.1:1", "dask scheduler")
    refused(2, (*quick, "--cluster", "no such://place"), "no scheduler at no such://place")
    monkeypatch.setattr(cluster, "TIMEOUT", 8)
    with _scheduler(tmp_path) as (address, _):
        refused(2, (*quick, "--cluster", address), f"{address} has no worker", f"dask worker {address},")
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "vaebench.evaluation.cluster")
    monkeypatch.delattr(evaluation, "cluster")
    refused(2, (*quick, "--workers", 2), "pip install 'vaebench[cluster]'")


@pytest.mark.slow
def test_every_metric_is_the_same_with_workers(vaebench: Invoke, tmp_path: Path) -> None:
    args = ("run", "--model", "vae", "--dataset", "digits", "--preset", "quick", "--fresh", "--leaderboards")
    assert vaebench(*args, tmp_path / "one").exit_code == 0
    assert vaebench(*args, tmp_path / "two", "--workers", 2).exit_code == 0
    assert _values(tmp_path / "two") == _values(tmp_path / "one")
