"""Laws of the leaderboard files: merging, bytes, concurrency, damage, ranks."""

import csv
import dataclasses
import errno
import io
import json
import math
import os
import random
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vaebench import board, ranking
from vaebench.errors import DataError, UserError
from vaebench.rows import CSV_AFTER, CSV_BEFORE, Row

BASE: dict[str, Any] = {
    "model": "vae",
    "weights_sha256": "aa",
    "dataset": "digits",
    "data_fingerprint": "dd",
    "split": "test",
    "metric": "likelihood",
    "metric_version": 1,
    "parameters": '{"samples": 100}',
    "comparability": '{"k": 100}',
    "column": "nll",
    "value": 84.5,
    "stderr": 0.25,
    "n": 360,
    "unit": "nats",
    "better": "lower",
    "bound": "upper",
    "curve": None,
    "status": "ok",
    "reason": None,
    "origin": "measured",
    "source": None,
    "verified": "unverified",
    "seed": 0,
    "device": "cpu",
    "dtype": "float32",
    "torch": "2",
    "vaebench": "0.1.0",
    "commit": None,
    "dirty": None,
    "created": "2026-01-31T12:00:00+00:00",
    "seconds": 1.5,
    "peak_memory": 10**9,
}
FAILED = {"status": "failed", "value": None, "stderr": None, "n": None, "reason": "NaN in the decoder"}
PUBLISHED = {"origin": "published", "source": "Table 1", "weights_sha256": None, "data_fingerprint": None, "seed": None}


def row(**changes: Any) -> Row:
    return Row(**(BASE | changes))


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAEBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))


numbers = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)


@st.composite
def rows(draw: st.DrawFn, identities: int = 3) -> Row:
    """Any row of one model; `identities` bounds how many columns and seeds they share."""
    axis = st.lists(numbers, min_size=2, max_size=2).map(tuple)
    changes: dict[str, Any] = {
        "column": draw(st.sampled_from(["nll", "elbo", "=x"][:identities])),
        "value": draw(numbers),
        "stderr": draw(st.none() | numbers.map(abs)),
        "n": draw(st.integers(0, 2**63 - 1)),
        "parameters": json.dumps(draw(st.dictionaries(st.text(max_size=3), numbers, max_size=1)), sort_keys=True),
        "curve": draw(st.none() | st.tuples(axis, axis, texts, texts)),
        "unit": draw(texts | st.just("")),
        "dirty": draw(st.none() | st.booleans()),
        "seconds": draw(st.none() | numbers.map(abs)),
        "created": draw(st.datetimes(datetime(1971, 1, 1))).isoformat() + "Z",
        "seed": draw(st.integers(0, identities)),
        "metric_version": draw(st.integers(1, 2)),
        "better": draw(st.sampled_from(["lower", "higher", "none"])),
        "verified": draw(st.sampled_from(["unverified", "verified", "refuted"])),
    }
    if draw(st.booleans()):
        changes |= PUBLISHED | {"source": draw(texts)}
    if draw(st.booleans()):
        reason = draw(st.text(st.characters(), min_size=1))
        changes |= {"status": "failed", "value": None, "stderr": None, "curve": None, "reason": reason}
    return row(**changes)


def distinct(found: list[Row]) -> list[Row]:
    return list({each.identity: each for each in found}.values())


def at_once(found: list[Row], version: int) -> list[Row]:
    """As one run gives them: no identity twice, one version."""
    return distinct(
        [each if each.origin == "published" else dataclasses.replace(each, metric_version=version) for each in found]
    )


files_of_rows = st.builds(at_once, st.lists(rows(), max_size=6), st.integers(1, 2))
LAW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# --- rows ---------------------------------------------------------------------------------------------------------


