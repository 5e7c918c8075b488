"""One's own rows over the shipped boards: marked at reading, in the place of equal runs, and in no file."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from board_rows import FAILED, row
from click.testing import Result

import vaebench as package
from vaebench.boards import headline, overlay
from vaebench.boards import store as board
from vaebench.core import files
from vaebench.core.names import YOURS

Invoke = Callable[..., Result]
RUN = ("run", "--model", "vae", "--dataset", "digits", "--metric", "likelihood", "--set", "likelihood.samples=10")
CLASS = ("--class", "samples=10")


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two shipped models, and none of one's own in `results` of the working folder."""
    folder = tmp_path / "shipped"
    board.write(folder, [row(verified="verified"), row(model="dpvae", weights_sha256="dd", value=80.0)])
    monkeypatch.setattr(files, "shipped_boards", lambda: folder)
    monkeypatch.delenv("VAEBENCH_RESULTS")
    monkeypatch.chdir(tmp_path)
    return folder


def _told(boards: overlay.Boards) -> list[tuple[str, float | None, bool]]:
    return [(each.model, each.value, YOURS in each.marks) for each in boards.read("digits")]


def test_without_rows_of_ones_own_the_shipped_ones_are_read(shipped: Path) -> None:
    assert overlay.opened().own is None
    assert overlay.opened().read("digits") == board.read(shipped, "digits")


def test_own_rows_stand_among_the_shipped_ones_or_in_the_place_of_the_same_run(shipped: Path) -> None:
    mine = [
        row(model="mine", weights_sha256="ee", value=85.0),
        row(),
        row(seed=1),
        row(weights_sha256="ff", value=90.0),
    ]
    board.write(Path("results"), mine)
    found = overlay.opened()
    assert found.datasets() == ["digits"]
    assert sorted(_told(found)) == [
        ("dpvae", 80.0, False),
        ("mine", 85.0, True),
        ("vae", 84.5, True),  # in the place of the shipped one, which it reproduces
        ("vae", 84.5, True),  # of another seed
        ("vae", 90.0, True),  # of other weights
    ]
    assert {each.verified for each in found.read("digits")} == {"unverified"}


def test_a_failed_run_or_one_of_an_older_version_displaces_no_value(shipped: Path) -> None:
    board.write(Path("results"), [row(**FAILED), row(model="dpvae", weights_sha256="dd", value=1.0, metric_version=0)])
    assert _told(overlay.opened()) == [("dpvae", 80.0, False), ("vae", 84.5, False)]


def test_what_was_kept_is_read_from_the_folder_of_its_row(shipped: Path) -> None:
    board.write(Path("results"), [row(model="mine")])
    found = overlay.opened()
    roots = {each.model: found.root(each) for each in found.read("digits")}
    assert roots == {"dpvae": shipped, "vae": shipped, "mine": Path("results")}
    assert found.folders("digits", "mine") == [Path("results/digits/mine"), shipped / "digits" / "mine"]


def test_the_mark_is_written_to_no_file_and_believed_of_none(shipped: Path) -> None:
    marked = dataclasses.replace(row(model="mine"), marks=(YOURS,))
    board.write(Path("results"), [marked])
    assert board.read(Path("results"), "digits")[0].marks == ()
    (shipped / "digits" / "mine.parquet").write_bytes(board.encode([marked]))
    shutil.rmtree("results")
    assert {mine for _, _, mine in _told(overlay.opened())} == {False}


def test_a_folder_that_is_named_is_read_alone_and_a_shipped_one_holds_nothing_of_yours(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.write(Path("results"), [row(model="mine")])
    assert _told(overlay.opened("results")) == [("mine", 84.5, False)]
    assert [model for model, _, _ in _told(overlay.opened(shipped))] == ["dpvae", "vae"]
    monkeypatch.setenv("VAEBENCH_RESULTS", str(shipped))
    assert overlay.opened().own is None


def test_a_line_is_yours_where_nothing_of_it_is_shipped(shipped: Path) -> None:
    board.write(Path("results"), [row(model="mine", weights_sha256="ee", column="elbo"), row(column="elbo")])
    table = headline.of_rows("digits", overlay.opened().read("digits"))
    said = {line.model: (line.yours, headline.marks_of(line, table.columns)) for line in table.lines}
    assert said["dpvae"] == (False, "")
    assert said["mine"][0]
    assert not said["vae"][0]


def test_every_verb_reads_both_and_the_shipped_ones_stay_as_they_are(
    vaebench: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user does it, in an empty folder, with the boards that are shipped."""
    monkeypatch.delenv("VAEBENCH_RESULTS")
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in files.shipped_boards().rglob("*")}
    done = vaebench(*RUN)
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (0, "written to results/digits/vae.parquet")
    assert {path.name for path in tmp_path.iterdir()} == {"results"}
    assert "│ vae (yours) │" in vaebench("board", "show", "digits", *CLASS).stdout
    shown = vaebench("board", "show", "digits")
    assert shown.stderr == "your rows of vae are of other protocols than these columns: --all shows them\n"
    assert "nvae" in shown.stdout
    assert "yours: bpd, distortion" in vaebench("board", "csv", "digits", *CLASS).stdout
    frame = package.board("digits", table="rows")
    assert set(frame[frame.marks.map(lambda marks: YOURS in marks)].parameters.map(json.loads).map(len)) == {
        len(json.loads(board.read(Path("results"), "digits")[0].parameters))
    }
    assert set(frame.model) >= {"vae", "nvae", "iwae"}
    assert YOURS not in vaebench("export", "vae", "digits", *CLASS, "--format", "jsonl").stdout
    assert vaebench(*RUN, "--only-missing").stderr.endswith("nothing is missing in results/digits/vae.parquet\n")
    again = vaebench("reproduce", "vae", "digits", *CLASS)
    assert (again.exit_code, again.stdout.count("bit for bit")) == (0, 7)

    assert {path: path.stat().st_mtime_ns for path in files.shipped_boards().rglob("*")} == before


def test_a_damaged_own_board_is_one_line(shipped: Path, refused: Callable[..., str]) -> None:
    board.write(Path("results"), [row(model="mine")])
    path = Path("results/digits/mine.parquet")
    path.write_bytes(path.read_bytes()[:50])
    for verb in (("board", "show", "digits"), ("board", "csv", "digits"), RUN, ("reproduce", "vae", "digits")):
        refused(3, verb, "cannot read results/digits/mine.parquet", "restore it, or delete it and run again")


def test_a_missing_board_names_both_folders(shipped: Path, refused: Callable[..., str]) -> None:
    board.write(Path("results"), [row(model="mine")])
    refused(
        2, ("board", "csv", "mnis"), "results and the shipped boards: unknown dataset 'mnis'; did you mean 'mnist'?"
    )
