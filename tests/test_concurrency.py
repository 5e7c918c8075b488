"""Leaderboards under many writers, some of them killed: what was reported stays, files are whole, nothing piles up."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from vaebench import board, files, ranking
from vaebench.rows import Row

BASE: dict[str, Any] = {
    "model": "vae", "weights_sha256": "aa", "dataset": "digits", "data_fingerprint": "dd", "split": "test",
    "metric": "likelihood", "metric_version": 1, "parameters": "{}", "comparability": "{}", "column": "nll",
    "value": 84.5, "stderr": 0.25, "n": 360, "unit": "nats", "better": "lower", "bound": "upper", "curve": None,
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
    return (root / f"{dataset}.csv").read_text(encoding="utf-8") == ranking.to_csv(board.read(root, dataset))


WRITER = f"""
import json, sys
from pathlib import Path
from vaebench import board, files
root, worker, writes, base = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
assert "torch" not in sys.modules
print("ready", flush=True)
sys.stdin.readline()
for i in range(writes):
    model, dataset = ("shared", f"own-{{worker % 4}}", "same")[i % 3], ("digits", "mnist")[i % 5 == 4]
    seed = i if model == "same" else 10**6 * worker + i
    board.write(root, [board.Row(**base | {{"model": model, "dataset": dataset, "seed": seed, "column": column,
                                           "value": seed + 0.5, "seconds": worker}}) for column in ("nll", "elbo")])
    print(dataset, model, seed, flush=True)
    files.write_changed(root / {str(KEPT)!r}, bytes([worker]) * {SIZE})
"""


class Writer:
    """A process that writes rows, and says which once they are written."""

    def __init__(self, root: Path, number: int, writes: int) -> None:
        command = [sys.executable, "-c", WRITER, str(root), str(number), str(writes), json.dumps(BASE)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def go(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def reported(self) -> list[tuple[str, str, int]]:
        lines = [line.split() for line in self.process.communicate(timeout=60)[0].splitlines()]
        return [(dataset, model, int(seed)) for dataset, model, seed in lines]


def test_eight_processes_some_killed(tmp_path: Path) -> None:
    noise = random.Random()
    steady, victims = ([Writer(tmp_path, i, 10) for i in range(4)], [Writer(tmp_path, i, 10**5) for i in range(4, 8)])
    for writer in steady + victims:
        writer.go()
    killed = list[Writer]()
    while len(killed) < 8:
        time.sleep(noise.uniform(0, 0.15))
        victim = victims.pop(0)
        victim.process.send_signal(signal.SIGKILL)
        killed.append(victim)
        if len(killed) <= 4:
            victims.append(Writer(tmp_path, 7 + len(killed), 10**5))
            victims[-1].go()
        for dataset in ("digits", "mnist"):
            board.read(tmp_path, dataset)
        if (tmp_path / KEPT).exists():
            content = (tmp_path / KEPT).read_bytes()
            assert content == content[:1] * SIZE
    reported = [each for writer in steady + killed for each in writer.reported()]
    assert [writer.process.returncode for writer in steady + killed] == [0] * 4 + [-signal.SIGKILL] * 8
    assert len(reported) >= 40
    found = {
        (dataset, each.model, each.seed, each.column): each.value
        for dataset in ("digits", "mnist")
        for each in board.read(tmp_path, dataset)
    }
    for dataset, model, seed in reported:
        for column in ("nll", "elbo"):
            assert found[dataset, model, seed, column] == seed + 0.5
    for dataset in ("digits", "mnist"):
        board.write(tmp_path, board.read(tmp_path, dataset)[:1])  # changes no row
        assert is_right(tmp_path, dataset)
    assert len(strays(tmp_path)) <= len(killed)


VICTIM = f"""
import json, os, signal, sys
from pathlib import Path
from vaebench import board, files
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
board.write(root, [board.Row(**base)])
files.write_changed(root / {str(KEPT)!r}, b"new")
"""
STEPS = [f"{step} of {file}" for file in ("the rows", "the CSV", "a kept file")
         for step in ("bytes to disk", "rename", "folder to disk")]  # fmt: skip


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


def test_what_other_writers_are_writing_stays(tmp_path: Path) -> None:
    mine, other = tmp_path / ".a[1].csv.abcdefgh", tmp_path / ".a1.csv.abcdefgh"
    fresh, longer = tmp_path / ".a[1].csv.bcdefghi", tmp_path / ".a[1].csv.b.csv.abcdefgh"
    for path in (mine, other, fresh, longer):
        path.write_bytes(b"half")
    for path in (mine, other, longer):
        os.utime(path, (0, 0))
    files.write_atomic(tmp_path / "a[1].csv", b"whole")
    assert set(strays(tmp_path)) == {other, fresh, longer}
