"""Rows laid out by a stranger: one run of what is asked for passes, and every lie that a file can show is told."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from board_rows import NO_VALUE
from click.testing import CliRunner
from safetensors.torch import save_file

from vaebench.boards import per_example as values
from vaebench.boards import store as board
from vaebench.boards.rows import Row
from vaebench.cli.main import main
from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.data import Source
from vaebench.core.metric import Metric
from vaebench.models import card as cards
from vaebench.models import loading
from vaebench.models.card import Card, Weights
from vaebench.submission import folder as submission
from vaebench.submission import rows as submission_rows

SOURCE = plugins.load("datasets", "digits")
assert isinstance(SOURCE, Source)
METRICS: dict[str, Metric] = {"likelihood": plugins.load("metrics", "likelihood")["quick"]}  # type: ignore[index]
TABLE = {"latent": 2, "hidden": [8], "likelihood": "categorical"}


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree that `vaebench submit` has laid out."""
    root = tmp_path_factory.mktemp("submission")
    card, mine = Card("mine", "digits", "A small model.", "flat", TABLE), root / "mine"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = loading.build_model(card, SOURCE.space)
    mine.mkdir()
    save_file(model.state_dict(), mine / "mine.safetensors")
    weights = Weights("mine.safetensors", files.sha256(mine / "mine.safetensors"))
    cards.write(dataclasses.replace(card, weights=weights), mine / "mine.toml")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VAEBENCH_CACHE", str(root / "cache"))
        patched.setattr(submission_rows, "required", lambda dataset: ["likelihood"])
        result = CliRunner().invoke(main, ["submit", str(mine), "--preset", "quick", "--out", str(root / "tree")])
    assert result.exit_code == 0, result.output
    return root / "tree"


