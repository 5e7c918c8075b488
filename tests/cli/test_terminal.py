"""What a person sees: numbers to two digits of their error, tables without escape codes, one line for a failure."""

import math
import re
from dataclasses import replace

import pytest
from board_rows import NO_VALUE, row
from hypothesis import given
from hypothesis import strategies as st

from vaebench.boards import ranking, text
from vaebench.boards.rows import Row
from vaebench.cli import tables as terminal

ROW = row()


@pytest.mark.parametrize(
    ("value", "stderr", "shown"),
    [
        (96.8312, 0.4512, "96.83 ± 0.45"),
        (32.0, 4.5e-8, "32 ± 4.5e-08"),
        (-94.4468, 0.6, "-94.45 ± 0.60"),
        (2.0657, 0.0126, "2.066 ± 0.013"),
        (91.6, 12.3, "92 ± 12"),
        (12345.6, 1234.5, "12346 ± 1234"),
        (1.0, 0.0996, "1.00 ± 0.10"),
        (100.0, 9.96, "100 ± 10"),
        (-0.001, 0.45, "0.00 ± 0.45"),
        (1.5, 0, "1.5 ± 0"),
        (1 / 3, None, "0.333333"),
        (1.0, 1e-300, "1 ± 1.0e-300"),
        (0.0, 5e-324, "0 ± 4.9e-324"),
        (1e300, 1e298, "1e+300 ± 1.0e+298"),
        (1.0, 1e298, "1 ± 1.0e+298"),
        (0.0, 0.0, "0 ± 0"),
    ],
)
def test_number_shows_two_digits_of_its_error(value: float, stderr: float | None, shown: str) -> None:
    assert text.number(value, stderr) == shown


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.floats(min_value=0, max_value=1e300, allow_nan=False, allow_infinity=False),
)
def test_number_is_short_and_true(value: float, stderr: float | None) -> None:
    shown, _, error = text.number(value, stderr).partition(" ± ")
    assert len(shown) <= 28
    assert not re.fullmatch(r"-0(\.0*)?", shown) or str(value) == "-0.0"
    if stderr is not None:
        assert float(error) == pytest.approx(stderr, rel=0.05, abs=0)
        assert abs(float(shown) - value) <= max(stderr, 1e-5 * abs(value))
    if stderr and stderr < 99:
        assert len(re.sub(r"e.*|\D", "", error).lstrip("0")) == 2
    assert math.isfinite(float(shown))


def _table(rows: list[Row], capsys: pytest.CaptureFixture[str]) -> list[str]:
    terminal.print_rows(rows)
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]


def test_a_failed_or_skipped_metric_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    failed = replace(ROW, status="failed", **NO_VALUE, n=None, reason="RuntimeError: boom", metric="m")
    rows = [ROW, failed, replace(failed, column="bpd"), replace(failed, metric="k", status="skipped", reason="not it")]
    lines = _table(rows, capsys)
    assert len(lines) == 3
    assert "failed: RuntimeError: boom" in lines[1]
    assert "skipped: not it" in lines[2]


def test_markup_in_text_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_table(("[red]name",), [("[bold]x[/bold] :smile: \\[y]",)], "[blink]title")
    shown = capsys.readouterr().out
    assert "[bold]x[/bold] :smile: \\[y]" in shown
    assert "[blink]title" in shown
    assert "[red]name" in shown
    assert "\x1b" not in shown


def test_no_rows_print_a_table_without_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert _table([], capsys) == []


def test_a_board_too_wide_for_the_screen_goes_on_below_and_breaks_no_cell(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        row(model=model, column=f"auroc_ratio_of_{name}", unit="fraction", value=0.5, stderr=0.25)
        for model in ("vae", "a-model-of-a-longer-name")
        for name in "abcdefghijkl"
    ]
    (group,) = ranking.table(rows)
    terminal.print_group(group)
    said = capsys.readouterr().out
    title, *lines = said.splitlines()
    assert title.startswith("digits · likelihood")
    lines = [line for line in lines if line[0] in "┏┃┡│└"]
    assert max(map(len, lines)) <= terminal.WIDTH
    assert said.count("auroc_ratio_of_") == 12
    assert said.count("0.50 ± 0.25") == 24
    tables = sum(line[0] == "┏" for line in lines)
    assert tables == 2
    assert sum(line.startswith("│ a-model-of-a-longer-name │    0 │ ") for line in lines) == tables


def test_an_error_of_nothing_shows_the_interval_that_has_a_width() -> None:
    area = row(column="auroc", value=1.0, stderr=0.0, low=0.6427, high=1.0)
    assert text.cell(area) == "1 [0.643, 1]"
    assert text.cell(replace(area, verified="refuted", marks=("collapsed",))) == "1 [0.643, 1] (collapsed, refuted)"
    assert text.cell(row(value=2.0, stderr=0.0)) == "2 ± 0"
