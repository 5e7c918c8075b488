"""`vaebench verify` and `vaebench reproduce`: honest rows stand, planted faults are found, refusals are one line."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from vaebench.boards import per_example as values
from vaebench.boards import store as board
from vaebench.boards.rows import Row
from vaebench.core import files
from vaebench.evaluation.journal import Journal
from vaebench.functional import intervals

Invoke = Callable[..., Result]
Args = tuple[object, ...]
VERIFY: Args = ("verify", "vae", "digits", "--leaderboards")
REPRODUCE: Args = ("reproduce", "vae", "digits", "--leaderboards")


@pytest.fixture
def measured(quick: Args, vaebench: Invoke, boards: Path) -> Path:
    assert vaebench(*quick).exit_code == 0
    return boards


def stored(boards: Path, seed: int = 0) -> dict[str, Row]:
    return {row.column: row for row in board.read(boards, "digits") if row.seed == seed}


def change(boards: Path, column: str, **changes: Any) -> None:
    """Falsify a row behind the board's back, its interval too."""
    path = boards / "digits" / "vae.parquet"
    rows = board.read_file(path)
    (row, *_) = (row for row in rows if row.column == column)
    if row.stderr is not None and "value" in changes:
        changes["low"], changes["high"] = intervals.student(changes["value"], row.stderr, row.df)
    rows = [dataclasses.replace(r, **changes) if r.column == column else r for r in rows]
    path.write_bytes(board.encode(rows))


def test_honest_rows_are_verified_and_again_changes_nothing(measured: Path, vaebench: Invoke) -> None:
    before = stored(measured)
    result = vaebench(*VERIFY, measured, "--json")
    assert result.exit_code == 0
    assert result.stderr == f"written to {measured / 'digits' / 'vae'}.parquet\n"
    found = {each["column"]: each for each in json.loads(result.stdout)}
    assert found.keys() == before.keys()
    assert {column: each["test"] for column, each in found.items()} == {
        **dict.fromkeys(before, "combined"), "nll": "paired", "bpd": "paired", "elbo": "paired"
    }  # fmt: skip
    assert {each["verdict"] for each in found.values()} == {"verified"}
    assert found["elbo"]["stderr"] < 0.2 * (before["elbo"].stderr or 0)  # what the examples share has cancelled
    after, evidence = stored(measured), stored(measured, 1000)
    assert {column: dataclasses.replace(row, verified="unverified") for column, row in after.items()} == before
    assert {row.verified for row in (*after.values(), *evidence.values())} == {"verified"}
    assert all(evidence[column].value != row.value for column, row in after.items())
    assert not values.path(measured, evidence["nll"]).exists()
    content = {path: path.read_bytes() for path in measured.rglob("*.*")}
    assert vaebench(*VERIFY, measured).exit_code == 0
    assert {path: path.read_bytes() for path in measured.rglob("*.*")} == content


def test_a_table_is_printed(measured: Path, vaebench: Invoke) -> None:
    result = vaebench(*VERIFY, measured, "--dry-run")
    assert "vae on digits: rows against seed 1000, level 0.01" in result.stdout
    assert result.stdout.count("verified") == 7
    assert result.stderr == ""
    assert {row.verified for row in board.read(measured, "digits")} == {"unverified"}


def test_a_false_row_is_refuted_and_loses_its_rank(measured: Path, vaebench: Invoke) -> None:
    honest = stored(measured)["rate"]
    change(measured, "rate", value=(honest.value or 0) - 10 * (honest.stderr or 0))
    change(measured, "bpd", value=1.9)
    result = vaebench(*VERIFY, measured, "--json")
    assert result.exit_code == 1
    assert "confirming likelihood rate with seeds 1001 to 1005" in result.stderr
    verdicts = {each["column"]: each["verdict"] for each in json.loads(result.stdout)}
    tests = {each["column"]: each["test"] for each in json.loads(result.stdout) if each["verdict"] == "refuted"}
    assert tests == {"rate": "repeated", "bpd": "paired"}
    assert {row.seed for row in board.read(measured, "digits")} == {0, 1000}
    assert {column for column, verdict in verdicts.items() if verdict == "refuted"} == {"rate", "bpd"}
    assert {column: row.verified for column, row in stored(measured).items()} == verdicts
    assert stored(measured, 1000)["bpd"].verified == "unverified"
    shown = vaebench("board", "show", "digits", "--leaderboards", measured).stdout
    assert "1.900 ± 0.012 br" in shown
    assert "b bound loose, r refuted" in shown
    assert vaebench(*VERIFY, measured, "--level", 1e-300).exit_code == 0  # nothing is refuted at such a level


