"""kill -9 during any metric: the next run computes no finished block again, and gives the same rows and files."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from vaebench.boards import store as board
from vaebench.boards.rows import Row
from vaebench.core import files
from vaebench.core import registry as plugins

Invoke = Callable[..., Result]
KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from vaebench.core import files
real, left = os.replace, int(sys.argv.pop(1))
def replace(source, target):
    global left
    left -= str(target).endswith(".block")
    if left == 0 or str(target).endswith(".parquet"):
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
os.replace = replace
from vaebench.cli.main import main
main()
"""
"""Dies before it keeps block number argv[1], or else before it keeps a row."""

ON: dict[str, tuple[str, str]] = {
    "disentanglement": ("beta-vae-h", "three-dots"),
    "parameter-recovery": ("hvae", "gaussian-toy-25"),
    "pocket-leak": ("vae", "two-moons"),
    "tracin": ("vae", "digits-contaminated"),
}
"""The model and dataset of a metric that means nothing for ("vae", "digits")."""
LESS: dict[str, dict[str, int | str]] = {
    "disentanglement": {"local_points": 200},
    "fid": {"samples": 4, "candidates": 8, "repeats": 1, "limit": 4},
}
"""What to make smaller than in the quick preset."""
QUICK = ("latent-gap",)  # the others where slow tests run


def _args(metric: str, boards: Path, weights: Callable[[], Path]) -> list[str]:
    model, dataset = ON.get(metric, ("vae", "digits"))
    changes = dict(LESS.get(metric, {}))
    args = ["run", "--model", model, "--dataset", dataset, "--metric", metric, "--preset", "quick"]
    if metric == "fid":
        changes["release"] = files.sha256(weights())[:8]
        args += ["--inception-weights", str(weights())]
    args += [text for name, value in changes.items() for text in ("--set", f"{metric}.{name}={json.dumps(value)}")]
    return [*args, "--in-flight", "1", "--leaderboards", str(boards)]


def _blocks() -> dict[Path, int]:
    """The finished blocks, and what tells whether a file is still the one it was."""
    return {path: path.stat().st_ino for path in (files.cache() / "journal").glob("*/*.block")}


def _rows(boards: Path) -> list[tuple[object, ...]]:
    def essence(row: Row) -> tuple[object, ...]:
        return (row.column, row.facet, row.status, row.value, row.stderr, row.n, row.curve, row.parameters)

    return [essence(row) for dataset in board.datasets(boards) for row in board.read(boards, dataset)]


def _kept(boards: Path) -> dict[str, bytes]:
    """The pictures and per-example values beside the rows."""
    return {str(path.relative_to(boards)): path.read_bytes() for path in boards.glob("*/*/*/*")}


def _die(args: list[str], block: int) -> None:
    command = [sys.executable, "-c", KILLED, str(block), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize(
    "metric",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in plugins.names("metrics")],
)
def test_kill_9_computes_no_finished_block_again(
    metric: str,
    vaebench: Invoke,
    boards: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def weights() -> Path:
        path: Path = request.getfixturevalue("weights")
        return path

    with monkeypatch.context() as patch:
        patch.setenv("VAEBENCH_CACHE", str(tmp_path / "undisturbed"))
        whole = vaebench(*_args(metric, tmp_path / "whole", weights))
        assert whole.exit_code == 0, whole.output
        every = len(_blocks())
    expected = _rows(tmp_path / "whole")
    assert {row[2] for row in expected} == {"ok"}
    assert every > 1
    args, middle = _args(metric, boards, weights), every // 2 + 1
    _die(args, middle)
    assert not board.datasets(boards)
    early = _blocks()
    assert len(early) == middle - 1  # the block that it died in is the only one lost
    _die(args, every + 1)
    late = _blocks()
    assert {path: late[path] for path in early} == early
    assert len(late) == every
    result = vaebench(*args)
    assert result.exit_code == 0, result.output
    assert _blocks() == late
    assert _rows(boards) == expected
    assert _kept(boards) == _kept(tmp_path / "whole")
