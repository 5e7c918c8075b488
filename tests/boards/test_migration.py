"""Boards of schema 1: rewritten once, nothing lost; other schemas and false files are a line."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from board_rows import BASE, FAILED, row
from click.testing import Result

from vaebench.boards import migration, per_example, store
from vaebench.boards.migration import SCHEMA_1
from vaebench.boards.rows import CURVE, SCHEMA, Row, utc
from vaebench.core.errors import DataError
from vaebench.core.metric import Given, Metric
from vaebench.core.registry import load, shipped
from vaebench.functional import intervals

Refused = Callable[..., str]
CLASS = {"levels": 17, "likelihood": "categorical", "measure": "pmf", "binarisation": "none"}


def old(**changes: Any) -> dict[str, Any]:
    """A row of schema 1, whose class is that of its parameters."""
    values = {**BASE, "parameters": '{"repeats": 3, "samples": 100}', **changes}
    if "comparability" not in changes:
        values["comparability"] = json.dumps({**json.loads(values["parameters"]), **CLASS}, sort_keys=True)
    return {name: values[name] for name in SCHEMA_1.names}


def write(root: Path, rows: list[dict[str, Any]], schema: pa.Schema = SCHEMA_1, name: str = "vae") -> Path:
    path = root / "digits" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    records = []
    for each in rows:
        curve = each["curve"] and dict(zip(CURVE.names, each["curve"], strict=True))
        records.append({**each, "created": utc(each["created"]), "curve": curve})
    pq.write_table(pa.Table.from_pylist(records, schema=schema), path, store_schema=False)
    return path


def migrated(root: Path, rows: list[dict[str, Any]]) -> list[Row]:
    write(root, rows)
    migration.migrate(root)
    return store.read(root, "digits")


def test_nothing_is_lost_and_a_second_time_changes_nothing(
    tmp_path: Path, vaebench: Callable[..., Result], refused: Refused
) -> None:
    curve = ((1.0, 2.0), (0.5, 0.25), "k", "nll")
    rows = [
        old(verified="verified", curve=curve),
        old(column="elbo", better="higher", bound="lower"),
        old(column="nll_tenth", value=84.55),
        old(column="ess", value=40.0, better="none"),
    ]
    write(tmp_path, rows)
    refused(3, ("board", "show", "digits", "--leaderboards", tmp_path), "of row schema 1", "`vaebench board migrate`")
    result = vaebench("board", "migrate", "--leaderboards", tmp_path, "--json")
    assert json.loads(result.stdout) == [{"file": str(tmp_path / "digits" / "vae.parquet"), "rows": 4}]
    found = store.read(tmp_path, "digits")
    names = [name for name in SCHEMA_1.names if name != "comparability"]
    now = {each.column: {name: getattr(each, name) for name in names} for each in found}
    assert now == {each["column"]: {name: each[name] for name in names} for each in rows}
    content = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert vaebench("board", "migrate", "--leaderboards", tmp_path).exit_code == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == content
    assert vaebench("board", "show", "digits", "--leaderboards", tmp_path).exit_code == 0


def test_long_columns_become_facets(tmp_path: Path) -> None:
    about = {"metric": "regret", "parameters": '{"images": 50, "resamples": 200}'}
    rows = [
        old(column="regret", n=50, better="none", **about),
        old(column="auroc_regret_emnist_letters", value=1.0, stderr=0.0, n=100, better="higher", unit="", **about),
        old(column="fpr95_complexity_noise", value=0.0, stderr=0.0, n=100, unit="", **about),
    ]
    area, rate, mean = migrated(tmp_path, rows)
    assert (area.column, json.loads(area.facet)) == ("auroc", {"score": "regret", "set": "emnist-letters"})
    assert (area.low, area.high, area.df) == (*intervals.newcombe(1.0, 50, 50), None)
    assert (rate.column, json.loads(rate.facet)) == ("fpr95", {"score": "complexity", "set": "noise"})
    assert (rate.low, rate.high) == intervals.wilson(0.0, 50)
    assert (mean.facet, mean.df) == ("{}", 49)
    assert json.loads(mean.comparability) == {"binarisation": "none", "images": 50, "levels": 17, "mass": "proper"}


@pytest.mark.parametrize(
    ("changes", "df"),
    [
        ({}, 359),
        ({"metric": "fd-domain", "column": "fd_domain", "parameters": '{"decode": "auto", "repeats": 3}'}, 2),
        ({"metric": "latent-gap", "column": "skl_knn", "parameters": "{}"}, 2),
        ({"metric": "latent-gap", "column": "skl", "parameters": "{}"}, 359),
        ({"metric": "disentanglement", "column": "dci_completeness", "parameters": '{"dci_repeats": 5}'}, 4),
        ({"metric": "disentanglement", "column": "mig_chen", "parameters": "{}"}, None),
        ({"metric": "pocket-leak", "column": "leaks", "parameters": '{"shown": 9}'}, 9),
        ({"metric": "of-someone", "column": "x", "parameters": "{}"}, None),
    ],
)
def test_errors_have_the_degrees_of_freedom_of_what_they_are_over(
    tmp_path: Path, changes: dict[str, Any], df: float | None
) -> None:
    others = [] if changes else [old(column=c, value=v, stderr=None) for c, v in (("nll_tenth", 84.5), ("ess", 50.0))]
    found = next(each for each in migrated(tmp_path, [old(**changes), *others]) if each.stderr is not None)
    assert found.df == df
    assert (found.low, found.high) == intervals.student(84.5, 0.25, df)


def test_proportions_have_wilson_s_interval(tmp_path: Path) -> None:
    about = {"metric": "probe", "column": "probe_all", "parameters": "{}", "value": 1.0, "unit": "fraction"}
    low, high = intervals.wilson(1.0, 360, 1.96)
    (found,) = migrated(tmp_path, [old(stderr=(high - low) / 3.92, **about)])
    assert (found.low, found.high) == pytest.approx(intervals.wilson(1.0, 360))


def test_a_run_without_values_is_one_row(tmp_path: Path) -> None:
    rows = [old(column=column, **FAILED) for column in ("nll", "elbo", "bpd")]
    (found,) = migrated(tmp_path, rows)
    assert (found.column, found.status, found.reason) == ("", "failed", "NaN in the decoder")


def test_marks_follow_from_what_was_there(tmp_path: Path) -> None:
    def marks(tenth: float, ess: float, rate: float) -> dict[str, tuple[str, ...]]:
        shutil.rmtree(tmp_path / "digits", ignore_errors=True)
        values = {"nll": 84.5, "bpd": 1.9, "nll_tenth": tenth, "ess": ess, "rate": rate}
        return {
            each.column: each.marks
            for each in migrated(tmp_path, [old(column=c, value=v, stderr=None) for c, v in values.items()])
        }

    assert set(marks(84.5, 20, 9).values()) == {()}
    for loose in (marks(84.7, 20, 9), marks(84.5, 9, 9)):
        assert {column for column, found in loose.items() if found == ("bound loose",)} == {"nll", "bpd"}
    assert set(marks(84.5, 20, 0.4).values()) == {("collapsed",)}
    few = old(metric="fd-domain", column="fd_domain", n=63, parameters='{"decode": "mean", "repeats": 3}')
    assert [each.marks for each in migrated(tmp_path, [few])] == [("few images",)]


def test_per_example_values_are_found_again(tmp_path: Path) -> None:
    (of,) = [row(parameters='{"repeats": 3, "samples": 100}', comparability="{}")]
    folder = tmp_path / "digits" / "vae" / "likelihood"
    folder.mkdir(parents=True)
    (folder / migration._name_1(of)).write_bytes(b"kept")
    migrated(tmp_path, [old(), old(column="nll_tenth", value=84.5), old(column="ess", value=50.0)])
    assert per_example.path(tmp_path, of).read_bytes() == b"kept"
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("name", shipped("metrics"))
def test_classes_are_those_that_a_run_gives_now(name: str) -> None:
    """Of every preset and likelihood, with fields of metrics that came later put aside."""
    if name not in migration.NEEDED:
        return
    metric: Metric
    for metric in load("metrics", name).values():
        parameters = json.loads(json.dumps(dataclasses.asdict(metric)))
        for levels, binarisation in ((17, "none"), (2, "dynamic")):
            for family in (*migration.SAMPLED, "bernoulli", "gaussian"):
                given = Given(levels, "pmf", binarisation, family, family != migration.IMPROPER)
                about = {"levels": levels, "likelihood": family, "measure": "pmf", "binarisation": binarisation}
                before = old(
                    metric=name, parameters=json.dumps(parameters, sort_keys=True),
                    comparability=json.dumps({**parameters, **about}, sort_keys=True),
                )  # fmt: skip
                now = json.loads(json.dumps(dict(metric.depends(given))))
                assert json.loads(migration._comparability(before)) == now


def test_what_no_value_depends_on_is_in_no_class() -> None:
    """Two families of one proper mass share every class; an improper one has its own where a likelihood is scored."""
    for name in shipped("metrics"):
        metric = load("metrics", name)["standard"]
        one, other, improper = (
            dict(metric.depends(Given(256, "pmf", "none", family, proper)))
            for family, proper in (("discretised-logistic", True), ("discretised-logistic-mixture", True), ("x", False))
        )
        assert one == other
        assert (improper.get("mass") == "x") == (name in ("certified", "code-length", "likelihood", "regret"))


# --- false files --------------------------------------------------------------------------------------------------


def test_a_later_schema_is_a_line(tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "VERSION", "3")
    store.write(tmp_path, [row()])
    monkeypatch.undo()
    says = "of row schema 3, and this vaebench reads 2: update vaebench"
    refused(3, ("board", "show", "digits", "--leaderboards", tmp_path), says)
    refused(3, ("board", "migrate", "--leaderboards", tmp_path), says)


def test_rows_that_were_left_out_or_changed_are_seen(tmp_path: Path) -> None:
    rows = [row(), row(column="elbo")]
    path = tmp_path / "digits" / "vae.parquet"
    path.parent.mkdir()
    honest = pq.read_table(pa.BufferReader(store.encode(rows)))
    for table in (honest.slice(0, 1), pa.concat_tables([honest, honest.slice(1, 1)]), honest.take([1, 0])):
        pq.write_table(table, path)  # with the metadata as they were
        with pytest.raises(DataError, match="rows are not the 2 that were written"):
            store.read_file(path)
    pq.write_table(honest.replace_schema_metadata(None), path)
    with pytest.raises(DataError, match="not the unknown number that were written"):
        store.read_file(path)


def test_a_count_that_has_changed_loses_no_row_of_schema_1(tmp_path: Path) -> None:
    """Files of schema 1 have no count of their own: the footer's two must agree."""
    path = write(tmp_path, [old(column="elbo", seed=seed) for seed in range(30)])
    whole, refused = path.read_bytes(), []
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for place in (i for i in range(footer, len(whole) - 8) if whole[i] == 2 * 30):  # as thrift writes it
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 2]) + whole[place + 1 :])
        try:
            migration.migrate(tmp_path)
        except DataError as error:
            refused.append(str(error))
        else:
            assert len(store.read(tmp_path, "digits")) == 30
    assert any("its footer says 30 rows, and its parts hold" in each for each in refused)


