"""Laws of the leaderboard files: bytes, CSV, damage, full disks, locks."""

import csv
import errno
import io
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from board_rows import FAILED, LAW, PUBLISHED, any_rows, distinct, row
from hypothesis import given
from hypothesis import strategies as st

from vaebench.boards import export
from vaebench.boards import store as board
from vaebench.boards.rows import CSV_AFTER, CSV_BEFORE, Row
from vaebench.core.errors import DataError, UserError


@LAW
@given(st.lists(any_rows(), min_size=1, max_size=6).map(distinct))
def test_file_holds_the_rows(tmp_path_factory: pytest.TempPathFactory, found: list[Row]) -> None:
    root = tmp_path_factory.mktemp("board")
    board.write(root, found)
    assert board.read(root, "digits") == board.merge([], found)
    path = root / "digits" / "vae.parquet"
    content = path.read_bytes()
    assert content == board.encode(board.read(root, "digits"))  # equal rows, equal bytes
    schema = pq.read_schema(path)
    assert schema.remove_metadata().equals(board.SCHEMA)
    rows = str(len(board.read(root, "digits"))).encode()
    assert {key: schema.metadata[key] for key in (b"schema", b"rows")} == {b"schema": b"2", b"rows": rows}
    stamp = path.stat().st_mtime_ns, (root / "digits.csv").stat().st_mtime_ns
    board.write(root, found[::-1])
    assert stamp == (path.stat().st_mtime_ns, (root / "digits.csv").stat().st_mtime_ns)
    assert sorted(p.name for p in root.rglob("*")) == ["digits", "digits.csv", "vae.parquet"]
    check_csv(root)


def check_csv(root: Path) -> None:
    """The CSV of all columns says what the rows say, number by number."""
    assert (root / "digits.csv").read_text().startswith("rank,rank_to,model,")
    cells = {}
    for line in csv.DictReader(io.StringIO(export.to_csv(board.read(root, "digits")))):
        for name, text in line.items():
            if name not in (*CSV_BEFORE, *CSV_AFTER) and text:
                who = line["model"], line["facet"], line["weights_sha256"]
                cells[(*who, line["origin"], line["source"], line["seed"], line["parameters"], name)] = text
    expected = {}
    for each in board.read(root, "digits"):
        seed = "" if each.seed is None else str(each.seed)
        source = export._cell(each.source)
        for name, number in ((each.column, each.value), (f"{each.column}_stderr", each.stderr)):
            if number is not None:
                who = each.model, export._cell(each.facet), each.weights_sha256 or ""
                key = (*who, each.origin, source, seed,
                       each.parameters, export._cell(name))  # fmt: skip
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
    found = pd.read_csv(io.StringIO(export.to_csv(board.read(tmp_path, "digits"))))
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
    script = "import sys; from pathlib import Path; from vaebench.boards import store as board\n"
    script += f"with board.locked(Path({str(tmp_path)!r}), 'digits'): print('held', flush=True); sys.stdin.read()"
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


def test_imports_no_torch() -> None:
    modules = "vaebench.boards.store, vaebench.boards.ranking, vaebench.evaluation.journal"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