def test_schema_is_the_row() -> None:
    assert board.SCHEMA.names == [field.name for field in dataclasses.fields(Row)] == list(BASE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": math.nan},
        {"value": -math.inf},
        {"stderr": math.nan},
        {"stderr": -1.0},
        {"value": None},
        {"value": "84.5"},
        {"n": None},
        {"n": 3.0},
        {"n": True},
        {"n": -1},
        {"seed": 2**63},
        {"seed": None},
        {"weights_sha256": None},
        {"status": "failed", "reason": "x"},
        {"status": "skipped", "value": None, "stderr": None, "reason": None},
        {"status": "OK"},
        {"better": "up"},
        {"bound": "both"},
        {"origin": "guessed"},
        {"verified": "yes"},
        {"origin": "published"},
        {"parameters": '{"b": 1, "a": 2}'},
        {"parameters": '{"a":1}'},
        {"parameters": '{"a": NaN}'},
        {"comparability": "[]"},
        {"comparability": "k=100"},
        {"created": "2026-01-31T12:00:00"},
        {"created": "yesterday"},
        {"curve": ((1.0,), (1.0, 2.0), "x", "y")},
        {"curve": ((1.0,), (math.nan,), "x", "y")},
        {"column": "seed"},
        {"column": "nll_stderr"},
        {"split": ""},
        {"metric": "a\nb"},
        {"source": "\ud800"},
        *({"model": name} for name in ("../x", "a/b", "", ".a", "A", "a\n", "a\0", "..", "x.csv", "-x", "é")),
        {"dataset": "../../etc"},
    ],
    ids=repr,
)
def test_row_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="|".join(wrong) + "|is missing from|has no value"):
        row(**wrong)


def test_row_from_mapping_names_keys() -> None:
    assert board.row(BASE) == row()
    with pytest.raises(UserError, match=r"unknown column 'valeu'; did you mean 'value'"):
        board.row(BASE | {"valeu": 1.0})
    with pytest.raises(UserError, match=r"lacks value"):
        board.row({name: value for name, value in BASE.items() if name != "value"})


def test_row_is_plain() -> None:
    found = row(value=-0.0, n=3, created="2026-01-31T13:00:00.9+01:00", stderr=1)
    assert math.copysign(1, found.value or 0.0) == 1
    assert type(found.stderr) is float
    assert found.created == BASE["created"]
    assert row(**(FAILED | {"reason": "a\n  b\x00\ud800 é"})).reason == "a b\\x00\\ud800 é"


# --- merging ------------------------------------------------------------------------------------------------------


@LAW
@given(files_of_rows, files_of_rows, st.randoms(use_true_random=False))
def test_merge_laws(stored: list[Row], new: list[Row], shuffle: random.Random) -> None:
    merged = board.merge(board.merge([], stored), new)
    assert board.merge(merged, new) == merged  # idempotent
    assert board.merge(merged, []) == merged
    mixed = shuffle.sample(new, len(new))
    assert board.merge(shuffle.sample(stored, len(stored)), mixed) == merged  # the order within a write is nothing
    one_by_one = board.merge([], stored)
    for run in {board._run(each): None for each in mixed}:
        one_by_one = board.merge(one_by_one, [each for each in mixed if board._run(each) == run])
    assert one_by_one == merged  # nor how its runs follow one another
    kept = {each.identity: each for each in merged}
    assert set(kept) <= {each.identity for each in stored + new}
    for each in stored + new:
        assert each.identity in kept or each.status != "ok"
        if each.status == "ok":  # nothing finished is lost to something unfinished
            other = kept[each.identity]
            assert other.status == "ok" or other.metric_version > each.metric_version


def test_merge_rules() -> None:
    old = row()
    assert board.merge([old], [row(value=1.0)]) == [row(value=1.0)]
    assert board.merge([old], [row(created="2027-01-01T00:00:00Z", seconds=9.0, peak_memory=1)]) == [old]
    assert board.merge([old], [row(**FAILED)]) == [old]
    assert board.merge([row(**FAILED)], [old]) == [old]
    dirty, again = row(dirty=True), row(dirty=False, created="2027-01-01T00:00:00Z")
    assert board.merge([dirty], [again]) == [again]  # the same value, of code that can be checked out
    assert board.merge([again], [dirty]) == [again]
    newer = row(metric_version=2, **FAILED)
    assert board.merge([old], [newer]) == [newer]
    assert board.merge([newer], [old]) == [newer]
    other_data = row(data_fingerprint="ee", **FAILED)
    assert board.merge([old], [other_data]) == [other_data]
    for apart in ({"seed": 1}, {"parameters": "{}"}, {"comparability": "{}"}, {"split": "train"}, PUBLISHED):
        assert len(board.merge([old], [row(**apart)])) == 2
    verified = row(verified="verified")
    assert board.merge([verified], [old]) == [verified]
    assert board.merge([old], [verified]) == [verified]
    assert board.merge([verified], [row(verified="refuted")])[0].verified == "refuted"


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_a_run_with_values_leaves_none_of_one_without(status: str) -> None:
    """A failed run has a row for each column that there could be; one with values only those that there are."""
    failed = [row(column=name, **(FAILED | {"status": status})) for name in ("nll", "bpd")]
    assert board.merge(failed, [row()]) == [row()]
    assert board.merge([row()], failed) == [row()]
    refused = row(column="bpd", created="2027-01-01T00:00:00Z", **FAILED)
    assert board.merge([], [row(), refused]) == [refused, row()]  # one column of a run may be refused
    assert board.merge([refused, row()], [row(), refused]) == [refused, row()]
    for apart in ({"seed": 1}, {"parameters": "{}"}, {"metric_version": 2}, {"data_fingerprint": "ee"}):
        assert len(board.merge([row()], [dataclasses.replace(failed[1], **apart)])) == 2


