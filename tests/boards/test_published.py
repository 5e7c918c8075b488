"""Published rows: every number has a source, none is ranked, and the file is refused for any mistake in one line."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result

import vaebench as package
from vaebench.boards import export, published, ranking, tasks
from vaebench.boards import store as board
from vaebench.core import registry as plugins
from vaebench.core.errors import DataError, UserError
from vaebench.core.metric import Metric
from vaebench.models import card

ROWS = published.read()
TWELVE = {
    *("vae", "dpvae", "beta-vae-h", "beta-dpvae-h", "beta-vae-b", "beta-dpvae-b", "beta-tcvae", "beta-tc-dpvae"),
    *("factor-vae", "factor-dpvae", "info-vae", "info-dpvae"),
}
DPVAE = [row for row in ROWS if row.source is not None and "dpVAE" in row.source]


def value(dataset: str, model: str, column: str, source: str) -> float | None:
    (row,) = (
        row
        for row in ROWS
        if (row.dataset, row.model, row.column) == (dataset, model, column) and source in (row.source or "")
    )
    return row.value


def test_every_number_has_a_source_and_is_never_ranked() -> None:
    assert len(ROWS) > 180
    for row in ROWS:
        assert (row.origin, row.status, row.weights_sha256, row.seed) == ("published", "ok", None, None)
        assert row.source
        assert "[mem]" not in row.source
        comparable = json.loads(row.comparability)["comparable"]
        assert comparable == (row.reason is None)
        assert row.reason is None or row.reason.startswith("not comparable: ")
    for column in {row.column for row in ROWS}:
        assert ranking.rank(ROWS, column) == {}


def test_dpvae_s_table_is_whole_and_compares_with_nothing() -> None:
    """Twelve methods, three datasets, four columns; corners of the table as printed."""
    found = {(row.dataset, row.model, row.column) for row in DPVAE}
    columns = ("fid", "fid_lp", "skl_knn", "nll")
    assert found == {(d, m, c) for d in ("mnist", "svhn", "celeba64") for m in TWELVE for c in columns}
    assert len(DPVAE) == 144
    assert all(row.reason for row in DPVAE)
    for dataset, model, expected in (
        ("mnist", "vae", (137.4, 165.0, 1.26, 3.56)),
        ("svhn", "beta-tcvae", (69.2, 70.5, 7.76, 9.86)),
        ("celeba64", "info-dpvae", (68.9, 72.9, 20.3, 12.1)),
        ("celeba64", "vae", (81.4, 79.0, 59.3, 9.26)),
        ("mnist", "info-dpvae", (110.1, 110.5, 1.70, 2.81)),
        ("svhn", "dpvae", (50.8, 55.2, 13.02, 0.318)),
    ):
        assert tuple(value(dataset, model, column, "dpVAE") for column in columns) == expected


@pytest.mark.parametrize(
    ("dataset", "model", "column", "source", "expected"),
    [
        ("mnist", "crvae-nvae", "nll", "leaderboard page", 76.93),
        ("cifar10", "crvae-nvae", "bpd", "leaderboard page", 2.51),
        ("celeba64", "crvae-nvae", "bpd", "leaderboard page", 1.86),
        ("mnist", "nvae", "nll", "NVAE", 78.01),
        ("cifar10", "nvae-flow", "bpd", "abstract", 2.91),
        ("celeba64", "nvae-flow", "bpd", "NVAE", 2.03),
        ("mnist", "iwae-k50", "nll", "IWAE", 84.78),
    ],
)
def test_numbers_are_those_of_their_sources(
    dataset: str, model: str, column: str, source: str, expected: float
) -> None:
    assert value(dataset, model, column, source) == expected


def test_columns_are_those_that_metrics_here_declare() -> None:
    """A published column of a metric that exists has its name, unit and direction, or says why it is another thing."""
    for row in ROWS:
        if row.metric not in plugins.names("metrics"):
            continue
        metric = plugins.load("metrics", row.metric)["standard"]  # type: ignore[index]
        assert isinstance(metric, Metric)
        declared = {column.name: column for column in metric.columns}[row.column]
        assert row.better == declared.better
        assert row.unit == declared.unit or row.reason


def test_a_group_has_one_unit_for_a_column() -> None:
    for group in ranking.table(ROWS):
        rows = [row for line in group.lines for row in line.rows.values()]
        assert len({(row.column, row.unit) for row in rows}) == len({row.column for row in rows})


def test_models_that_the_zoo_has_bear_the_zoo_s_names() -> None:
    assert {name for _, name in card.ids()} >= TWELVE


TABLE = """
[[table]]
source = "A paper, table 1"
metric = "likelihood"
column = "nll"
unit = "nats"
better = "lower"
bound = "upper"
split = "test"
[table.values.mnist]
vae = 80.5
"""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('source = "A paper, table 1"\n', "", "missing source"),
        ("A paper, table 1", " ", "source = ' ' should be a paper"),
        ("A paper, table 1", "[mem]", "should be a paper"),
        ('unit = "nats"', 'units = "nats"', "unknown key 'units'; did you mean 'unit'?"),
        ('"lower"', '"less"', "better = 'less' should be one of"),
        ("80.5", '"80.5"', "value '80.5' is a str"),
        ("80.5", "nan", "value is nan, not a finite number"),
        ("80.5", "true", "value True"),
        ("vae = 80.5", "VAE = 80.5", "model name 'VAE'"),
        ("values.mnist", "values.MNIST", "dataset name 'MNIST'"),
        ("vae = 80.5", "", "values should hold a number"),
        ('split = "test"', 'split = "test"\nincomparable = ""', "incomparable should be the reason"),
        ('split = "test"', 'split = "test"\nprotocol = { comparable = true }', "protocol holds no comparable"),
        ("[[table]]", "[[tables]]", r"should hold \[\[table\]\] and nothing else"),
        ("vae = 80.5", "vae = 80.5" + TABLE, "table 2: vae on mnist has a second nll of one source"),
        ("vae = 80.5", "vae = ", "cannot read"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "published.toml"
    path.write_text(TABLE)
    assert len(published.read(path)) == 1
    path.write_text(TABLE.replace(old, new, 1))
    with pytest.raises(DataError, match=says) as caught:
        published.read(path)
    assert "\n" not in str(caught.value)
    assert "published.toml" in str(caught.value)


# --- boards -------------------------------------------------------------------------------------------------------


def test_a_board_shows_them_beside_measured_rows(
    quick: tuple[object, ...], vaebench: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert vaebench(*quick).exit_code == 0
    file = tmp_path / "published.toml"
    unlike = TABLE.replace('split = "test"', 'split = "test"\nincomparable = "other images"')
    file.write_text((TABLE + unlike.replace("A paper", "Another paper")).replace("mnist", "digits"))
    found = published.read(file)
    monkeypatch.setattr(published, "_shipped", lambda: found)
    where = ("digits", "--leaderboards", tmp_path / "boards")
    shown = vaebench("board", "show", *where, "--all").stdout
    assert "digits · likelihood v1 · measured" in shown
    assert re.search(r"│ vae +│ +80\.5 │ A paper, table 1 +│", shown)
    assert "nll is not comparable: other images" in shown
    assert shown.index("measured") < shown.index("published")
    assert not re.search(r"[0-9][.] [0-9]", shown)  # one measured model has no rank, nor has what others report
    rows = json.loads(vaebench("board", "show", *where, "--json").stdout)
    assert {row["origin"] for row in rows} == {"measured", "published"}
    lines = list(csv.DictReader(io.StringIO(vaebench("board", "csv", *where).stdout)))
    assert [line["origin"] for line in lines] == ["measured", "published", "published"]
    assert [line["reason"] for line in lines] == ["", "not comparable: other images", ""]
    measured = vaebench("board", "csv", *where, "--origin", "measured").stdout
    assert measured == export.to_csv(board.read(tmp_path / "boards", "digits"))
    only = json.loads(vaebench("board", "show", *where, "--json", "--class", "comparable=true").stdout)
    assert [row["source"] for row in only] == ["A paper, table 1"]
    assert {row.origin for row in board.read(tmp_path / "boards", "digits")} == {"measured"}


def test_a_dataset_with_no_measured_row_has_a_board(vaebench: Callable[..., Result], tmp_path: Path) -> None:
    result = vaebench("board", "show", "celeba64", "--leaderboards", tmp_path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Nothing is measured on celeba64 here: these are others' results alone.\n")
    assert tasks.APART in result.stdout
    assert re.search(r"│ Image generation +│ FID +│ +1 │ vaebm +│ +5.31 │ \[5\]", result.stdout)
    assert "[5] Xiao et al. 2021, VAEBM, listed by Papers with Code; not comparable: sample count" in result.stdout
    frame = pd.read_csv(io.StringIO(vaebench("board", "csv", "celeba64", "--leaderboards", tmp_path).stdout))
    assert str(frame["bpd"].dtype) == "float64"
    assert frame.loc[frame["model"] == "crvae-nvae", "bpd"].tolist() == [1.86]


def test_the_error_of_an_unknown_board_names_published_ones(refused: Callable[..., str], tmp_path: Path) -> None:
    refused(
        2, ("board", "show", "zzz", "--leaderboards", tmp_path), "unknown dataset 'zzz'; known: celeba-hq256, celeba64"
    )
    says = (f"the board of 'omniglot-2' in {tmp_path} is empty", "there are boards of: celeba-hq256, celeba64")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "names", lambda kind: ["omniglot-2"])
        refused(2, ("board", "show", "omniglot-2", "--leaderboards", tmp_path), *says)
    alone = "the board of 'svhn' in", "is others' results alone; there are boards of: none"
    refused(2, ("export", "vae", "svhn", "--leaderboards", tmp_path), *alone)
    with pytest.raises(UserError, match="is others' results alone"):
        package.board("svhn", tmp_path)


def test_the_shipped_csv_opens_in_a_spreadsheet(vaebench: Callable[..., Result], tmp_path: Path) -> None:
    """Every line has as many cells; no cell holds a line break, runs as a formula or is longer than Excel takes."""
    for dataset in published.datasets():
        text = vaebench("board", "csv", dataset).stdout
        assert "\r" not in text
        lines = list(csv.reader(io.StringIO(text)))
        assert len({len(line) for line in lines}) == 1
        assert len(lines) == text.count("\n")
        for cell in (cell for line in lines for cell in line):
            assert len(cell) < 32767
            number = cell.removeprefix("-").replace(".", "").replace("e", "").replace("-", "").isdigit()
            assert number or not cell.startswith(("=", "+", "-", "@"))
