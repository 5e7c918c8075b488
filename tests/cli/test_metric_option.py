"""`--metric` means the same in every verb: it can be given again, and a column is not one."""

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from vaebench.boards import store as board
from vaebench.core import files

Invoke = Callable[..., Result]
Refused = Callable[..., str]
RUN = ("run", "--model", "vae", "--dataset", "digits", "--set", "likelihood.samples=2")
TWO = ("--metric", "likelihood", "--metric", "reconstruction")
BOTH = {"likelihood", "reconstruction"}


@pytest.fixture
def measured(vaebench: Invoke, boards: Path) -> Path:
    """A board that has the vae's rows of three metrics."""
    done = vaebench(*RUN, *TWO, "--metric", "information", "--preset", "quick", "--leaderboards", boards)
    assert done.exit_code == 0, done.output
    return boards


def metrics(result: Result) -> set[str]:
    assert result.exit_code == 0, result.output
    return {row["metric"] for row in json.loads(result.stdout)}


def test_verify_takes_several(vaebench: Invoke, measured: Path) -> None:
    verify = ("verify", "vae", "digits", "--leaderboards", measured, "--json")
    assert metrics(vaebench(*verify, *TWO)) == BOTH
    rows = board.read(measured, "digits")
    assert {row.metric for row in rows if row.seed == 1000} == BOTH
    assert {row.metric for row in rows if row.verified == "verified"} == BOTH


def test_reproduce_takes_one_run_of_those_named(vaebench: Invoke, refused: Refused, measured: Path) -> None:
    reproduce = ("reproduce", "vae", "digits", "--leaderboards", measured, "--json")
    refused(2, (*reproduce, *TWO), "2 runs fit", "choose one with --metric")
    one = vaebench(*reproduce, *TWO, "--column", "nll")
    assert {each["column"] for each in json.loads(one.stdout)["columns"]} == {"nll"}


@pytest.mark.parametrize(
    "verb", [("board", "show", "digits", "--json"), ("export", "vae", "digits", "--format", "jsonl", "--json")], ids=str
)
def test_boards_are_shown_of_several(verb: tuple[str, ...], vaebench: Invoke) -> None:
    assert metrics(vaebench(*verb, *TWO)) == BOTH
    assert metrics(vaebench(*verb, *TWO[:2])) == {"likelihood"}
    assert metrics(vaebench(*verb)) > BOTH


def test_a_board_as_csv_of_several(vaebench: Invoke) -> None:
    lines = vaebench("board", "csv", "digits", *TWO).stdout.splitlines()
    place = lines[0].split(",").index("metric")
    assert {line.split(",")[place] for line in lines[1:]} == BOTH


def test_check_takes_several(vaebench: Invoke) -> None:
    found = json.loads(vaebench("check", "--model", "vae", "--dataset", "two-moons", *TWO, "--json").stdout)
    alone = json.loads(vaebench("check", "--model", "vae", "--dataset", "two-moons", *TWO[:2], "--json").stdout)
    assert len(found) > len(alone)


VERBS: dict[str, tuple[object, ...]] = {
    "run": RUN,
    "check": ("check", "--model", "vae", "--dataset", "digits"),
    "verify": ("verify", "vae", "digits", "--leaderboards", files.shipped_boards(), "--dry-run"),
    "reproduce": ("reproduce", "vae", "digits", "--leaderboards", files.shipped_boards()),
    "show": ("board", "show", "digits"),
    "csv": ("board", "csv", "digits"),
    "export": ("export", "vae", "digits"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("nll", ["'nll' is not a metric but a column of 'likelihood'", "give the metric 'likelihood'"]),
        ("likelihod", ["unknown metric 'likelihod'", "did you mean 'likelihood'?"]),
    ],
)
def test_a_column_or_a_slip_is_told(verb: str, given: str, says: Collection[Any], refused: Refused) -> None:
    refused(2, (*VERBS[verb], "--metric", "likelihood", "--metric", given), *says)


def test_both_names_of_an_option_are_one(vaebench: Invoke, zoo_card: Path, boards: Path) -> None:
    weights = zoo_card.with_suffix(".safetensors")
    run = ("run", "--card", zoo_card, *TWO[:2], "--set", "likelihood.samples=2", "--leaderboards", boards, "--json")
    found = [json.loads(vaebench(*run, "--fresh", name, weights).stdout) for name in ("--weights", "--checkpoint")]
    assert [row["value"] for row in found[0]] == [row["value"] for row in found[1]]
    cut = json.loads(vaebench(*run, "--fresh", "--max-draws", 7).stdout)
    assert [row["value"] for row in cut] == [pytest.approx(row["value"], rel=1e-5) for row in found[0]]


def test_run_says_what_takes_long_and_is_left_out(vaebench: Invoke) -> None:
    whole = ("run", "--model", "vae", "--dataset", "two-moons", "--only-missing")  # the board has what can be measured
    told = vaebench(*whole)
    assert told.exit_code == 0, told.output
    assert told.stderr.splitlines()[-1].startswith("left out, because they take long: certified, regret; to")
    assert "left out" not in vaebench(*whole, "--metric", "size").stderr