def test_new_weights_drop_measured_rows_only() -> None:
    published = row(**PUBLISHED)
    new = row(weights_sha256="bb", column="elbo")
    assert board.merge([row(), published], [new]) == sorted([published, new], key=lambda each: each.identity)
    assert len(board.merge([row()], [published])) == 2
    with pytest.raises(ValueError, match="2 sets of weights"):
        board.merge([], [row(), new])
    with pytest.raises(ValueError, match="two rows at once"):
        board.merge([], [row(), row(value=2.0)])


# --- files --------------------------------------------------------------------------------------------------------


@LAW
@given(st.lists(rows(), min_size=1, max_size=6).map(distinct))
def test_file_holds_the_rows(tmp_path_factory: pytest.TempPathFactory, found: list[Row]) -> None:
    root = tmp_path_factory.mktemp("board")
    board.write(root, found)
    assert board.read(root, "digits") == board.merge([], found)
    path = root / "digits" / "vae.parquet"
    content = path.read_bytes()
    assert content == board.encode(board.read(root, "digits"))  # equal rows, equal bytes
    assert pq.read_schema(path).equals(board.SCHEMA)
    assert pq.read_schema(path).metadata is None
    stamp = path.stat().st_mtime_ns, (root / "digits.csv").stat().st_mtime_ns
    board.write(root, found[::-1])
    assert stamp == (path.stat().st_mtime_ns, (root / "digits.csv").stat().st_mtime_ns)
    assert sorted(p.name for p in root.rglob("*")) == ["digits", "digits.csv", "vae.parquet"]
    check_csv(root)


def check_csv(root: Path) -> None:
    """The CSV says what the Parquet files say, number by number."""
    cells = {}
    for line in csv.DictReader(io.StringIO((root / "digits.csv").read_text())):
        for name, text in line.items():
            if name not in (*CSV_BEFORE, *CSV_AFTER) and text:
                cells[(line["model"], line["origin"], line["source"], line["seed"], line["parameters"], name)] = text
    expected = {}
    for each in board.read(root, "digits"):
        seed = "" if each.seed is None else str(each.seed)
        source = ranking._cell(each.source)
        for name, number in ((each.column, each.value), (f"{each.column}_stderr", each.stderr)):
            if number is not None:
                key = (each.model, each.origin, source, seed, each.parameters, ranking._cell(name))
                expected[key] = repr(number)
    assert cells == expected


def test_bytes_do_not_depend_on_order(tmp_path: Path) -> None:
    several = [row(column=c, seed=s, model=m) for c in ("nll", "elbo") for s in (0, 1) for m in ("a", "b")]
    for i in range(4):
        for each in random.Random(i).sample(several, len(several)):
            board.write(tmp_path / str(i), [each])
    trees = [{p.name: p.read_bytes() for p in (tmp_path / str(i)).rglob("*.*")} for i in range(4)]
    assert all(tree == trees[0] for tree in trees)
    assert set(trees[0]) == {"a.parquet", "b.parquet", "digits.csv"}


def test_csv_opens_in_pandas_and_runs_no_formula(tmp_path: Path) -> None:
    board.write(
        tmp_path,
        [
            row(value=-3.5),
            row(column="elbo", value=-90.0, better="higher", stderr=None),
            row(model="b", metric="fid", column="fid", **FAILED | {"reason": "=cmd|' /C calc'!A0"}),
            row(model="c", **PUBLISHED | {"source": "@SUM(1,2)\uff1d"}),
        ],
    )
    found = pd.read_csv(tmp_path / "digits.csv")
    assert [str(found[name].dtype) for name in ("nll", "nll_stderr", "elbo", "seed", "n")] == ["float64"] * 5
    assert list(found["model"]) == ["b", "vae", "c"]  # by metric, class and origin, then model
    assert found.loc[1, "nll"] == -3.5
    assert found.loc[1, "elbo"] == -90.0
    assert found["reason"].dropna().tolist() == ["'=cmd|' /C calc'!A0"]
    assert found["source"].dropna().tolist() == ["'@SUM(1,2)\uff1d"]
    frame = pd.read_parquet(tmp_path / "digits" / "vae.parquet")
    assert str(frame["created"].dtype) == "datetime64[ms, UTC]"
    assert frame["value"].dtype == "float64"


