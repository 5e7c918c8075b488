"""The headline of a board: a line a model, by stated protocols, sorted, ranked, and said in a sentence."""

import csv
import io
from pathlib import Path

import pytest
from board_rows import row

import vaebench
from vaebench.boards import headline, headline_csv
from vaebench.boards import store as board
from vaebench.core import registry as plugins
from vaebench.core.errors import DataError, UserError
from vaebench.models import card

ROOT = Path(__file__).parent.parent.parent
SAID = '{"levels": 2, "mass": "proper", "samples": %d}'


def nll(model: str, value: float, samples: int = 1000, seed: int = 0, **more: object):  # type: ignore[no-untyped-def]
    return row(model=model, value=value, low=value - 0.5, high=value + 0.5, comparability=SAID % samples, seed=seed,
               marks=(), **more)  # fmt: skip


def test_lines_are_models_in_order_of_the_first_measure() -> None:
    rows = [nll("a", 90.0), nll("b", 80.0), nll("c", 90.3), nll("b", 70.0, seed=1), nll("d", 10.0, samples=7)]
    table = headline.of_rows("digits", rows)
    assert table.kind == "binary images"
    assert [line.model for line in table.lines] == ["b", "a", "c", "d"]
    lines = list(csv.DictReader(io.StringIO(headline_csv.to_csv(table))))
    dash = headline.ABSENT
    assert [(line["rank"], line["rank_to"]) for line in lines] == [("1", "1"), ("2", "3"), ("2", "3"), (dash, dash)]
    title = "nll (nats, lower is better)"
    assert float(lines[0][title]) == 80.0  # the lowest seed, whatever the values
    assert lines[3][title] == dash
    assert [line["best_at"] for line in lines] == ["nll", dash, dash, dash]
    assert "active_units_se" not in lines[0]  # of what has no error anywhere
    assert headline.sentence(table).startswith(
        "Best on digits by NLL: b, 80.00 ± 0.25 nats (95% interval 79.50 to 80.50)"
    )


def test_a_sentence_names_those_that_cannot_be_told_apart_and_a_loose_bound() -> None:
    rows = [nll("a", 90.0), nll("c", 90.3), nll("d", 90.6)]
    assert "c and d cannot be told apart from it" in headline.sentence(headline.of_rows("digits", rows))
    assert "none is ranked by NLL: a, 90.00" in headline.sentence(headline.of_rows("digits", rows[:1]))
    assert headline.sentence(headline.of_rows("digits", [])) == "No model of digits has a value of bits/dim."


def test_the_mean_over_sets_has_no_smaller_an_error_than_any_correlation_gives() -> None:
    def auroc(name: str, value: float, stderr: float):  # type: ignore[no-untyped-def]
        facet = f'{{"score": "regret", "set": "{name}"}}'
        return row(metric="regret", column="auroc", facet=facet, value=value, stderr=stderr, low=value - 2 * stderr,
                   high=value + 2 * stderr, better="higher", unit="", marks=())  # fmt: skip

    (found,) = headline._means([auroc("x", 0.9, 0.02), auroc("y", 0.7, 0.04)], "set")
    assert (found.value, found.stderr) == (pytest.approx(0.8), pytest.approx(0.03))
    assert '"set": "x, y"' in found.facet


def test_every_measure_is_a_column_of_its_metric_and_readme_says_its_side() -> None:
    kinds, measures = headline.read()
    assert all(len(kind.measures) <= 10 for kind in kinds)
    text = (ROOT / "leaderboards" / "README.md").read_text()
    for key, measure in measures.items():
        presets = plugins.load("metrics", measure.metric)
        columns = {c.name: c for c in presets["standard"].columns}  # type: ignore[index]
        column = columns[measure.column]
        assert headline.described(key, measure, column.unit, column.better) + "\n" in text


def test_every_shipped_csv_is_what_the_rows_give() -> None:
    root = ROOT / "leaderboards"
    for dataset in board.datasets(root):
        found = vaebench.board(dataset, root)
        lines = list(csv.DictReader(io.StringIO((root / f"{dataset}.csv").read_text())))
        assert [line["model"] for line in lines] == found["model"].tolist()
        known = [None if line["rank"] == headline.ABSENT else int(line["rank"]) for line in lines]
        assert known == [
            None if value is None else value
            for value in found["rank"].astype(object).where(found["rank"].notna(), None)
        ]
        assert found.attrs["columns"]


@pytest.mark.parametrize("dataset", board.datasets(ROOT / "leaderboards"))
def test_what_a_board_measured_can_be_measured_again(dataset: str) -> None:
    """Every measured row is of weights that the zoo has, under the row's name."""
    rows = [row for row in board.read(ROOT / "leaderboards", dataset) if row.origin == "measured"]
    weights = {name: card.find(name, dataset).weights for of, name in card.ids() if of == dataset}
    held = {(name, each.sha256) for name, each in weights.items() if each is not None}
    assert {(row.model, row.weights_sha256) for row in rows} <= held


@pytest.mark.parametrize("dataset", board.datasets(ROOT / "leaderboards"))
def test_most_models_of_a_shipped_board_have_what_its_headline_begins_with(dataset: str) -> None:
    table = headline.of_rows(dataset, board.read(ROOT / "leaderboards", dataset))
    assert 2 * len(table.columns[0].cells) > len(table.lines)


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown table 'row'; did you mean 'rows'"):
        vaebench.board("digits", table="row")  # type: ignore[call-overload,arg-type]
    for text in (
        "",
        "[[kind]]\nname = 'x'\nmeasures = []\n[measure]",
        "[[kind]]\nname = 'x'\nmeasures = ['y']\n[measure]",
    ):
        path = tmp_path / "headline.toml"
        path.write_text(text)
        with pytest.raises((DataError, UserError)):
            headline.read(path)