def test_rows_are_counted_before_they_are_read(tmp_path: Path, refused: Refused) -> None:
    """Few bytes can be many equal rows."""
    path = tmp_path / "digits" / "vae.parquet"
    path.parent.mkdir()
    table = pq.read_table(pa.BufferReader(store.encode([row()])))
    with pq.ParquetWriter(path, SCHEMA) as writer:
        whole = table.take(pa.array([0] * 10_000))
        for _ in range(3):
            writer.write_table(whole)
    refused(3, ("board", "show", "digits", "--leaderboards", tmp_path), "it holds 30000 rows, more than 20000")
    path.write_bytes(b"PAR1" * 2**23)
    refused(3, ("board", "show", "digits", "--leaderboards", tmp_path), "bytes, more than")


def test_a_short_file_of_long_texts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "digits" / "vae.parquet"
    path.parent.mkdir()
    table = pq.read_table(pa.BufferReader(store.encode([row()])))
    place = table.column_names.index("reason")
    for size, says in ((2**25, "bytes, more than"), (2**20, "a text of more than 10000 characters")):
        long = table.set_column(place, SCHEMA.field("reason"), pa.array(["x" * size]))
        pq.write_table(long, path, compression="zstd")
        assert path.stat().st_size < 2**17
        with pytest.raises(DataError, match=says):
            store.read_file(path)


def test_nested_parameters_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="parameters"):
        row(parameters='{"a": ' + "[" * 4900 + "]" * 4900 + "}")
