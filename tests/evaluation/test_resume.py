"""Killed or interrupted at any moment: nothing finished is lost, and the same command gives what it would have."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vaebench.boards import store as board
from vaebench.cli.main import main
from vaebench.core import files
from vaebench.evaluation.journal import Journal

Invoke = Callable[..., Result]
Args = tuple[object, ...]
BLOCKS = 15  # of 100 of the 1437 digits to train on
START = "import torch; torch.set_num_threads(1); from vaebench.cli.main import main; main()"


def _hear_ctrl_c() -> None:
    """A shell's background jobs ignore Ctrl-C, and so would what the tests start there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _start(args: Args) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", START, *map(str, args)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=_hear_ctrl_c)


def _blocks() -> list[Path]:
    return sorted((files.cache() / "journal").glob("*/*.block"))


def _more_than(blocks: int) -> bool:
    return len(_blocks()) > blocks


def _newer_than(path: Path, moment: int) -> bool:
    return path.exists() and path.stat().st_mtime_ns > moment


def _wait(process: subprocess.Popen[str], until: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not until():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.002)


LONG = (
    "run",
    "--model",
    "vae",
    "--dataset",
    "digits",
    "--metric",
    "likelihood",
    "--set",
    "likelihood.split=train",
    "--set",
)


@pytest.fixture
def long(boards: Path) -> Args:
    """A run of a second or more."""
    return (*LONG, "likelihood.samples=250", "--leaderboards", boards)


def _values(boards: Path) -> list[tuple[object, ...]]:
    return [(row.column, row.value, row.stderr, row.n, row.seed, row.status) for row in board.read(boards, "digits")]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    """The values of a run that nothing disturbs and that leaves no journal."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEBENCH_CACHE", str(folder / "cache"))
        args = (*LONG, "likelihood.samples=250", "--fresh", "--leaderboards", str(folder / "boards"))
        assert CliRunner().invoke(main, args).exit_code == 0
        assert not _blocks()
    return _values(folder / "boards")


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Has an element for each block that this process computes."""
    calls: list[None] = []
    put = Journal.put

    def counted(self: Journal, key: object, arrays: object) -> None:
        calls.append(None)
        put(self, key, arrays)  # type: ignore[arg-type]

    monkeypatch.setattr(Journal, "put", counted)
    return calls


@pytest.mark.processes
def test_ctrl_c_is_one_line_and_the_same_command_goes_on(
    long: Args, vaebench: Invoke, boards: Path, uninterrupted: list[tuple[object, ...]], computed: list[None]
) -> None:
    process = _start(long)
    _wait(process, lambda: len(_blocks()) >= 3)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == ""
    assert stderr.splitlines()[1:] == [
        "vaebench: interrupted: what was finished is kept; the same command goes on from there"
    ]
    assert not boards.exists()
    kept = len(_blocks())
    assert 3 <= kept < BLOCKS
    assert vaebench(*long).exit_code == 0
    assert _values(boards) == uninterrupted
    assert len(computed) == BLOCKS - kept


@pytest.mark.processes
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 37))])
def test_kill_9_at_any_moment_loses_no_finished_block(
    seed: int, long: Args, vaebench: Invoke, boards: Path, uninterrupted: list[tuple[object, ...]], computed: list[None]
) -> None:
    """Two moments of a run; 74 with the slow ones."""
    moments = random.Random(seed)
    kept = 0
    for _ in range(2):
        process = _start((*long, "--in-flight", moments.choice((1, 2))))
        _wait(process, partial(_more_than, kept))
        time.sleep(moments.uniform(0, 0.2))
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode in (-signal.SIGKILL, 0)
        assert len(_blocks()) > kept
        kept = len(_blocks())
    assert vaebench(*long).exit_code == 0
    assert len(computed) == BLOCKS - kept
    assert len(_blocks()) == BLOCKS
    assert _values(boards) == uninterrupted