def damaged(content: bytes) -> list[bytes]:
    table = pq.read_table(io.BytesIO(content))
    wrong = [
        table.drop_columns(["torch"]),
        table.append_column("extra", pa.array([1])),
        table.set_column(12, "n", pa.array([1.0])),
        table.set_column(0, pa.field("model", pa.string(), nullable=False), pa.array(["other"])),
        table.set_column(10, "value", pa.array([math.nan])),
    ]
    files_ = []
    for each in wrong:
        buffer = io.BytesIO()
        pq.write_table(each, buffer)
        files_.append(buffer.getvalue())
    return [b"", b"PAR1", b"hello" * 100, content[:-1], content[: len(content) // 2], content + b"x", *files_]


@pytest.mark.parametrize("case", range(11))
def test_damaged_file_is_one_error(tmp_path: Path, case: int) -> None:
    board.write(tmp_path, [row()])
    path = tmp_path / "digits" / "vae.parquet"
    bad = damaged(path.read_bytes())[case]
    path.write_bytes(bad)
    for action in (lambda: board.read(tmp_path, "digits"), lambda: board.write(tmp_path, [row(value=1.0)])):
        with pytest.raises(DataError, match=r"vae\.parquet") as caught:
            action()
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == bad  # and nobody's evidence is overwritten
    with pytest.raises(DataError):
        board.write(tmp_path, [row(model="b")])  # the CSV cannot be made,
    assert len(board.read_file(tmp_path / "digits" / "b.parquet")) == 1  # but what was measured is kept


def test_damaged_file_names_columns(tmp_path: Path) -> None:
    board.write(tmp_path, [row()])
    path = tmp_path / "digits" / "vae.parquet"
    pq.write_table(pq.read_table(path).rename_columns({"torch": "pytorch"}), path)
    with pytest.raises(DataError, match="no column 'torch', unknown column 'pytorch'"):
        board.read(tmp_path, "digits")


def test_flipped_bits_are_seen(tmp_path: Path) -> None:
    whole, noise = [row(column="elbo"), row()], random.Random(0)
    content = board.encode(whole)
    path = tmp_path / "digits" / "vae.parquet"
    path.parent.mkdir()
    for _ in range(300):
        bad = bytearray(content)
        bad[noise.randrange(len(bad))] ^= 1 << noise.randrange(8)
        path.write_bytes(bad)
        try:
            found = board.read(tmp_path, "digits")
        except DataError:
            continue
        assert found == whole  # a bit that carries nothing


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    board.write(tmp_path, [row()])
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.*")}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(UserError, match="No space left on device") as caught:
            board.write(tmp_path, [row(value=1.0)])
    assert "\n" not in str(caught.value)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.*")} == before
    board.write(tmp_path, [row(value=1.0)])


def test_unusable_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        board.write(tmp_path / "file", [row()])
    monkeypatch.setenv("VAEBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set VAEBENCH_CACHE"):
        board.write(tmp_path, [row()])


def test_a_held_lock_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys; from pathlib import Path; from vaebench import board\n"
    script += f"with board._lock(Path({str(tmp_path)!r}), 'digits'): print('held', flush=True); sys.stdin.read()"
    monkeypatch.setattr(board, "LOCK_SECONDS", 0.1)
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="another process"):
            board.write(tmp_path, [row()])
        holder.kill()
    board.write(tmp_path, [row()])


@pytest.mark.parametrize("name", ["../x", "a/b", "", "/etc", "..", "A", "x\n"])
def test_names_stay_in_the_folder(tmp_path: Path, name: str) -> None:
    for reach in (board.read, board.render):
        with pytest.raises(UserError, match="dataset name"):
            reach(tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_listing(tmp_path: Path) -> None:
    assert board.datasets(tmp_path) == []
    assert board.read(tmp_path, "digits") == []
    board.write(tmp_path, [row(), row(dataset="mnist")])
    assert board.datasets(tmp_path) == ["digits", "mnist"]
    (tmp_path / "digits.csv").write_text("edited by hand")
    board.render(tmp_path, "digits")
    check_csv(tmp_path)


# --- ranks --------------------------------------------------------------------------------------------------------


def ranks(found: list[Row], column: str = "nll") -> dict[str, int]:
    return {each.model: place for each, place in ranking.rank(found, column).items()}


def test_ties_are_not_transitive() -> None:
    unit = 1 / ranking.Z
    a, b, c = (row(model=m, value=v, stderr=unit) for m, v in (("a", 10.0), ("b", 11.5), ("c", 13.0)))
    assert ranks([a, b, c]) == {"a": 1, "b": 1, "c": 2}
    assert ranks([c, a, b]) == {"a": 1, "b": 1, "c": 2}
    up = [dataclasses.replace(each, better="higher") for each in (a, b, c)]
    assert ranks(up) == {"a": 2, "b": 1, "c": 1}
    assert ranks([dataclasses.replace(each, better="none") for each in (a, b, c)]) == {}


def test_rows_without_error_have_no_width() -> None:
    found = [row(model=m, value=v, stderr=None) for m, v in (("a", 1.0), ("b", 1.0), ("c", 1.0001), ("d", 0.9))]
    assert ranks(found) == {"d": 1, "a": 2, "b": 2, "c": 4}


@pytest.mark.parametrize(
    "other",
    [
        {"comparability": '{"k": 5000}'},
        {"split": "train"},
        {"dataset": "mnist"},
        {"data_fingerprint": "ee"},
        {"metric": "other"},
        {"metric_version": 2},
    ],
    ids=repr,
)
def test_never_across_classes(other: dict[str, Any]) -> None:
    found = [row(model="a", value=1.0), row(model="b", value=50.0, **other), row(model="c", value=60.0, **other)]
    assert ranks(found) == {"a": 1, "b": 1, "c": 2}
    assert len(ranking.table(found)) == 2


def test_who_is_ranked() -> None:
    out = [row(model="p", **PUBLISHED), row(model="f", **FAILED), row(model="r", verified="refuted")]
    assert ranks([row(value=99.0), *out, row(model="e", column="elbo")]) == {"vae": 1}


def test_a_model_counts_once_by_its_lowest_seed() -> None:
    many = [row(model="a", seed=s, value=v, stderr=None) for s, v in ((3, 1.0), (0, 5.0), (1, 2.0))]
    other = row(model="b", seed=7, value=3.0, stderr=None)
    found = ranking.rank([*many, other], "nll")
    assert {(each.model, each.seed): place for each, place in found.items()} == {
        ("a", 0): 2,
        ("a", 1): 1,
        ("a", 3): 1,
        ("b", 7): 1,
    }


@LAW
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 4)), min_size=1, max_size=8))
def test_rank_laws(pairs: list[tuple[int, int]]) -> None:
    found = [row(model=f"m{i}", value=v, stderr=float(e)) for i, (v, e) in enumerate(pairs)]
    got = ranking.rank(found, "nll")
    assert min(got.values()) == 1
    assert max(got.values()) <= len(found)
    for a in found:
        for b in found:
            assert not ranking.significantly_better(a, b) or got[a] < got[b]


