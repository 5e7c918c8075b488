"""Results by task: every metric's columns belong to one, those that lead come first, and others' stand apart."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from board_rows import PUBLISHED, row
from click.testing import Result

from vaebench.boards import headline, published, tasks
from vaebench.boards import store as board
from vaebench.boards.overlay import Boards
from vaebench.core import registry as plugins
from vaebench.core.errors import DataError, UserError

ROOT = Path(__file__).parent.parent.parent
NAMES = [
    "Density estimation", "Image generation", "Representation learning", "OOD detection", "Disentanglement",
    "Consistency", "Interpretability",
]  # fmt: skip


def said(metric: str = "likelihood", column: str = "nll", **more: object):  # type: ignore[no-untyped-def]
    comparability = '{"levels": 2, "mass": "proper", "samples": 1000}'
    return row(**{"metric": metric, "column": column, "comparability": comparability, **more})


def test_each_metric_s_columns_belong_to_exactly_one_task_and_a_plug_in_s_to_the_last() -> None:
    assert [task.name for task in tasks.tasks()][:-1] == NAMES
    known = {*plugins.shipped("metrics"), *(each.metric for each in published.read())}
    for metric in known:
        assert [task.metrics.count(metric) for task in tasks.tasks()].count(1) == 1, metric
        assert tasks.task_of(metric).name in NAMES
    assert {metric for task in tasks.tasks() for metric in task.metrics} == known
    assert tasks.task_of("a-plug-in").name == "Other measures"


def test_each_measure_of_a_headline_leads_one_task() -> None:
    leading = [key for task in tasks.tasks() for key in task.measures]
    assert sorted(leading) == sorted(headline.shipped()[1])


def test_results_that_lead_come_first_each_metric_best_first_and_collapsed_or_refuted_models_behind() -> None:
    rows = [
        said(model="a", value=90.0), said(model="b", value=80.0), said(model="b", value=70.0, seed=1),
        said(model="c", value=1.0, verified="refuted"), said(model="a", column="ess", value=3.0, better="none"),
        said(model="a", column="elbo", value=-95.0, better="higher"),
        said(model="b", column="elbo", value=-85.0, better="higher"),
        said("consistency", "consistency_small", model="a", value=5.0),
        said("consistency", "consistency_small", model="b", value=4.0),
        said("consistency", "consistency_small", model="c", value=0.0, marks=("collapsed",)),
    ]  # fmt: skip
    density, consistency = tasks.of_rows("digits", rows)
    assert [(each.metric, each.name, each.row.value, str(each.rank or "-")) for each in density.measured] == [
        ("NLL", "b", 80.0, "1"), ("NLL", "a", 90.0, "2"), ("NLL", "c", 1.0, "-"),
        ("ELBO", "b", -85.0, "1"), ("ELBO", "a", -95.0, "2"), ("ess", "a", 3.0, "-"),
    ]  # fmt: skip
    assert [each.leads for each in density.measured] == [True] * 5 + [False]
    assert [each.name for each in consistency.measured] == ["b", "a", "c"]


def test_published_results_are_ranked_as_reported_and_never_with_measured_ones() -> None:
    theirs = {**PUBLISHED, "n": None, "stderr": None, "low": None, "high": None, "reason": "not comparable: no samples"}
    rows = [
        said(model="a", value=90.0),
        *(said(model=name, value=value, **theirs) for name, value in (("x", 70.0), ("y", 60.0), ("z", 70.0))),
        said("frechet", "fid", model="x", value=3.0, **theirs),
    ]
    density, images = tasks.of_rows("digits", rows)
    assert [(each.name, each.rank) for each in density.measured] == [("a", None)]
    assert [(each.name, str(each.rank)) for each in density.published] == [("y", "1"), ("x", "2-3"), ("z", "2-3")]
    assert [(each.metric, each.rank, each.leads) for each in images.published] == [("FID", None, True)]
    lines = list(csv.DictReader(io.StringIO(tasks.to_csv(density))))
    assert list(lines[0]) == list(tasks.FIELDS)
    assert [line["origin"] for line in lines] == ["measured", *["published"] * 3]
    dash = headline.ABSENT
    assert [line["rank"] + " " + line["rank_to"] for line in lines] == [f"{dash} {dash}", "1 1", "2 3", "2 3"]
    assert [line["note"] for line in lines] == [dash, *["not comparable: no samples"] * 3]
    assert (lines[0]["value"], lines[0]["stderr"]) == ("90.0", "0.25")
    assert lines[0]["protocol"] == "likelihood v1: levels 2, mass proper, samples 1000"


@pytest.mark.parametrize("text", ["density-estimation", "Density estimation", "DENSITY  estimation"])
def test_a_task_is_found_by_its_name_or_slug(text: str) -> None:
    assert tasks.find(text).name == "Density estimation"


def test_an_unknown_task_is_told_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="unknown task 'density'; did you mean 'density-estimation'"):
        tasks.find("density")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[[task]]\nname = 'x'",
        "[[task]]\nname = 'x'\nsays = ''\nmetrics = ['fid']\n[[task]]\nname = 'y'\nsays = ''\nmetrics = ['fid']",
        "[[task]]\nname = 'x'\nsays = ''\nmeasures = ['nlll']",
        "[[task]]\nname = 'x'\nsays = ''\nmeasures = ['nll']\nmetrics = ['fid']",
    ],
)
def test_a_file_of_tasks_that_is_wrong_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tasks.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises((DataError, UserError)):
        tasks.read(path)


def test_every_shipped_table_is_what_the_rows_give() -> None:
    boards = Boards(ROOT / "leaderboards")
    there = {path.relative_to(boards.folder).as_posix() for path in boards.folder.glob("*/*.csv")}
    for dataset in boards.datasets():
        rows = [*boards.read(dataset), *published.rows(dataset)]
        for table in tasks.of_rows(dataset, rows, boards.comparer()):
            name = f"{dataset}/{table.task.slug}.csv"
            assert (boards.folder / name).read_text(encoding="utf-8") == tasks.to_csv(table), name
            there.remove(name)
    assert there == set()


def test_tables_of_tasks_are_written_by_render_and_kept_up_to_date(tmp_path: Path) -> None:
    board.write(tmp_path, [said(model="a"), said("consistency", "consistency_small", model="a")])
    assert not list(tmp_path.glob("*/*.csv"))
    board.render(tmp_path, "digits")
    folder = tmp_path / "digits"
    assert {path.name for path in folder.glob("*.csv")} == {"density-estimation.csv", "consistency.csv"}
    board.write(tmp_path, [said(model="b", value=1.0)])
    assert "b,nll" in (folder / "density-estimation.csv").read_text()
    (folder / "ood-detection.csv").write_text("old")
    (folder / "notes.csv").write_text("mine")
    board.render(tmp_path, "digits")
    assert {path.name for path in folder.glob("*.csv")} == {"density-estimation.csv", "consistency.csv", "notes.csv"}


# --- on the command line ------------------------------------------------------------------------------------------


@pytest.fixture
def shown(tmp_path: Path, vaebench: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`shown(*args)`: what `board show` prints of two boards, on one of which others have published."""
    theirs = {**PUBLISHED, "n": None, "stderr": None, "low": None, "high": None, "reason": "not comparable: so"}
    others = [said(model=name, value=value, **theirs) for name, value in (("x", 70.0), ("y", 60.0))]
    monkeypatch.setattr(published, "_shipped", lambda: others)
    board.write(tmp_path, [
        said(model="a", value=90.0), said(model="b", value=80.0), said(model="c", value=80.1),
        said(model="a", column="ess", value=3.0, unit="draws", better="none"),
        said("consistency", "consistency_small", model="a", value=5.0),
        said(model="a", dataset="mnist", value=100.0),
    ])  # fmt: skip

    def show(*args: object) -> str:
        result = vaebench("board", "show", *args, "--leaderboards", tmp_path)
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        return result.stdout

    return show


