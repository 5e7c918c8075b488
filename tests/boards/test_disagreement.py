"""Where NLL and code length disagree, what is said; what a certified bias does to ranks and the headline."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from board_rows import row
from click.testing import Result

from vaebench.boards import headline, marks, store
from vaebench.boards.disagreement import disagreements, sentences
from vaebench.boards.ranking import rank
from vaebench.boards.rows import Row
from vaebench.boards.site import sheets

PROPER = {"mass": "proper", "split": "test"}


def made(model: str, metric: str, column: str, value: float, stderr: float, **changes: Any) -> Row:
    fields = json.dumps(PROPER | changes.pop("protocol", {"samples": 1000}), sort_keys=True)
    low, high = value - 1.96 * stderr, value + 1.96 * stderr
    changes = {"marks": (), "unit": "nats", "weights_sha256": model, "low": low, "high": high, **changes}
    return row(model=model, metric=metric, column=column, value=value, stderr=stderr, comparability=fields,
               parameters=fields, **changes)  # fmt: skip


def both(model: str, nll: float, length: float, stderr: float = 0.001) -> list[Row]:
    return [
        made(model, "likelihood", "nll", nll, 0.2),
        made(model, "code-length", "code_length", length, stderr, unit="bits/dim", protocol={"bins": 12}),
    ]


def test_two_that_change_places_are_named_with_both_values() -> None:
    rows = [*both("vae", 92.0, 2.121), *both("iwae", 90.0, 2.224)]
    (found,) = disagreements(rows)
    assert (found.one, found.other, found.clear) == ("vae", "iwae", True)
    (told,) = sentences(rows)
    assert told.startswith("NLL and code length order vae and iwae differently: iwae has the lower NLL (90.00 ± 0.20 ")
    assert (
        "against 92.00 ± 0.20 nats), vae the shorter files (2.1210 ± 0.0010 against 2.2240 ± 0.0010 bits/dim)" in told
    )
    assert "\n" not in told
    assert sentences(rows[::-1]) == [told]


def test_a_lower_nll_within_the_errors_is_said_to_be() -> None:
    (told,) = sentences([*both("vae", 91.0, 2.121), *both("iwae", 90.9, 2.224)])
    assert "91.00 ± 0.20 nats, which is within their errors), vae the shorter files" in told


@pytest.mark.parametrize(
    "rows",
    [
        [*both("vae", 90.0, 2.1), *both("iwae", 92.0, 2.2)],  # one order
        [*both("vae", 92.0, 2.1, 0.1), *both("iwae", 90.0, 2.2, 0.1)],  # lengths within their errors
        [*both("vae", 92.0, 2.1), both("iwae", 90.0, 2.2)[0]],  # no file of one
        [],
    ],
)
def test_where_there_is_no_disagreement_nothing_is_said(rows: list[Row]) -> None:
    assert sentences(rows) == []


def test_lengths_of_other_bins_are_not_compared() -> None:
    other = made("iwae", "code-length", "code_length", 2.2, 0.001, unit="bits/dim", protocol={"bins": 8})
    assert sentences([*both("vae", 92.0, 2.1), both("iwae", 90.0, 2.2)[0], other]) == []


def loose(model: str, nll: float, tenth: float, stderr: float = 0.1) -> list[Row]:
    return [
        made(model, "likelihood", "nll", nll, stderr, marks=("bound loose",)),
        made(model, "likelihood", "nll_tenth", tenth, stderr),
    ]


def bias(model: str, value: float, stderr: float, **changes: Any) -> Row:
    return made(model, "certified", "k_bias", value, stderr, **{"better": "none", "n": 100, **changes})


def test_a_certified_bias_takes_the_place_of_twice_the_last_decade() -> None:
    rows = loose("iwae", 92.0, 93.5)
    assert marks.slack(rows) == {rows[0]: pytest.approx(3.0)}
    assert marks.slack([*rows, bias("iwae", 0.5, 0.1)]) == {rows[0]: pytest.approx(0.7)}
    assert marks.slack([*rows, bias("iwae", -0.5, 0.1)]) == {rows[0]: 0.0}
    for other in (bias("vae", 0.5, 0.1), bias("iwae", 0.5, 0.1, protocol={"samples": 100})):
        assert marks.slack([*rows, other]) == {rows[0]: pytest.approx(3.0)}  # of another model, or other draws
    several = [bias("iwae", 0.5, 0.1), bias("iwae", 0.2, 0.1, n=20, protocol={"samples": 1000, "steps": 100})]
    for order in (several, several[::-1]):
        assert marks.slack([*rows, *order]) == {rows[0]: pytest.approx(0.7)}  # that of most images


def test_ranks_and_the_headline_take_the_certified_bias() -> None:
    rows = [*loose("iwae", 92.0, 93.5), made("vae", "likelihood", "nll", 90.0, 0.1)]
    (first,) = (row for row in rows if row.model == "vae")
    assert rank(rows, "nll")[first].last == 2
    certified = [bias("iwae", 0.5, 0.1)]
    assert rank([*rows, *certified], "nll")[first] == (1, 1)
    nll = headline.column_of("nll", headline.shipped()[1]["nll"], [*rows, *certified], None)
    assert {str(cell.rank) for cell in nll.cells.values()} == {"1", "2"}


def test_a_sheet_and_a_filtered_board_take_it_too(vaebench: Callable[..., Result], tmp_path: Path) -> None:
    rows = [*loose("iwae", 92.0, 93.5), made("vae", "likelihood", "nll", 90.0, 0.1), bias("iwae", 0.5, 0.1)]
    (sheet,) = (found for found in sheets.of_rows(rows) if found.group.metric == "likelihood")
    cells = [cell for line in sheet.lines for cell in line.cells if cell is not None and cell.row.column == "nll"]
    assert {cell.row.model: str(cell.rank) for cell in cells} == {"vae": "1", "iwae": "2"}
    store.write(tmp_path / "boards", rows)
    shown = vaebench("board", "show", "digits", "--metric", "likelihood", "--leaderboards", tmp_path / "boards").stdout
    assert "1. 90.00 ± 0.10" in shown
    assert "2. 92.00 ± 0.10" in shown


def test_nll_by_annealing_is_a_column_where_a_model_has_one() -> None:
    rows = [made("vae", "likelihood", "bpd", 2.0, 0.1)]
    assert "nll_ais" not in [column.key for column in headline.of_rows("digits", rows).columns]
    fields = {"samples": 1000, "steps": 500, "chains": 16}
    rows += [made(model, "certified", "nll_ais", 90.0, 1.0, protocol=fields) for model in ("vae", "iwae")]
    table = headline.of_rows("digits", rows)
    column = table.columns[[column.key for column in table.columns].index("nll_ais")]
    assert {whose.model: str(cell.rank) for whose, cell in column.cells.items()} == {"vae": "1-2", "iwae": "1-2"}
    assert column.protocol["steps"] == 500
