"""The bar, what is said beside it, and the lines that stand for it in a log."""

import io
import re
from functools import partial

import pytest
from rich.console import Console
from rich.progress import Progress

from vaebench.cli import bar as progress
from vaebench.cli import tables as terminal


def test_nothing_short_is_told_of_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Bar() as bar:
        bar.start("likelihood", 4)
        bar.advance(4)
        bar.start("likelihood", 4)
        bar.report(1, 2, "epoch 1/2")
    assert capsys.readouterr() == ("", "")


def test_a_log_has_a_line_a_minute_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(progress, "Progress", partial(Progress, get_time=lambda: now))
    with progress.Bar() as bar:
        bar.pair("vae on digits", 0, 2)
        bar.start("likelihood", 10)
        for _ in range(8):
            now += 25
            bar.advance(1)
        bar.start("fid", 10)
        now += 60
        bar.advance(0)  # nothing to tell
        bar.fetch(3 * 10**6, 95 * 10**6, "w.pth")
    with progress.Bar() as bar:
        for step in range(30, 34):
            now += 100
            bar.report(step, 50, "epoch 2/5, validation 3.2")
    assert capsys.readouterr() == (
        "",
        "vae on digits: likelihood: 3 of 10, 0:01:15 gone, 0:02:55 left\n"
        "vae on digits: likelihood: 6 of 10, 0:02:30 gone, 0:01:40 left\n"
        "vae on digits: MB of w.pth: 3 of 95\n"
        "epoch 2/5, validation 3.2: 30 of 50\n"
        "epoch 2/5, validation 3.2: 31 of 50, 0:01:40 gone\n"
        "epoch 2/5, validation 3.2: 32 of 50, 0:03:20 gone, 0:30:00 left\n"
        "epoch 2/5, validation 3.2: 33 of 50, 0:05:00 gone, 0:28:20 left\n",
    )


def test_bytes_are_shown_in_megabytes_beside_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(terminal, "stderr", lambda: Console(file=shown, force_terminal=True, width=100))
    with progress.Bar() as bar:

        def lines() -> list[tuple[str, str]]:
            shown.truncate(shown.seek(0))
            bar._progress.refresh()
            plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]|\r", "", shown.getvalue())
            return re.findall(r"(?m)^([\w. ]*\w) +\W+(\d+/[\d?]+)", plain)

        bar.start("fid", 4)
        bar.fetch(3 * 10**6, None, "w.pth")
        assert lines() == [("fid", "0/4"), ("MB of w.pth", "3/?")]
        bar.fetch(3 * 10**6, 95 * 10**6, "w.pth")
        assert lines() == [("fid", "0/4"), ("MB of w.pth", "3/95")]
        bar.fetch(95 * 10**6, 95 * 10**6, "w.pth")
        assert lines() == [("fid", "0/4")]
        bar.fetch(1, 95 * 10**6, "broken off")
        bar.start("likelihood", 2)
        assert lines() == [("likelihood", "0/2")]


def test_warning_is_a_line_above_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Bar() as bar:
        bar.warn("[not markup] " + "long " * 100)
    assert capsys.readouterr().err == "[not markup] " + ("long " * 100).rstrip() + "\n"


@pytest.mark.parametrize("debug", [False, True])
def test_failure_has_its_traceback_only_when_debugging(debug: bool, capsys: pytest.CaptureFixture[str]) -> None:
    progress.Bar(debug).failed("likelihood", RuntimeError("boom"))
    told = capsys.readouterr().err
    assert told.endswith("likelihood failed: RuntimeError: boom\n")
    assert told.count("\n") == (2 if debug else 1)


def test_what_is_said_in_a_sweep_names_the_pair(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Bar() as bar:
        bar.pair("vae on digits", 0, 2)
        bar.failed("likelihood", RuntimeError("boom"))
        bar.pair("vae on mnist", 1, 2)
        bar.warn("hear")
    assert capsys.readouterr().err == ("vae on digits: likelihood failed: RuntimeError: boom\nvae on mnist: hear\n")
