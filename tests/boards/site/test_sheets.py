"""What pages say of rows: ties, bars, champions and provenance."""

import shlex

import pytest
from hostile import FAILED, row
from hypothesis import given, settings
from hypothesis import strategies as st

from vaebench.boards import selection, store
from vaebench.boards.rows import Row
from vaebench.boards.site import sheets
from vaebench.boards.site.sheets import Cell, Line, Sheet
from vaebench.core import files
from vaebench.evaluation import remeasure

values = st.floats(-1e6, 1e6)
errors = st.none() | st.floats(0, 1e3)


def sheet(*rows: Row) -> Sheet:
    (found,) = sheets.of_rows(rows)
    return found


def cells(found: Sheet, column: int = 0) -> dict[str, Cell]:
    return {line.model: cell for line in found.lines if (cell := line.cells[column]) is not None}


def test_the_command_that_repeats_a_line_chooses_its_run_alone() -> None:
    """On the shipped boards, of the runs that `vaebench reproduce` finds by it."""
    counted = 0
    for dataset in store.datasets(files.shipped_boards()):
        every = [row for row in store.read(files.shipped_boards(), dataset) if row.status == "ok"]
        lines: dict[tuple[str, str], list[tuple[Sheet, Line, None]]] = {}
        for found in sheets.of_rows(every):
            for line in found.lines:
                lines.setdefault((line.model, found.group.metric), []).append((found, line, None))
        for (model, metric), entries in lines.items():
            for found, line, _ in entries:
                words = shlex.split(sheets.again(found, line, entries))
                assert words[:8] == [
                    "vaebench",
                    "reproduce",
                    model,
                    dataset,
                    "--metric",
                    metric,
                    "--seed",
                    str(line.seed),
                ]
                rows = [row for row in every if (row.model, row.metric, row.seed) == (model, metric, line.seed)]
                for text in words[9::2]:
                    rows = selection.of_class(dataset, rows, text)
                assert set(line.rows) <= set(rows)
                assert (
                    len(
                        remeasure.runs_of(
                            (row for row in rows if row.weights_sha256 == line.rows[0].weights_sha256), by_seed=True
                        )
                    )
                    == 1
                ), words
                counted += len(words) > 8
    assert counted > 0


def test_ties_share_a_range_of_ranks() -> None:
    found = cells(sheet(row(model="a", value=1.0), row(model="b", value=1.1), row(model="c", value=9.0)))
    assert {model: str(cell.rank) for model, cell in found.items()} == {"a": "1-2", "b": "1-2", "c": "3"}


@settings(deadline=None)
@given(st.lists(st.tuples(values, errors), min_size=1, max_size=6))
def test_bars_are_intervals_on_one_scale(pairs: list[tuple[float, float | None]]) -> None:
    rows = [row(model=f"m{i}", value=value, stderr=error) for i, (value, error) in enumerate(pairs)]
    found = cells(sheet(*rows))
    bars = [bar for i in range(len(rows)) if (bar := found[f"m{i}"].bar) is not None]
    assert len(bars) == len(rows)
    (scale,) = (each for each in sheet(*rows).scales if each is not None)
    for bar, (value, _) in zip(bars, pairs, strict=True):
        assert 0 <= bar.left <= bar.middle <= bar.right <= 100
        assert (bar.beyond == "left", bar.beyond == "right") == (value < scale.low, value > scale.high)
        for at, what in ((bar.left, bar.low), (bar.right, bar.high)):
            clipped = min(max(what, scale.low), scale.high)
            assert scale.low + at / 100 * (scale.high - scale.low) == pytest.approx(
                clipped, abs=1e-6 * max(1, abs(scale.low), abs(scale.high))
            )


def test_an_outlier_squashes_no_bar() -> None:
    near = [row(model=f"m{i}", value=80.0 + i) for i in range(6)]
    (alone,) = (scale for scale in sheet(*near).scales if scale)
    found = cells(sheet(*near, row(model="far", value=5000.0)))
    bars = {model: cell.bar for model, cell in found.items() if cell.bar is not None}
    assert bars["far"].beyond == "right"
    assert bars["far"].middle == 100
    assert bars["m5"].middle - bars["m0"].middle > 40
    assert 70 <= alone.low <= 80 <= 85 <= alone.high <= 95


def test_a_failed_row_has_a_cell_without_bar_and_an_absent_one_none() -> None:
    rows = (row(model="a"), row(model="a", column="elbo"), row(model="b", **FAILED))
    found = sheet(*rows)
    assert [heading.name for heading in found.group.columns] == ["elbo", "nll"]
    assert set(cells(found)) == {"a"}
    assert (cells(found, 1)["b"].rank, cells(found, 1)["b"].bar) == (None, None)


def test_lines_are_in_order_of_the_first_ranked_column() -> None:
    aside = [row(model=model, column="about", better="none", value=0.0) for model in "abc"]
    found = sheet(*aside, *(row(model=model, value=value) for model, value in zip("abc", (9, 1, 5), strict=True)))
    assert found.by == "nll"
    assert [line.model for line in found.lines] == ["b", "c", "a"]
    assert sheet(*aside).by is None


def test_champions_are_all_that_no_other_beats() -> None:
    up = {"column": "elbo", "better": "higher"}
    rows = [row(model=m, value=v) for m, v in zip("abc", (1.1, 1.0, 9.0), strict=True)]
    rows += [row(model=m, value=v, **up) for m, v in zip("abc", (1.1, 1.0, 9.0), strict=True)]
    rows += [row(model="a", column="rate", better="none"), row(model="d", value=0.0, verified="refuted")]
    found = {best.heading.name: best for best in sheets.champions(sheet(*rows))}
    assert {name: (best.models, best.row.model, best.of) for name, best in found.items()} == {
        "nll": (["b", "a"], "b", 3),
        "elbo": (["c"], "c", 3),
    }


def test_a_model_of_several_seeds_is_one_champion() -> None:
    found = sheet(row(seed=0, value=2.0), row(seed=1, value=1.9), row(model="b", value=9.0))
    (best,) = sheets.champions(found)
    assert (best.models, best.of) == (["alpha"], 2)
    assert list(sheets.champions(sheet(row(seed=0, value=2.0), row(seed=1, value=1.9)))) == []  # there is no other


def test_a_wide_interval_makes_no_champion() -> None:
    wide = row(model="wide", value=15.0, stderr=9.0)
    (best,) = sheets.champions(sheet(row(model="a", value=1.0), row(model="b", value=1.1), wide))
    assert (best.models, best.of) == (["a", "b"], 3)


def test_classes_and_origins_are_apart() -> None:
    published = {"origin": "published", "source": "Table 1", "seed": None}
    found = sheets.of_rows([row(), row(comparability='{"samples": 9}'), row(metric="other"), row(**published)])
    assert [(each.group.metric, each.group.origin) for each in found] == [
        ("likelihood", "measured"), ("likelihood", "published"), ("likelihood", "measured"), ("other", "measured"),
    ]  # fmt: skip


def test_provenance_is_told_once_for_each_run() -> None:
    (line,) = sheet(row(), row(column="elbo"), row(column="rate", torch="2.7")).lines
    assert [(run.torch, columns) for run, columns in line.provenance] == [("2.6", ["elbo", "nll"]), ("2.7", ["rate"])]