@pytest.mark.processes
def test_kill_9_between_blocks_computes_one_block_again_at_most(
    long: Args, vaebench: Invoke, boards: Path, uninterrupted: list[tuple[object, ...]], computed: list[None]
) -> None:
    """A process that dies in the midst of writing a block leaves a stray file and that one block to compute.

    What it writes first is that the model was admitted.
    """
    script = (
        "import os; from vaebench.core import files; real = os.replace; left = [6]\n"
        "def replace(*args):\n"
        "    left[0] -= 1\n"
        "    real(*args) if left[0] else os.kill(os.getpid(), 9)\n"
        "os.replace = replace\n"
    )
    command = [sys.executable, "-c", script + START, *map(str, long)]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == -signal.SIGKILL
    strays = [path for path in (files.cache() / "journal").rglob(".*") if path.is_file()]
    assert (len(_blocks()), len(strays)) == (4, 1)
    assert vaebench(*long).exit_code == 0
    assert len(computed) == BLOCKS - 4
    assert _values(boards) == uninterrupted


@pytest.mark.processes
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_kill_9_while_the_board_is_written_loses_no_row(
    suffix: str, quick: Args, vaebench: Invoke, boards: Path, tmp_path: Path
) -> None:
    assert vaebench(*quick).exit_code == 0
    before = board.read(boards, "digits")
    (boards / "digits.csv").write_text("of another time\n")
    script = (
        "import os; from vaebench.core import files; real = os.replace\n"
        f"def replace(a, b): os.kill(os.getpid(), 9) if str(b).endswith({suffix!r}) else real(a, b)\n"
        "os.replace = replace\n"
    )
    command = [sys.executable, "-c", script + START, *map(str, quick), "--seed", "1"]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == -signal.SIGKILL
    after = board.read(boards, "digits")
    assert [row for row in after if row.seed == 0] == before
    assert len(after) == len(before) * (1 if suffix == ".parquet" else 2)
    assert vaebench(*quick, "--seed", 1).exit_code == 0
    assert vaebench(*quick, "--leaderboards", tmp_path / "other").exit_code == 0
    assert vaebench(*quick, "--seed", 1, "--leaderboards", tmp_path / "other").exit_code == 0
    assert _values(boards) == _values(tmp_path / "other")
    assert len((boards / "digits.csv").read_text().splitlines()) == 2  # a line for the one model


@pytest.mark.processes
def test_two_runs_at_once_keep_the_rows_of_both(quick: Args, boards: Path) -> None:
    processes = [_start((*quick, "--seed", seed)) for seed in (1, 2)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert {row.seed for row in board.read(boards, "digits")} == {1, 2}


@pytest.mark.processes
def test_killed_training_gives_the_weights_of_one_that_was_not(
    write_card: Callable[..., Path], vaebench: Invoke, tmp_path: Path
) -> None:
    card = write_card(changes={"training.epochs": "16"})
    assert vaebench("train", "--card", card, "--out", tmp_path / "whole").exit_code == 0
    out = tmp_path / "killed"
    moments = random.Random(1)
    resume, last = out / "mine.resume", 0
    for how in (signal.SIGKILL, signal.SIGINT):
        process = _start(("train", "--card", card, "--out", out))
        _wait(process, partial(_newer_than, resume, last))
        time.sleep(moments.uniform(0, 0.05))
        process.send_signal(how)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
        assert "Traceback" not in stderr
        assert stdout == ""
        assert not (out / "mine.safetensors").exists()
        last = resume.stat().st_mtime_ns
    assert vaebench("train", "--card", card, "--out", out).exit_code == 0
    assert files.sha256(out / "mine.safetensors") == files.sha256(tmp_path / "whole" / "mine.safetensors")
    assert not resume.exists()
    again = vaebench("train", "--card", card, "--out", out)
    assert again.exit_code == 0


def test_a_journal_moved_to_another_cache_still_serves(
    quick: Args, vaebench: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[None]
) -> None:
    assert vaebench(*quick).exit_code == 0
    blocks = len(computed)
    shutil.copytree(files.cache(), tmp_path / "moved")
    monkeypatch.setenv("VAEBENCH_CACHE", os.fspath(tmp_path / "moved"))
    assert vaebench(*quick, "--leaderboards", tmp_path / "other").exit_code == 0
    assert len(computed) == blocks
