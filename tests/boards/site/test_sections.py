"""A board by task: order, leaders, matrices of set and score, and others' numbers apart."""

import pytest
from hostile import row

from vaebench.boards import headline, published, tasks
from vaebench.boards.rows import Row
from vaebench.boards.site import across, matrix, sections, sheets
from vaebench.boards.site.sections import Section


def of_rows(rows: list[Row], others: list[Row] | None = None) -> list[Section]:
    measured, reported = sheets.of_rows(matrix.turned(rows)), sheets.of_rows(others or [])
    return sections.of_board(headline.of_rows("mnist", rows), measured, reported)


def auroc(model: str, score: str, name: str, value: float, column: str = "auroc", better: str = "higher") -> Row:
    facet = f'{{"score": "{score}", "set": "{name}"}}'
    return row(model=model, metric="regret", column=column, facet=facet, value=value, unit="", better=better)


OOD = [
    auroc("a", "regret", "noise", 0.9), auroc("b", "regret", "noise", 0.2), auroc("a", "likelihood", "noise", 0.1),
    auroc("b", "likelihood", "noise", 0.95), auroc("a", "regret", "rotated", 0.5),
    auroc("a", "regret", "noise", 0.3, "fpr95", "lower"), auroc("b", "regret", "noise", 0.8, "fpr95", "lower"),
]  # fmt: skip


def test_tasks_are_in_their_order_and_only_those_there_are() -> None:
    rows = [row(metric="consistency", column="agreement_small"), row(), row(metric="own", column="x"), *OOD]
    names = [section.task.name for section in of_rows(rows)]
    assert names == ["Density estimation", "OOD detection", "Consistency", "Other measures"]
    known = [task.name for task in tasks.tasks()]
    assert names == sorted(names, key=known.index)


def test_results_are_of_columns_with_a_better_side_and_those_that_lead_are_first() -> None:
    rows = [row(model=model, column=column, better=better, value=value + i)
            for i, model in enumerate("ab")
            for column, better, value in (("bpd", "lower", 1.0), ("nll", "lower", 80.0), ("rate", "none", 9.0),
                                          ("elbo", "higher", -99.0), ("a_column", "lower", 3.0))]  # fmt: skip
    (section,) = of_rows(rows)
    assert [result.heading.name for result in section.results] == ["nll", "bpd", "elbo", "a_column"]
    assert [result.champion and result.champion.models for result in section.results] == [["a"], ["a"], ["b"], ["a"]]
    assert {result.of for result in section.results} == {2}
    assert {len(result.bars) for result in section.results} == {2}


def test_the_headline_s_protocol_comes_first_and_alone_gives_results() -> None:
    few = {"comparability": '{"levels": 2, "mass": "proper", "samples": 1000, "split": "test"}'}
    many = {"comparability": '{"levels": 2, "mass": "proper", "samples": 10, "split": "test"}'}
    rows = [row(model="a", value=80.0, **few), row(model="b", value=81.0, **few)]
    rows += [row(model=model, value=90.0 + i, **many) for i, model in enumerate("abc")]
    (section,) = of_rows(rows)
    assert [len(table.sheet.lines) for (table,) in section.folds if table.sheet] == [2, 3]
    (result,) = section.results
    assert (result.of, result.champion and result.champion.row.value) == (2, 80.0)


def test_regret_is_a_matrix_of_set_and_score_for_each_measure() -> None:
    (section,) = of_rows(OOD)
    first, second = section.matrices
    assert (first.measure, first.better, first.scores) == ("auroc", "higher", ["regret", "likelihood"])
    assert [(name, [entry and (entry.model, entry.cell.row.value) for entry in entries])
            for name, entries in first.lines] == [
        ("noise", [("a", 0.9), ("b", 0.95)]), ("rotated", [("a", 0.5), None]),
    ]  # fmt: skip
    assert (second.measure, second.better) == ("fpr95", "lower")
    (entry, *_) = second.lines[0][1]
    assert entry is not None
    assert (entry.model, entry.of, entry.heat) == ("a", 2, 4)
    assert section.results == []  # the matrices are in their place
    (fold,) = section.folds
    assert [tuple(table.sheet.group.facet.values()) for table in fold if table.sheet] == [
        ("auroc", "regret"), ("auroc", "likelihood"), ("fpr95", "regret"),
    ]  # fmt: skip


def test_a_model_s_matrix_is_its_own() -> None:
    found = sheets.of_rows(matrix.turned(OOD))
    (first, _) = matrix.of_sheets(found, "b")
    assert [[entry and entry.cell.row.value for entry in entries] for _, entries in first.lines] == [
        [0.2, 0.95], [None, None],
    ]  # fmt: skip


def test_turning_leaves_other_rows() -> None:
    rows = [row(), row(facet='{"set": "noise"}'), row(status="failed", column="", **dict.fromkeys(
        ("value", "stderr", "n")), reason="x", facet='{"score": "a", "set": "b"}')]  # fmt: skip
    assert matrix.turned(rows) == rows


@pytest.mark.parametrize(("value", "better", "heat"), [(1.0, "higher", 5), (0.0, "higher", 0), (0.0, "lower", 5),
                                                       (0.5, "none", None), (1.5, "higher", None)])  # fmt: skip
def test_heat_is_how_good_a_fraction_is(value: float, better: str, heat: int | None) -> None:
    cell = sheets.Cell(row(value=value, better=better), None, None)
    assert matrix.Entry(cell, "a", 1, 0).heat == heat


def test_published_values_stand_with_the_metric_apart_by_reason_and_ranked_among_themselves() -> None:
    others = published.rows("mnist")
    found = of_rows([row()], others)
    density = next(section for section in found if section.task.name == "Density estimation")
    ((table,),) = density.folds
    assert table.sheet is not None
    assert table.blocks
    reported = [each for block in table.blocks for _, cells in block.models for each in cells.values()]
    assert {each.row for each in reported} == {each for each in others if each.metric == "likelihood"}
    assert {each.row.reason or "" for each in reported} == {block.reason for block in table.blocks}
    by_unit = [each for each in reported if (each.row.column, each.row.unit) == ("nll", "not stated")]
    values = sorted(each.row.value or 0.0 for each in by_unit)
    assert all(each.rank and values[each.rank.first - 1] == each.row.value for each in by_unit)
    apart = next(section for section in found if section.task.name == "Image generation")
    assert [(table.metric, table.sheet) for (table,) in apart.folds] == [("frechet", None)]


def test_published_values_alone_are_tables() -> None:
    found = of_rows([], published.rows("svhn"))
    assert all(table.sheet is None and table.blocks for section in found for (table,) in section.folds)
    assert all(section.results == [] for section in found)


def test_a_model_over_datasets_is_by_task_and_dataset() -> None:
    one = [row(model="a", dataset="mnist"), row(model="b", dataset="mnist", value=70.0), *OOD]
    two = [row(model="a", dataset="digits", value=9.0), row(model="b", dataset="digits", value=20.0)]
    found = across.places("a", [(name, sheets.of_rows(matrix.turned(rows))) for name, rows in
                                (("mnist", one), ("digits", two))])  # fmt: skip
    assert [(place.task, place.dataset, place.heading.name, str(place.cell.rank)) for place in found[:2]] == [
        ("Density estimation", "digits", "nll", "1"), ("Density estimation", "mnist", "nll", "2"),
    ]  # fmt: skip
    assert {(place.facet["score"], place.heading.name) for place in found[2:]} == {
        ("regret", "noise"), ("regret", "rotated"), ("likelihood", "noise"),
    }  # fmt: skip
    assert across.places("c", [("mnist", sheets.of_rows(one))]) == []
