"""Output that cannot be written is one line and an exit code; rows that were written stay; every terminal can read."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import IO

import pytest
from board_rows import row
from click.testing import Result
from weekly import weekly

from vaebench.boards import store
from vaebench.core import files
from vaebench.core import registry as plugins

Invoke = Callable[..., Result]


Done = subprocess.CompletedProcess[str]


def run(*args: object, stdout: int | IO[str] | None, **environment: str) -> Done:
    command, env = [sys.executable, "-m", "vaebench", *map(str, args)], {**os.environ, **environment}
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=env, timeout=300)


def closed(*args: object) -> Done:
    line = " ".join([sys.executable, "-m", "vaebench", *map(str, args), ">&-"])
    return subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, text=True, timeout=300)


LS = [("ls", "models"), ("--help",), ("board", "show", "digits"), ("--version",),
      pytest.param(("data", "ls", "--json"), marks=pytest.mark.processes)]  # fmt: skip


@pytest.mark.processes
@pytest.mark.parametrize("args", LS)
def test_a_full_disk_is_one_line(args: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = run(*args, stdout=full)
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        "vaebench: cannot write to stdout: No space left on device; what went to files before is kept\n"
    )


@pytest.mark.processes
@pytest.mark.parametrize("args", LS[:3])
def test_a_closed_stdout_is_one_line(args: tuple[str, ...]) -> None:
    done = closed(*args)
    assert done.returncode == 2, done.stderr
    assert done.stderr == "vaebench: cannot write to stdout: Bad file descriptor; what went to files before is kept\n"


@pytest.mark.processes
def test_rows_stay_where_they_cannot_be_shown(quick: tuple[object, ...], boards: Path) -> None:
    with open("/dev/full", "w") as full:
        done = run(*quick, stdout=full)
    assert done.returncode == 2, done.stderr
    assert done.stderr.endswith("cannot write to stdout: No space left on device; what went to files before is kept\n")
    assert {each.status for each in store.read(boards, "digits")} == {"ok"}


@pytest.mark.processes
def test_talk_that_cannot_be_said_stops_nothing(quick: tuple[object, ...], boards: Path) -> None:
    command = [sys.executable, "-m", "vaebench", *map(str, quick)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, text=True, timeout=300)
    assert done.returncode == 0
    assert "nll" in done.stdout
    assert {each.status for each in store.read(boards, "digits")} == {"ok"}


@pytest.mark.parametrize("encoding", weekly(["ascii", "latin-1", "cp1252", "utf-8"], "ascii", "cp1252"))
def test_a_table_can_be_read_on_every_terminal(encoding: str, vaebench: Invoke) -> None:
    command = [sys.executable, "-m", "vaebench", "board", "show", "digits"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding}, timeout=300)
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode(encoding)
    assert "vae" in shown
    assert ("+-" if encoding == "ascii" else "\N{PLUS-MINUS SIGN}") in shown
    assert "\\x" not in shown
    assert "\\u" not in shown
    lines = [line for line in shown.splitlines() if line[:1] in "|\N{BOX DRAWINGS LIGHT VERTICAL}" and line]
    assert lines
    widths = {len(line) for line in lines}
    assert len(widths) < len(lines), "lines of one table are of one width"


def test_an_error_can_be_read_on_every_terminal() -> None:
    done = run("ls", "\N{GREEK SMALL LETTER PI}", stdout=subprocess.PIPE, PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert done.stderr.startswith("vaebench: ")
    assert "\\u03c0" in done.stderr


PLUGIN = """
import sys
from vaebench.metrics.likelihood import Likelihood

class Leaving(Likelihood):
    def measure(self, model, dataset, run):
        sys.exit({code})

{last}
"""


def plugin(folder: Path, monkeypatch: pytest.MonkeyPatch, code: object, kind: str, last: str) -> None:
    monkeypatch.delitem(sys.modules, "leaving", raising=False)
    (folder / "leaving.py").write_text(PLUGIN.format(code=code, last=last))
    monkeypatch.syspath_prepend(folder)
    point = EntryPoint("leaving", "leaving:plugin", f"vaebench.{kind}")
    monkeypatch.setattr(plugins, "_entry_points", lambda asked: {"leaving": point} if asked == kind else {})


@pytest.mark.parametrize("code", [0, 3, "'bye'", None])
def test_a_metric_that_ends_the_program_fails_alone(
    code: object, vaebench: Invoke, quick: tuple[object, ...], boards: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    plugin(tmp_path, monkeypatch, code, "metrics", "plugin = {'quick': Leaving(), 'standard': Leaving()}")
    result = vaebench(*quick, "--metric", "leaving")
    assert result.exit_code == 1, result.output
    found = {each.metric: each for each in store.read(boards, "digits")}
    assert found["likelihood"].status == "ok"
    assert found["leaving"].status == "failed"
    assert "called sys.exit" in str(found["leaving"].reason)


@pytest.mark.parametrize("kind", ["metrics", "datasets", "adapters"])
def test_a_plug_in_that_ends_the_program_when_imported(
    kind: str, refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin(tmp_path, monkeypatch, 0, kind, "sys.exit(0)")
    args = {
        "metrics": ("run", "--model", "vae", "--dataset", "digits", "--metric", "leaving"),
        "datasets": ("data", "get", "leaving"),
        "adapters": ("check", "--card", tmp_path / "mine.toml"),
    }
    if kind == "adapters":
        request = "dataset = 'digits'\nsummary = 'A.'\nfamily = 'leaving'\n[model]\n"
        (tmp_path / "mine.toml").write_text(request)
    refused(2, args[kind], "plug-in 'leaving'", "called sys.exit(0)")


PLACES = {
    "cannot read /home/me/data/x.npz; try": "cannot read x.npz; try",
    "/a/b": "b",
    "'/a/b c/d'": "'b c/d'",
    "(/data/MNIST/raw/train-images)": "(train-images)",
    "~/x/y.pt is absent": "y.pt is absent",
    r"C:\Users\me\w.pt is absent": "w.pt is absent",
    "https://example.org/a/b": "https://example.org/a/b",
    "hf://owner/repo/file": "hf://owner/repo/file",
    "1/2 of bits/dim, q(z|x)/p(z)": "1/2 of bits/dim, q(z|x)/p(z)",
    "nats": "nats",
}


@pytest.mark.parametrize("text", PLACES)
def test_no_folder_of_this_machine_enters_a_row(text: str) -> None:
    assert files.unplaced(text) == PLACES[text]
    failed = row(status="failed", value=None, stderr=None, n=None, reason=text)
    assert failed.reason == PLACES[text]


def test_known_folders_are_known_whatever_they_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    odd = tmp_path / "my; own (data), 'here'"
    odd.mkdir()
    monkeypatch.setenv("HOME", str(odd))
    assert files.unplaced(f"{odd}/sub/x.npz is damaged") == "sub/x.npz is damaged"


def test_a_failure_tells_no_path(
    vaebench: Invoke, quick: tuple[object, ...], boards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = (
        f"plugin = {{'quick': Leaving(), 'standard': Leaving()}}\nLeaving.measure = lambda *_: open('{tmp_path}/no/x')"
    )
    plugin(tmp_path, monkeypatch, 0, "metrics", last)
    assert vaebench(*quick, "--metric", "leaving").exit_code == 1
    content = b"".join(path.read_bytes() for path in boards.rglob("*") if path.is_file())
    assert b"No such file" in content
    assert str(tmp_path).encode() not in content