def test_paired_values_find_what_the_standard_errors_hide(measured: Path, vaebench: Invoke, tmp_path: Path) -> None:
    """Less than a standard error, claimed with values to match: refuted with them, and not without them."""
    row = stored(measured)["elbo"]
    shift = 0.8 * (row.stderr or 0)
    file = values.path(measured, row)
    about = {field: getattr(row, field) for field in values.ABOUT}
    kept = {c: values.read(measured, stored(measured)[c]) for c in ("nll", "elbo")}
    file.write_bytes(values.encode({"nll": kept["nll"], "elbo": kept["elbo"] + shift}, about))
    change(measured, "elbo", value=(row.value or 0) + shift)
    verify = (*VERIFY, measured, "--json", "--dry-run")
    verdicts = {each["column"]: (each["test"], each["verdict"]) for each in json.loads(vaebench(*verify).stdout)}
    assert (verdicts["elbo"], verdicts["nll"]) == (("paired", "refuted"), ("paired", "verified"))
    shutil.rmtree(file.parent)
    result = vaebench(*verify)
    verdicts = {each["column"]: (each["test"], each["verdict"]) for each in json.loads(result.stdout)}
    assert verdicts["elbo"] == ("combined", "verified")


def test_stale_values_are_told_and_not_used(measured: Path, vaebench: Invoke) -> None:
    row = stored(measured)["elbo"]
    change(measured, "elbo", value=(row.value or 0) + 0.3 * (row.stderr or 0))
    result = vaebench(*VERIFY, measured, "--json", "--dry-run")
    assert result.stderr.startswith("not used: ")
    assert "is stale: its mean is" in result.stderr
    assert {e["column"]: e["test"] for e in json.loads(result.stdout)}["elbo"] == "combined"


def test_columns_without_a_standard_error(
    quick: Args, plant: Callable[..., None], vaebench: Invoke, boards: Path
) -> None:
    plant("odd", "yield Measurement('two', 2.0 if run._seed < 1000 else 3.0, None, 360)")
    assert vaebench(*quick, "--metric", "odd").exit_code == 0
    result = vaebench(*VERIFY, boards, "--metric", "odd", "--json")
    assert result.exit_code == 1
    found = {each["column"]: (each["test"], each["verdict"], each["p"]) for each in json.loads(result.stdout)}
    assert found == {"one": ("combined", "verified", 1.0), "two": ("exact", "refuted", None)}


def test_a_wrong_standard_error_alone_does_not_refute(
    quick: Args, plant: Callable[..., None], vaebench: Invoke, boards: Path
) -> None:
    """The metric's values vary by 1 from seed to seed, and it claims a tenth of that."""
    plant("odd", "yield Measurement('two', float((run._seed * 7919) % 13), 0.1, 360)")
    assert vaebench(*quick, "--metric", "odd").exit_code == 0
    result = vaebench(*VERIFY, boards, "--metric", "odd", "--json", "--dry-run")
    assert (result.exit_code, result.stderr) == (0, "confirming odd two with seeds 1001 to 1005\n")
    assert {each["column"]: each["test"] for each in json.loads(result.stdout)} == {
        "one": "combined",
        "two": "repeated",
    }
    result = vaebench(*VERIFY, boards, "--metric", "odd", "--json", "--dry-run", "--confirm", 0)
    assert (result.exit_code, result.stderr) == (1, "")


def test_a_re_evaluation_that_fails_gives_no_verdict(
    quick: Args, plant: Callable[..., None], vaebench: Invoke, boards: Path
) -> None:
    plant("odd", "if run._seed == 1000: raise ValueError('no')")
    assert vaebench(*quick, "--metric", "odd").exit_code == 0
    result = vaebench(*VERIFY, boards, "--metric", "odd", "--json")
    assert result.exit_code == 1
    (found,) = json.loads(result.stdout)
    assert (found["verdict"], found["note"]) == ("unverified", "failed: ValueError: no")
    assert {row.verified for row in board.read(boards, "digits")} == {"unverified"}


