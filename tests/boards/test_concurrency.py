"""Leaderboards under many writers, some of them killed: what was reported stays, files are whole, nothing piles up."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import pytest
from filelock import FileLock

from vaebench.boards import headline, headline_csv
from vaebench.boards import store as board
from vaebench.boards.rows import Row
from vaebench.core import files

BASE: dict[str, Any] = {
    "model": "vae", "weights_sha256": "aa", "dataset": "digits", "data_fingerprint": "dd", "split": "test",
    "metric": "likelihood", "metric_version": 1, "parameters": "{}", "facet": "{}",
    "comparability": '{"levels": 2, "mass": "proper"}',
    "column": "nll", "value": 84.5, "stderr": None, "df": None, "low": None, "high": None, "n": 360, "unit": "nats",
    "better": "lower", "bound": "upper", "marks": (), "curve": None,
    "status": "ok", "reason": None, "origin": "measured", "source": None, "verified": "unverified", "seed": 0,
    "device": "cpu", "dtype": "float32", "torch": "2", "vaebench": "0.1.0", "commit": None, "dirty": None,
    "created": "2026-01-31T12:00:00+00:00", "seconds": 1.5, "peak_memory": 1,
}  # fmt: skip
KEPT = Path("digits", "shared", "likelihood", "kept")
SIZE = 2**20


def strays(root: Path) -> list[Path]:
    """What is neither a board nor a kept file."""
    return [path for path in root.rglob(".*") if path.is_file()]


def is_right(root: Path, dataset: str) -> bool:
    """Whether the CSV says what the Parquet files say; every one of these opens."""
    return (root / f"{dataset}.csv").read_text(encoding="utf-8") == headline_csv.to_csv(
        headline.of_rows(dataset, board.read(root, dataset))
    )


WRITER = f"""
import json, sys
from pathlib import Path
from vaebench.boards import store as board
from vaebench.core import files
root, log, worker, base = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[5])
assert "torch" not in sys.modules
for i in range(int(sys.argv[4])):
    model, dataset = ("shared", f"own-{{worker % 4}}", "same")[i % 3], ("digits", "mnist")[i % 5 == 4]
    seed = i if model == "same" else 10**6 * worker + i
    board.write(root, [board.Row(**base | {{"model": model, "dataset": dataset, "seed": seed, "column": column,
                                           "value": seed + 0.5, "marks": (), "seconds": worker}})
                       for column in ("nll", "elbo")])
    with open(log, "a") as file:
        file.write(f"{{dataset}} {{model}} {{seed}}\\n")
    files.write_changed(root / {str(KEPT)!r}, bytes([worker]) * {SIZE})
"""


@final
class Writer:
    """A process that writes rows, and says which once they are written."""

    def __init__(self, folder: Path, number: int, writes: int) -> None:
        self._log = folder / f"{number}.log"
        command = [sys.executable, "-c", WRITER, folder / "boards", self._log, number, writes, json.dumps(BASE)]
        self.process = subprocess.Popen(list(map(str, command)))

    def reported(self) -> list[tuple[str, str, int]]:
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [(dataset, model, int(seed)) for dataset, model, seed in map(str.split, lines)]


def look(root: Path) -> None:
    """Every file is whole, whoever is writing or has been killed."""
    for dataset in ("digits", "mnist"):
        board.read(root, dataset)
        assert not (csv := root / f"{dataset}.csv").exists() or csv.read_bytes().endswith(b"\n")
    if (root / KEPT).exists():
        content = (root / KEPT).read_bytes()
        assert (len(content), len(set(content))) == (SIZE, 1)


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[list[Writer]]:
    """Eight, of which the first four stop by themselves after ten writes."""
    found = [Writer(tmp_path, i, 10 if i < 4 else 1000) for i in range(8)]
    yield found
    for writer in found:
        writer.process.kill()
        writer.process.wait()


@pytest.mark.processes
def test_eight_processes_some_killed(writers: list[Writer], tmp_path: Path) -> None:
    root, noise, victims = tmp_path / "boards", random.Random(), writers[4:]
    for victim in victims:
        while not victim.reported():
            assert victim.process.poll() is None
            look(root)
        time.sleep(noise.uniform(0, 0.1))
        victim.process.send_signal(signal.SIGKILL)
    assert [writer.process.wait(300) for writer in writers] == [0] * 4 + [-signal.SIGKILL] * 4
    found = {
        (dataset, each.model, each.seed, each.column): each.value
        for dataset in ("digits", "mnist")
        for each in board.read(root, dataset)
    }
    reported = [each for writer in writers for each in writer.reported()]
    assert len(reported) >= 4 * 10 + 4
    for dataset, model, seed in reported:
        for column in ("nll", "elbo"):
            assert found[dataset, model, seed, column] == seed + 0.5
    for dataset in ("digits", "mnist"):
        board.write(root, board.read(root, dataset)[:1])  # changes no row
        assert is_right(root, dataset)
    assert len(strays(root)) <= len(victims)


VICTIM = f"""
import json, os, signal, sys
from pathlib import Path
from vaebench.boards import store as board
from vaebench.core import files
root, last, base = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
calls = 0
def fatal(call):
    def count(*args):
        global calls
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
        call(*args)
    return count
