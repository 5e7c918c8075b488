"""`vaebench submit`: what is wrong in one list, else the files of a pull request, and nothing but those."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result
from safetensors.torch import save_file

from vaebench.boards import store as board
from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.data import Source
from vaebench.models import card as cards
from vaebench.models import loading
from vaebench.submission import rows as submission_rows

Invoke = Callable[..., Result]
WriteCard = Callable[..., Path]
Refused = Callable[..., str]
Args = tuple[object, ...]


@pytest.fixture
def remake(tmp_path: Path, write_card: WriteCard) -> Callable[[int], Path]:
    """Makes a submission in which nothing is wrong, with weights by seed."""

    def make(seed: int) -> Path:
        folder = tmp_path / "mine"
        source = plugins.load("datasets", "digits")
        assert isinstance(source, Source)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = loading.build_model(cards.read(write_card(folder=folder)), source.space)
        weights = folder / "mine.safetensors"
        save_file(model.state_dict(), weights)
        named = {"weights.file": f"'{weights.name}'", "weights.sha256": f"'{files.sha256(weights)}'"}
        write_card(changes=named, folder=folder)
        return folder

    return make


@pytest.fixture
def mine(remake: Callable[[int], Path]) -> Path:
    return remake(0)


@pytest.fixture
def submit(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Args:
    """The arguments of a submission that is measured in a moment."""
    monkeypatch.setattr(submission_rows, "required", lambda dataset: ["likelihood"])
    return ("submit", mine, "--preset", "quick", "--out", tmp_path / "out")


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_dry_run_checks_and_writes_nothing(
    mine: Path, vaebench: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = content(tmp_path)
    result = vaebench("submit", mine, "--dry-run")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "digits/mine: nothing is wrong\n")
    assert json.loads(vaebench("submit", mine, "--dry-run", "--json").stdout) == {
        "problems": [],
        "files": [],
        "rows": [],
    }
    assert content(tmp_path) == before


def test_what_is_wrong_is_one_list_and_nothing_is_measured(
    submit: Args, mine: Path, vaebench: Invoke, tmp_path: Path
) -> None:
    (mine / "weights.pt").touch()
    (mine / "bad\x1b[31m.txt").touch()
    (mine / "link").symlink_to(tmp_path)
    for arguments in (submit, (*submit, "--dry-run")):
        result = vaebench(*arguments)
        assert (result.exit_code, result.stderr) == (1, "")
        assert "\x1b" not in result.stdout
        for text in ("bad\\x1b[31m.txt", "weights.pt", "may be a pickle", "is a symbolic link"):
            assert text in result.stdout
        told = json.loads(vaebench(*arguments, "--json").stdout)
        assert [problem["file"] for problem in told["problems"]] == ["bad\x1b[31m.txt", "link", "weights.pt"]
    assert not (tmp_path / "out").exists()


def test_a_fault_does_not_fill_the_screen(mine: Path, write_card: WriteCard, vaebench: Invoke) -> None:
    write_card(changes={"notes": str([9] * 4_000)}, folder=mine)
    result = vaebench("submit", mine, "--dry-run")
    assert result.exit_code == 1
    assert "notes = [9, 9, 9" in result.stdout
    assert len(result.stdout.splitlines()) < 12


def test_the_files_of_a_pull_request_are_laid_out(
    submit: Args, mine: Path, vaebench: Invoke, tmp_path: Path, remake: Callable[[int], Path]
) -> None:
    out = tmp_path / "out"
    result = vaebench(*submit)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("measured at quick; a pull request needs standard") == 1
    assert "mine among the models of digits" in result.stdout
    assert re.search(r"│ Density estimation │ NLL      │    - │ +[0-9.]+ ± [0-9.]+", result.stdout)
    assert len(result.stdout.splitlines()) < 24
    found = content(out)
    values = [name for name in found if "/values-" in name]
    assert len(values) == 1
    assert sorted(found) == sorted(
        ["model_zoo/digits/mine.toml", "model_zoo/digits/mine.safetensors", "leaderboards/digits/mine.parquet",
         *values]
    )  # fmt: skip
    assert all(f"│ {name} " in result.stdout for name in found)
    assert found["model_zoo/digits/mine.safetensors"] == (mine / "mine.safetensors").read_bytes()
    assert cards.read(out / "model_zoo/digits/mine.toml") == cards.read(mine / "mine.toml")
    rows = board.read_file(out / "leaderboards/digits/mine.parquet")
    assert {row.verified for row in rows} == {"unverified"}
    again = vaebench("submit", out, "--dry-run", "--preset", "quick")
    told = "digits/mine: nothing is wrong\nmeasured at quick; a pull request needs standard\n"
    assert (again.exit_code, again.stderr) == (0, told)
    assert again.stdout in result.stdout
    assert vaebench(*submit).exit_code == 0
    assert content(out).keys() == found.keys()

    remake(1)  # other weights under the same id, not merged yet: what was laid out is replaced
    told = json.loads(vaebench(*submit, "--json").stdout)
    (kept,) = (name for name in told["files"] if "/values-" in name)
    assert kept not in values  # its name is of the weights
    assert sorted(told["files"]) == sorted({*found, kept} - {*values}) == sorted(content(out))
    assert {row["weights_sha256"] for row in told["rows"]} == {files.sha256(mine / "mine.safetensors")}
    assert content(out)["model_zoo/digits/mine.safetensors"] != found["model_zoo/digits/mine.safetensors"]


def test_rows_of_another_preset_are_told(submit: Args, vaebench: Invoke, tmp_path: Path) -> None:
    assert vaebench(*submit).exit_code == 0
    result = vaebench("submit", tmp_path / "out", "--dry-run")
    assert result.exit_code == 1
    assert result.stdout.count("measured at quick; a pull request needs standard") == 1
    assert "parameters" not in result.stdout


def test_a_metric_that_fails_is_told_and_nothing_is_laid_out(
    submit: Args,
    plant: Callable[..., None],
    vaebench: Invoke,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant("odd", "raise ValueError('no')")
    monkeypatch.setattr(submission_rows, "required", lambda dataset: ["likelihood", "odd"])
    result = vaebench(*submit)
    assert result.exit_code == 1
    assert "odd is failed: ValueError: no" in result.stdout
    assert not (tmp_path / "out").exists()


def test_a_metric_that_does_not_apply_is_no_fault(
    submit: Args,
    plant: Callable[..., None],
    vaebench: Invoke,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant("odd", unsupported="return 'there is nothing to measure'")
    monkeypatch.setattr(submission_rows, "required", lambda dataset: ["likelihood", "odd"])
    assert vaebench(*submit).exit_code == 0
    rows = board.read_file(tmp_path / "out/leaderboards/digits/mine.parquet")
    assert {row.status for row in rows if row.metric == "odd"} == {"skipped"}


def test_weights_behind_a_url_are_not_laid_out(
    submit: Args, mine: Path, vaebench: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "cached"
    (mine / "mine.safetensors").rename(cached)
    monkeypatch.setattr(cards.Card, "weights_path", lambda card, progress: cached)
    assert vaebench(*submit).exit_code == 0
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_mistakes_are_one_line(submit: Args, mine: Path, refused: Refused, tmp_path: Path, vaebench: Invoke) -> None:
    refused(2, ("submit",), "Missing argument", "FOLDER")
    refused(2, ("submit", tmp_path / "none"), "is absent; give the folder")
    (tmp_path / "mine.tar.gz").touch()
    refused(2, ("submit", tmp_path / "mine.tar.gz"), "is an archive; unpack it")
    refused(2, (*submit[:-1], mine / "out"), "lies in the submission", "name a folder outside of it")
    refused(2, (*submit[:-1], mine / "mine.toml" / "out"), "name a folder outside of it")
    (tmp_path / "file").touch()
    refused(2, (*submit[:-1], tmp_path / "file"), "is not a folder; choose another folder")
    stray = tmp_path / "out" / "model_zoo" / "digits" / "other.toml"
    stray.parent.mkdir(parents=True)
    stray.touch()
    refused(2, submit, "holds model_zoo/digits/other.toml, which is not of digits/mine; name another")
    stray.unlink()
    assert vaebench(*submit).exit_code == 0
    refused(2, ("submit", tmp_path / "out"), "is laid out already; --dry-run checks it")