def test_every_protocol_and_seed_is_judged(quick: Args, measured: Path, vaebench: Invoke) -> None:
    for more in (("--seed", 1), ("--set", "likelihood.samples=20")):
        assert vaebench(*quick, *more).exit_code == 0
    found = json.loads(vaebench(*VERIFY, measured, "--json").stdout)
    told = {(each["seeds"][0], json.loads(each["parameters"])["samples"]) for each in found}
    assert told == {(0, 10), (1, 10), (0, 20)}
    assert len(found) == 21
    assert {row.verified for row in board.read(measured, "digits")} == {"verified"}


def test_what_cannot_be_verified_is_refused_in_one_line(
    measured: Path, refused: Callable[..., str], zoo_card: Path, tmp_path: Path
) -> None:
    refused(2, ("verify", "vea", "digits", "--leaderboards", measured), "unknown model 'vea'", "'vae'")
    refused(2, (*VERIFY, measured, "--metric", "likelihod"), "unknown metric 'likelihod'")
    refused(2, (*VERIFY, measured, "--seed", 0), "rows of seed 0 only; give another --seed")
    refused(
        2, ("verify", "vae", "digit", "--leaderboards", measured), "unknown dataset 'digit'; did you mean 'digits'?"
    )
    (tmp_path / "none").mkdir()
    refused(2, (*VERIFY, tmp_path / "none"), "no measured rows of digits are in", "; vaebench run", "--leaderboards")
    refused(2, (*VERIFY, measured, "--level", 0), "--level", "0")
    other = zoo_card.parent / "dpvae.toml"
    zoo_card.rename(other)
    refused(2, (*VERIFY, measured, "--card", other), "is of dpvae, not of vae")
    for changes, says in (
        ({"weights_sha256": "f" * 64}, "was measured on weights ffffffffffff, not"),
        ({"data_fingerprint": "e" * 64}, "was measured on data eeeeeeeeeeee, not"),
        ({"metric_version": 99}, "likelihood is of version 99, here is"),
        ({"parameters": '{"sample": 10}'}, "unknown key 'sample'"),
    ):
        path = measured / "digits" / "vae.parquet"
        before = path.read_bytes()
        rows = [dataclasses.replace(row, **changes) for row in board.read_file(path)]  # type: ignore[arg-type]
        path.write_bytes(board.encode(rows))
        refused(2, (*VERIFY, measured), says)
        refused(2, (*REPRODUCE, measured), says)
        path.write_bytes(before)