@pytest.fixture
def tree(laid_out: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may spoil."""
    shutil.copytree(laid_out, tmp_path / "tree")
    return tmp_path / "tree"


def problems(tree: Path, metrics: dict[str, Metric] = METRICS) -> list[tuple[str, str]]:
    found, told = submission.read(tree)
    assert found is not None
    assert told == []
    assert found.boards == tree / "leaderboards"
    _, told = submission_rows.check(found, found.boards, {"standard": metrics}, SOURCE.fingerprint)
    return [tuple(problem) for problem in told]  # type: ignore[misc]


def rewrite(tree: Path, change: Callable[[list[Row]], list[Row]]) -> None:
    """Change the rows."""
    path = tree / "leaderboards" / "digits" / "mine.parquet"
    rows = change(board.read_file(path))
    path.write_bytes(board.encode(rows))


def test_what_submit_lays_out_is_in_order(tree: Path) -> None:
    assert problems(tree) == []
    rewrite(tree, lambda rows: rows)
    assert problems(tree) == []


def test_the_likelihood_and_what_the_board_has_is_asked_for(boards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "shipped_boards", lambda: boards)
    assert submission_rows.required("digits") == ["likelihood"]
    shipped = board.read(Path(__file__).parents[2] / "leaderboards", "digits")
    row = next(each for each in shipped if each.status == "ok")
    about = {"ok": row.value, "skipped": None, "failed": None}
    for metric, status in (("probe", "ok"), ("fid", "skipped"), ("tracin", "failed"), ("gone", "ok")):
        changes: dict[str, Any] = {**NO_VALUE, "metric": metric, "status": status, "value": about[status]}
        board.write(boards, [dataclasses.replace(row, **changes, reason=None if status == "ok" else "why")])
    assert submission_rows.required("digits") == ["likelihood", "probe"]
    assert submission_rows.required("mnist") == ["likelihood"]


LIES: dict[str, tuple[dict[str, Any], str]] = {
    "other weights": ({"weights_sha256": "0" * 64}, "likelihood: weights_sha256 is 000"),
    "other data": ({"data_fingerprint": "0" * 64}, "likelihood: data_fingerprint is 000"),
    "verified": ({"verified": "verified"}, "likelihood: verified is verified, not unverified"),
    "published": ({"origin": "published", "source": "me"}, "likelihood: origin is published, not measured"),
    "a seed of choice": ({"seed": 17}, "likelihood: seed is 17, not 0"),
    "an old version": ({"metric_version": 0}, "likelihood: metric_version is 0"),
    "easy parameters": (
        {"parameters": '{"samples": 1}'},
        "likelihood: parameters: repeats is None, not 3;",
    ),
    "another class": ({"comparability": "{}"}, "likelihood: its comparability class is not that of its parameters"),
    "another split": ({"split": "train"}, "likelihood: split is train, not test"),
    "skipped": ({"status": "skipped", "reason": "why", **NO_VALUE}, "likelihood is skipped: why"),
    "failed": ({"status": "failed", "reason": "why", **NO_VALUE}, "likelihood is failed: why"),
    "another metric": ({"metric": "made-up"}, "made-up is not asked for"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_in_every_row_is_told_once(lie: str, tree: Path) -> None:
    changes, says = LIES[lie]
    rewrite(tree, lambda rows: [dataclasses.replace(row, **changes) for row in rows])
    told = [fault for file, fault in problems(tree) if file == "leaderboards/digits/mine.parquet"]
    assert sum(says in fault for fault in told) == 1, told


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"better": "none"}, "likelihood gives no nll in nats, none, upper"),
        ({"column": "mine"}, "likelihood gives no mine in nats, lower, upper"),
        ({"unit": ""}, "likelihood gives no nll in no unit, lower, upper"),
        ({"value": 1.0, "low": 0.9, "high": 1.1}, "is stale: its mean is"),
    ],
)
def test_a_lie_in_one_row_is_told(changes: dict[str, Any], says: str, tree: Path) -> None:
    rewrite(tree, lambda rows: [dataclasses.replace(r, **changes) if r.column == "nll" else r for r in rows])
    ((file, fault),) = problems(tree)
    assert file == "leaderboards/digits/mine.parquet"
    assert says in fault
    assert str(tree) not in fault


def test_rows_of_another_preset_are_told_in_one_sentence_and_held_against_it(tree: Path) -> None:
    found, _ = submission.read(tree)
    assert found is not None
    standard: dict[str, Metric] = {"likelihood": plugins.load("metrics", "likelihood")["standard"]}  # type: ignore[index]
    presets = {"standard": standard, "quick": METRICS}
    _, told = submission_rows.check(found, tree / "leaderboards", presets, SOURCE.fingerprint)
    assert [problem.fault for problem in told] == ["measured at quick; a pull request needs standard"]
    rewrite(tree, lambda rows: [dataclasses.replace(row, seed=3) for row in rows])
    _, told = submission_rows.check(found, tree / "leaderboards", presets, SOURCE.fingerprint)
    assert "likelihood: seed is 3, not 0" in [problem.fault for problem in told]


def test_a_fault_of_several_metrics_is_one_sentence(tree: Path) -> None:
    probe = plugins.load("metrics", "probe")["quick"]  # type: ignore[index]
    parameters = json.dumps(dataclasses.asdict(probe), sort_keys=True)

    def both(rows: list[Row]) -> list[Row]:
        others = [dataclasses.replace(row, metric="probe", parameters=parameters) for row in rows]
        changed = [dataclasses.replace(row, weights_sha256="0" * 64) for row in (*others, *rows)]
        return sorted(changed, key=lambda row: row.identity)

    rewrite(tree, both)
    told = [fault for _, fault in problems(tree, {**METRICS, "probe": probe})]
    assert sum("weights_sha256 is 000" in fault for fault in told) == 1
    assert any(fault.startswith("likelihood, probe: weights_sha256 is 000") for fault in told)


def test_a_metric_that_is_not_there(tree: Path) -> None:
    metrics = {**METRICS, "probe": plugins.load("metrics", "probe")["quick"]}  # type: ignore[index]
    assert problems(tree, metrics) == [
        ("leaderboards/digits/mine.parquet", "lacks probe, which the board of digits has")
    ]


def test_a_pull_request_without_rows_is_told_how_to_get_them(tree: Path) -> None:
    (tree / "leaderboards" / "digits" / "mine.parquet").unlink()
    ((file, fault),) = problems(tree)
    assert file == "leaderboards/digits/mine.parquet"
    assert "`vaebench submit` on the folder of the card and its weights" in fault


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 9])
def test_rows_that_cannot_be_read(content: bytes, tree: Path) -> None:
    path = tree / "leaderboards" / "digits" / "mine.parquet"
    path.write_bytes(content)
    ((file, fault),) = problems(tree)
    assert file == "leaderboards/digits/mine.parquet"
    assert "cannot read leaderboards/digits/mine.parquet" in fault


@pytest.mark.parametrize(
    ("name", "content"),
    [("likelihood/x.png", b"<svg>"), ("likelihood/x.parquet", b"PK"), ("fid/x.png", b"\x89PNG\r\n\x1a\n")],
)
def test_kept_files_that_are_not_what_they_say(name: str, content: bytes, tree: Path) -> None:
    path = tree / "leaderboards" / "digits" / "mine" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    ((file, fault),) = problems(tree)
    assert (file, fault) == (
        f"leaderboards/digits/mine/{name}",
        f"is not a {path.suffix[1:]} file of a metric that is asked for",
    )


def test_values_that_are_damaged(tree: Path) -> None:
    (row,) = (r for r in board.read_file(tree / "leaderboards" / "digits" / "mine.parquet") if r.column == "nll")
    path = values.path(tree / "leaderboards", row)
    path.write_bytes(path.read_bytes()[:-1])
    ((_, fault),) = problems(tree)
    assert f"cannot read {path.relative_to(tree)}" in fault