def test_table_and_json() -> None:
    found = [
        row(model="b", value=1.0, curve=((1, 2), (0.5, 0.25), "k", "nll")),
        row(model="b", column="elbo", value=-2.0, better="higher", bound="lower"),
        row(model="a", value=9.0),
        row(model="z", metric="fid", column="fid"),
        row(model="p", **PUBLISHED),
    ]
    measured, published = ranking.table(found, "likelihood", by="nll")
    assert (measured.origin, published.origin) == ("measured", "published")
    assert measured.comparability == {"k": 100}
    assert [c.name for c in measured.columns] == ["elbo", "nll"]
    assert [line.model for line in measured.lines] == ["b", "a"]
    assert measured.lines[0].ranks == {"nll": 1, "elbo": 1}
    assert measured.lines[0].parameters == {"samples": 100}
    assert published.lines[0].ranks == {}
    assert published.lines[0].source == "Table 1"
    assert [line.model for line in ranking.table(found, "likelihood")[0].lines] == ["a", "b"]
    assert len(ranking.table(found)) == 3
    assert ranking.table([]) == []
    back = json.loads(json.dumps(ranking.to_json(found), allow_nan=False))
    assert back[0]["curve"] == {"x": [1.0, 2.0], "y": [0.5, 0.25], "x_name": "k", "y_name": "nll"}
    assert back[0]["parameters"] == {"samples": 100}
    assert back[2]["value"] == 9.0
    assert list(back[0]) == list(BASE)


def test_imports_no_torch() -> None:
    code = "import sys, vaebench.board, vaebench.ranking, vaebench.journal; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