os.fsync, os.replace = fatal(os.fsync), fatal(os.replace)
board.write(root, [board.Row(**base | {{"marks": ()}})])
files.write_changed(root / {str(KEPT)!r}, b"new")
"""
STEPS = [f"{step} of {file}" for file in ("the rows", "the CSV", "a kept file")
         for step in ("bytes to disk", "rename", "folder to disk")]  # fmt: skip


@pytest.mark.processes
@pytest.mark.parametrize("last", range(1, len(STEPS) + 1), ids=STEPS)
def test_a_kill_before_any_step_is_mended_by_the_same_command(last: int, tmp_path: Path) -> None:
    def write(row: Row, kept: bytes) -> None:
        board.write(tmp_path, [row])
        files.write_changed(tmp_path / KEPT, kept)

    def state() -> tuple[list[Row], bool, bytes]:
        return board.read(tmp_path, "digits"), is_right(tmp_path, "digits"), (tmp_path / KEPT).read_bytes()

    old, new = Row(**BASE | {"value": 1.0}), Row(**BASE)
    write(old, b"old")
    command = [sys.executable, "-c", VICTIM, str(tmp_path), str(last), json.dumps(BASE)]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    assert state() == ([old if last < 3 else new], not 3 <= last < 6, b"old" if last < 9 else b"new")
    left = strays(tmp_path)
    assert len(left) == (0 if last % 3 == 0 else 1)
    for path in left:
        os.utime(path, (0, 0))  # killed more than an hour ago
    write(new, b"new")
    assert state() == ([new], True, b"new")
    assert strays(tmp_path) == []


def test_a_lock_that_changes_hands_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board.write(tmp_path, [Row(**BASE)])
    (path,) = (files.cache() / "locks").iterdir()
    others = FileLock(path, thread_local=False)

    def take_turns() -> None:
        for _ in range(15):
            time.sleep(0.1)
            os.utime(path)
        others.release()

    monkeypatch.setattr(board, "LOCK_SECONDS", 1.0)
    others.acquire()
    turns = threading.Thread(target=take_turns)
    turns.start()
    started = time.monotonic()
    board.write(tmp_path, [Row(**BASE | {"value": 1.0})])
    turns.join()
    assert time.monotonic() - started > board.LOCK_SECONDS
    assert board.read(tmp_path, "digits") == [Row(**BASE | {"value": 1.0})]


def test_what_other_writers_are_writing_stays(tmp_path: Path) -> None:
    mine, other = tmp_path / ".a[1].csv.abcdefgh", tmp_path / ".a1.csv.abcdefgh"
    fresh, longer = tmp_path / ".a[1].csv.bcdefghi", tmp_path / ".a[1].csv.b.csv.abcdefgh"
    for path in (mine, other, fresh, longer):
        path.write_bytes(b"half")
    for path in (mine, other, longer):
        os.utime(path, (0, 0))
    files.write_atomic(tmp_path / "a[1].csv", b"whole")
    assert set(strays(tmp_path)) == {other, fresh, longer}