def test_without_a_board_of_one_s_own_the_shipped_one_is_read(
    measured: Path, vaebench: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `board` does; what is judged is written to one's own, and the shipped one stays as it is."""
    monkeypatch.setattr(files, "shipped_boards", lambda: measured)
    own, before = tmp_path / "own", {path: path.read_bytes() for path in measured.rglob("*") if path.is_file()}
    told = f"there is no folder {own}: this is the board that vaebench ships"
    for command in ((*REPRODUCE, own), (*VERIFY, own, "--dry-run")):
        result = vaebench(*command)
        assert result.exit_code == 0, result.output
        assert told in result.stderr
        assert not own.exists()
    assert vaebench(*VERIFY, own).exit_code == 0
    assert {row.verified for row in board.read(own, "digits")} == {"verified"}
    assert {row.seed for row in board.read(own, "digits")} == {0, 1000}
    assert {path: path.read_bytes() for path in measured.rglob("*") if path.is_file()} == before


# --- reproduce ----------------------------------------------------------------------------------------------------


def test_a_run_is_reproduced_bit_for_bit_without_the_journal(
    measured: Path, vaebench: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Journal, "get", lambda *_: pytest.fail("read the journal"))
    content = {path: path.read_bytes() for path in measured.rglob("*.*")}
    result = vaebench(*REPRODUCE, measured)
    assert (result.exit_code, result.stderr) == (0, "the environment is the same\n")
    assert result.stdout.count("bit for bit") == 7
    found = json.loads(vaebench(*REPRODUCE, measured, "--column", "nll", "--json").stdout)
    assert found["environment"] == []
    assert [(each["column"], each["agreement"]) for each in found["columns"]] == [("nll", "bit for bit")]
    assert found["columns"][0]["row"] == found["columns"][0]["now"]
    assert {path: path.read_bytes() for path in measured.rglob("*.*")} == content


@pytest.mark.slow
def test_a_run_that_read_a_trajectory_is_reproduced_with_it(vaebench: Invoke, boards: Path) -> None:
    subject = ("--leaderboards", boards, "--metric", "tracin")
    run = (
        "run",
        "--model",
        "vae",
        "--dataset",
        "digits-contaminated",
        "--preset",
        "quick",
        "--set",
        "tracin.queries=4",
    )
    assert vaebench(*run, *subject).exit_code == 0
    result = vaebench("reproduce", "vae", "digits-contaminated", *subject)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("bit for bit") == 6


def test_what_differs_is_said(measured: Path, vaebench: Invoke) -> None:
    nll = stored(measured)["nll"]
    change(measured, "nll", value=(nll.value or 0) * (1 + 1e-7))
    change(measured, "rate", value=8.0)
    for column in stored(measured):
        change(measured, column, torch="1.0", commit="abc", dtype="float32")
    result = vaebench(*REPRODUCE, measured, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert {each["part"]: each["row"] for each in found["environment"]} == {"torch": "1.0", "commit": "abc"}
    agreements = {each["column"]: each["agreement"] for each in found["columns"]}
    assert agreements["nll"] == "within rounding"
    assert agreements["rate"] == "different"
    assert set(agreements.values()) == {"bit for bit", "within rounding", "different"}
    shown = vaebench(*REPRODUCE, measured).stdout
    assert "torch" in shown
    assert "environment" in shown
    assert vaebench(*REPRODUCE, measured, "--column", "nll").exit_code == 0


def test_the_row_s_own_type_and_seed_are_used(quick: Args, vaebench: Invoke, boards: Path) -> None:
    assert vaebench(*quick, "--dtype", "float64", "--seed", 3).exit_code == 0
    result = vaebench(*REPRODUCE, boards)
    assert (result.exit_code, result.stdout.count("bit for bit")) == (0, 7)
    assert "seed 3" in result.stdout
    for row in stored(boards, 3).values():
        change(boards, row.column, dtype="float32")
    assert vaebench(*REPRODUCE, boards).stdout.count("bit for bit") == 0


def test_one_run_has_to_be_chosen(quick: Args, measured: Path, vaebench: Invoke, refused: Callable[..., str]) -> None:
    for more in (("--seed", 1), ("--set", "likelihood.samples=20")):
        assert vaebench(*quick, *more).exit_code == 0
    refused(2, (*REPRODUCE, measured), "3 runs fit: likelihood, seed 0,", "--metric, --seed or --class")
    refused(2, (*REPRODUCE, measured, "--seed", 5), "no such row of seed 5")
    refused(2, (*REPRODUCE, measured, "--class", "samples=30"), "no samples=30; there are: 10, 20")
    refused(2, (*REPRODUCE, measured, "--column", "nil"), "unknown column 'nil'", "'nll'")
    refused(2, (*REPRODUCE, measured, "--seed", 1, "--device", "cuda:9"), "device 'cuda:9'")
    for more in (("--seed", 1), ("--class", "samples=20")):
        assert vaebench(*REPRODUCE, measured, *more).exit_code == 0


def test_a_user_s_own_model_is_verified_by_its_card(
    write_card: Callable[..., Path], vaebench: Invoke, tmp_path: Path, boards: Path
) -> None:
    out = tmp_path / "out"
    assert vaebench("train", "--card", write_card(), "--out", out).exit_code == 0
    run = ("run", "--card", out / "mine.toml", "--metric", "likelihood", "--set", "likelihood.samples=5")
    assert vaebench(*run, "--leaderboards", boards).exit_code == 0
    mine = ("mine", "digits", "--card", out / "mine.toml", "--leaderboards", boards)
    assert vaebench("verify", *mine).exit_code == 0
    assert vaebench("reproduce", *mine, "--seed", 0).exit_code == 0


def test_rows_of_other_weights_under_the_name_are_left_alone(measured: Path, vaebench: Invoke) -> None:
    other = [dataclasses.replace(row, weights_sha256="0" * 64) for row in board.read(measured, "digits")]
    board.write(measured, other)
    assert len(board.read(measured, "digits")) == 2 * len(other)
    assert vaebench(*VERIFY, measured).exit_code == 0
    rows = board.read(measured, "digits")
    assert {row.verified for row in rows if row.weights_sha256 == "0" * 64} == {"unverified"}
    assert {row.verified for row in rows if row.weights_sha256 != "0" * 64} == {"verified"}
    assert vaebench(*REPRODUCE, measured, "--seed", 0).exit_code == 0
