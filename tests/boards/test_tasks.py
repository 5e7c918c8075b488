"""Results by task: every metric's columns belong to one, those that lead come first, and others' stand apart."""

import csv
import io
from pathlib import Path

import pytest
from board_rows import PUBLISHED, row

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