def cells(text: str) -> list[list[str]]:
    """The cells of each line of a table."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]


def test_a_task_goes_across_datasets(shown: Callable[..., str]) -> None:
    text = shown("--task", "density-estimation")
    assert cells(text) == [
        ["digits", "NLL", "1-2", "b", "80.00 ± 0.25"], ["", "", "1-2", "c", "80.10 ± 0.25"],
        ["mnist", "NLL", "-", "a", "100.00 ± 0.25"],
        ["digits", "NLL", "1", "y", "60 nats", "[1]"],
    ]  # fmt: skip
    assert "NLL: the importance-weighted bound on -log p(x); nats, lower is better" in text
    assert text.index("published by others, ranked as reported") < text.index(tasks.APART)
    assert "[1] Table 1; not comparable: so" in text
    assert len(cells(shown("--task", "density-estimation", "--all"))) == 7


def test_a_task_of_one_dataset_is_a_line_a_model_and_then_others_results(shown: Callable[..., str]) -> None:
    text = shown("digits", "--task", "Density estimation")
    assert cells(text) == [
        ["1-2", "b", "80.00 ± 0.25 *"], ["1-2", "c", "80.10 ± 0.25 *"], ["3", "a", "90.00 ± 0.25"],
        ["NLL", "1", "y", "60 nats", "[1]"], ["", "2", "x", "70 nats", "[1]"],
    ]  # fmt: skip
    assert "Best on digits by NLL: b" in text


def test_a_model_goes_across_datasets_and_tasks(shown: Callable[..., str]) -> None:
    assert cells(shown("--model", "a")) == [
        ["Density estimation", "digits", "NLL", "3", "90.00 ± 0.25"], ["", "mnist", "NLL", "-", "100.00 ± 0.25"],
        ["Consistency", "digits", "consistency", "-", "5.00 ± 0.25"],
    ]  # fmt: skip
    assert cells(shown("mnist", "--model", "a")) == [["Density estimation", "mnist", "NLL", "-", "100.00 ± 0.25"]]
    assert ["", "", "ess", "-", "3.00 ± 0.25"] in cells(shown("--model", "a", "--all"))
    assert cells(shown("--model", "x")) == [["Density estimation", "digits", "NLL", "2", "70 nats", "[1]"]]
    found = json.loads(shown("--model", "a", "--task", "consistency", "--json"))
    assert [(each["task"], each["dataset"], each["metric"], each["value"]) for each in found] == [
        ("consistency", "digits", "consistency_small", 5.0)
    ]


def test_without_a_dataset_there_is_a_line_for_each(shown: Callable[..., str]) -> None:
    assert cells(shown()) == [
        ["digits", "3", "b", "NLL", "80.00 ± 0.25 *"],
        ["mnist", "1", "-", "NLL", "-"],
    ]
    assert [each["best"] for each in json.loads(shown("--json"))] == ["b", None]


def test_results_of_a_plug_in_are_shown_where_no_measure_leads(vaebench: Callable[..., Result], tmp_path: Path) -> None:
    values = {"a": 2.0, "b": 1.0}
    board.write(tmp_path, [said("a-plug-in", "oddness", model=name, value=value) for name, value in values.items()])
    for where in ((), ("digits",)):
        shown = vaebench("board", "show", *where, "--task", "other-measures", "--leaderboards", tmp_path).stdout
        assert [line[-3:] for line in cells(shown)] == [["1", "b", "1.00 ± 0.25"], ["2", "a", "2.00 ± 0.25"]]


def test_boards_without_a_row_are_told_in_one_line(vaebench: Callable[..., Result], tmp_path: Path) -> None:
    shown = vaebench("board", "show", "--leaderboards", tmp_path).stdout.splitlines()
    assert shown[0] == f"Nothing is measured in {tmp_path}."
    assert shown[1].startswith("Published results alone: celeba-hq256, celeba64, cifar10")
    assert vaebench("board", "show", "mnist", "--leaderboards", tmp_path).stdout.startswith(
        "Nothing is measured on mnist here: these are others' results alone.\n"
    )


def test_bad_input_of_a_listing_is_one_line(refused: Callable[..., str]) -> None:
    show = ("board", "show")
    refused(2, (*show, "--task", "density"), "unknown task 'density'; did you mean 'density-estimation'?")
    refused(2, (*show, "mnits", "--task", "consistency"), "unknown dataset 'mnits'; did you mean 'mnist'?")
    refused(2, (*show, "--model", "dpvea"), "the shipped boards: unknown model 'dpvea'; did you mean 'dpvae'?")
    says = "the board of 'mnist' has no result of disentanglement; there are results of: consistency, density-estim"
    refused(2, (*show, "mnist", "--task", "disentanglement"), says)
    for option in (("--by", "nll"), ("--metric", "fid"), ("--class", "samples=1"), ("--origin", "measured")):
        refused(2, (*show, "--task", "consistency", *option), f"{option[0]} is of one board as a whole; give a DATASET")
