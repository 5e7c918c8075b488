"""Checkpoints along training: where they are, that no kill changes them, and that wrong ones are refused."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file

from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.data import Dataset, Source
from vaebench.core.errors import DataError, UserError
from vaebench.core.metric import Trajectory, UnavailableError
from vaebench.evaluation.entry import Entry
from vaebench.evaluation.resources import LocalResources
from vaebench.evaluation.run import Settings
from vaebench.models import card as cards
from vaebench.models import loading, trajectory
from vaebench.models.card import Card, Recipe
from vaebench.training import loop as training
from vaebench.training import schedule

CPU = torch.device("cpu")
RECIPE = Recipe(3, 100, 2e-3, schedule="cosine", ema=0.9, validation=200, seed=5)  # 13 steps an epoch
STEPS = [8, 16, 24, 32, 39]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def digits() -> Dataset:
    source = plugins.load("datasets", "digits")
    assert isinstance(source, Source)
    return source.load(Path())


def card(recipe: Recipe = RECIPE) -> Card:
    model = {"latent": 4, "hidden": [24], "likelihood": "discretised-logistic"}
    return Card("tiny", "digits", "a small model", "flat", model, training=recipe)


def run(out: Path, checkpoints: int = 5, report: training.Report = lambda *_: None, recipe: Recipe = RECIPE) -> Card:
    return training.train(card(recipe), digits(), out, device=CPU, report=report, checkpoints=checkpoints)


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "tiny.trajectory").iterdir())}


def stop_at(last: int) -> training.Report:
    def report(step: int, steps: int, text: str) -> None:
        if step >= last:
            raise KeyboardInterrupt

    return report


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole")
    run(out)
    return out


def test_checkpoints_are_evenly_spaced() -> None:
    assert trajectory.spaced(5, 39) == STEPS
    for count, steps in ((1, 1), (1, 40), (3, 10), (7, 7), (30, 1_500_000)):
        found = trajectory.spaced(count, steps)
        assert len(set(found)) == count
        assert found[-1] == steps
        gaps = {b - a for a, b in zip([0, *found], found, strict=False)}
        assert max(gaps) - min(gaps) <= 1
        assert min(gaps) >= 1
    with pytest.raises(UserError, match="--trajectory 40 is more than the 39 steps"):
        trajectory.spaced(40, 39)


def test_the_index_says_what_was_kept(whole: Path) -> None:
    index = json.loads((whole / "tiny.trajectory" / "index.json").read_text())
    assert [entry["step"] for entry in index["checkpoints"]] == STEPS
    rates, before = [schedule.learning_rate(RECIPE, t, 39) for t in range(39)], 0
    for entry in index["checkpoints"]:
        assert entry["learning_rate"] == rates[entry["step"] - 1]
        since = rates[before : entry["step"]]
        assert entry["mean_learning_rate"] == pytest.approx(sum(since) / len(since))
        assert entry["sha256"] == files.sha256(whole / "tiny.trajectory" / entry["file"])
        before = entry["step"]
    assert (index["examples"], index["batch_size"]) == (1237, 100)
    assert index["data_fingerprint"] == digits().fingerprint


def test_checkpoints_are_the_weights_that_were_stepped(tmp_path: Path) -> None:
    """With a constant rate, no average and no validation, shorter runs end with the weights that a longer one kept."""
    plain, seen = Recipe(3, 100), []
    run(tmp_path / "three", 3, recipe=plain)
    for epochs in (1, 2, 3):
        run(tmp_path / str(epochs), 0, recipe=dataclasses.replace(plain, epochs=epochs))
        kept = load_file(tmp_path / "three" / "tiny.trajectory" / f"step-{15 * epochs:08}.safetensors")
        end = load_file(tmp_path / str(epochs) / "tiny.safetensors")
        assert kept.keys() == end.keys()
        assert all(torch.equal(value, end[name]) for name, value in kept.items())
        seen.append(kept["decoder.0.weight"])
    assert not torch.equal(seen[0], seen[1])


def test_keeping_checkpoints_changes_nothing_else(whole: Path, tmp_path: Path) -> None:
    run(tmp_path, 0)
    assert (tmp_path / "tiny.safetensors").read_bytes() == (whole / "tiny.safetensors").read_bytes()
    assert not (tmp_path / "tiny.trajectory").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
import test_trajectory as t
torch.set_num_threads(1)
def report(step, steps, text):
    if step == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
t.run(Path(sys.argv[2]), report=report)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_kill_9_and_resume_gives_the_same_files(whole: Path, tmp_path: Path) -> None:
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}  # in its order
    for step in (9, 25):  # after a checkpoint whose epoch is lost; after one whose epoch is kept
        command = [sys.executable, "-W", "error", "-c", KILLED, str(here), str(tmp_path), str(step)]
        killed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not (tmp_path / "tiny.trajectory" / "index.json").exists()
    assert "step-00000024.safetensors" in contents(tmp_path)
    run(tmp_path)
    assert contents(tmp_path) == contents(whole)
    assert (tmp_path / "tiny.safetensors").read_bytes() == (whole / "tiny.safetensors").read_bytes()


@pytest.mark.slow
def test_interruption_before_or_after_any_write(
    whole: Path, tmp_path: Path, cut_short: Callable[[Callable[[], object], int, bool], None]
) -> None:
    for last in (2, 5, 8, 12, 13, 14, 15):  # of 15: log; five checkpoints, thrice state and log; index, weights, card
        for after in (False, True):
            out = tmp_path / f"{last}{after}"
            cut_short(partial(run, out), last, after)
            run(out)
            assert contents(out) == contents(whole)


def test_a_finished_run_is_not_repeated_and_must_have_its_checkpoints(whole: Path, tmp_path: Path) -> None:
    before = contents(whole)
    said: list[str] = []
    run(whole, report=lambda step, steps, text: said.append(text))
    assert "already trained" in said[0]
    run(whole, 0)
    with pytest.raises(UserError, match=r"trained already, with 5 checkpoints in .*, not 4; use another --out"):
        run(whole, 4)
    assert contents(whole) == before
    run(tmp_path, 0)
    with pytest.raises(UserError, match=r"trained already, but no trajectory tiny\.trajectory: .*; use another --out"):
        run(tmp_path, 5)


def test_what_was_passed_without_keeping_is_not_made_up(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 0, stop_at(20))
    with pytest.raises(UserError, match="lacks the checkpoint of step 8, which training has passed; use another --out"):
        run(tmp_path, 5)
    run(tmp_path, 2)  # step 20 is yet to come: one epoch, 13 steps, is kept
    assert list(contents(tmp_path)) == ["index.json", "step-00000020.safetensors", "step-00000039.safetensors"]


def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of the trajectory that may be spoilt."""
    copy = tmp_path / "copy.trajectory"
    copy.mkdir()
    for name, content in contents(whole).items():
        (copy / name).write_bytes(content)
    return copy


def test_reading_gives_steps_rates_and_weights(whole: Path) -> None:
    weights = whole / "tiny.safetensors"
    found = trajectory.read(trajectory.beside(weights), trajectory.run_digest(weights))
    assert [c.step for c in found.checkpoints] == STEPS
    assert [c.steps for c in found.checkpoints] == [8, 8, 8, 8, 7]
    assert (found.examples, found.batch_size, found.data_fingerprint) == (1237, 100, digits().fingerprint)
    model = loading.build_model(card(), digits().space)
    for checkpoint in found.checkpoints:
        checkpoint.load(model)
        stored = load_file(whole / "tiny.trajectory" / f"step-{checkpoint.step:08}.safetensors")
        assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"\xff", b"{" * 100_000, b'{"digest": 3}'],
)
def test_a_damaged_index_is_one_line(content: bytes, whole: Path, tmp_path: Path) -> None:
    copy = folder(whole, tmp_path)
    (copy / "index.json").write_bytes(content)
    with pytest.raises(DataError, match=r"copy\.trajectory/index\.json is not the index of a trajectory: ") as error:
        trajectory.read(copy, "")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"checkpoints": []},
        {"checkpoints": [{"file": "../x", "sha256": "", "step": 1, "learning_rate": 0.1, "mean_learning_rate": 0.1}]},
        {"checkpoints": [{"file": "x", "sha256": "", "step": 0, "learning_rate": 0.1, "mean_learning_rate": 0.1}]},
        {"checkpoints": [{"file": "x"}]},
        {"examples": 0},
        {"more": 1},
    ],
)
def test_an_index_that_makes_no_sense_is_refused(change: dict[str, object], whole: Path, tmp_path: Path) -> None:
    copy = folder(whole, tmp_path)
    index = json.loads((copy / "index.json").read_text())
    (copy / "index.json").write_text(json.dumps({**index, **change}))
    with pytest.raises(DataError, match="is not the index of a trajectory"):
        trajectory.read(copy, index["digest"])


def test_altered_absent_and_foreign_checkpoints_are_refused(whole: Path, tmp_path: Path) -> None:
    copy, digest = folder(whole, tmp_path), trajectory.run_digest(whole / "tiny.safetensors")
    found, model = trajectory.read(copy, digest), loading.build_model(card(), digits().space)
    for other in (None, "0" * 64):
        with pytest.raises(DataError, match="of another training run than the weights"):
            trajectory.read(copy, other)
    (copy / "step-00000008.safetensors").write_bytes((copy / "step-00000016.safetensors").read_bytes())
    with pytest.raises(DataError, match="but the index says"):
        found.checkpoints[0].load(model)
    (copy / "step-00000016.safetensors").unlink()
    with pytest.raises(DataError, match="cannot read"):
        found.checkpoints[1].load(model)


def test_resources_find_the_folder_beside_the_weights_or_where_told(whole: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes((whole / "tiny.safetensors").read_bytes())

    def found(weights: Path | None, folder: Path | None = None) -> Trajectory:
        entry = Entry("tiny", digits(), lambda: pytest.fail("asked for"), "", "", weights, folder)
        return LocalResources(entry, Settings()).trajectory()

    assert found(whole / "tiny.safetensors") == found(moved, whole / "tiny.trajectory")
    for weights, says in ((None, "no weights file"), (moved, "train with --trajectory N")):
        with pytest.raises(UnavailableError, match=says) as error:
            found(weights)
        assert str(tmp_path) not in str(error.value)  # a reason goes into rows


def test_the_verbs_keep_and_find_a_trajectory(
    write_card: Callable[..., Path],
    vaebench: Callable[..., Result],
    refused: Callable[..., str],
    tmp_path: Path,
    boards: Path,
) -> None:
    mine = write_card(changes={"dataset": "'digits-contaminated'", "training.validation": "0"})
    assert vaebench("train", "--card", mine, "--out", tmp_path / "out", "--trajectory", 2).exit_code == 0
    trained = tmp_path / "out" / "mine.toml"
    assert cards.read(trained).weights is not None
    measure = ("--metric", "tracin", "--preset", "quick", "--set", "tracin.samples=1", "--json")
    to = ("--leaderboards", boards)
    rows = json.loads(vaebench("run", "--card", trained, *measure, *to).stdout)
    assert {row["status"] for row in rows} == {"ok"}
    weights = (tmp_path / "out" / "mine.safetensors").rename(tmp_path / "elsewhere.safetensors")
    away = ("run", "--card", mine, "--checkpoint", weights, *measure, *to)
    absent = json.loads(vaebench(*away).stdout)
    assert {row["status"] for row in absent} == {"skipped"}
    again = json.loads(vaebench(*away, "--trajectory", tmp_path / "out" / "mine.trajectory").stdout)
    assert [row["value"] for row in again] == [row["value"] for row in rows]
    refused(2, ("train", "--card", mine, "--out", tmp_path / "more", "--trajectory", 999), "--trajectory 999 is more")


def test_the_zoos_trajectory_is_of_its_weights() -> None:
    found = cards.find("vae", "digits-contaminated")
    source = plugins.load("datasets", "digits-contaminated")
    assert isinstance(source, Source)
    weights = found.weights_path()
    kept = trajectory.read(trajectory.beside(weights), trajectory.run_digest(weights))
    assert kept.data_fingerprint == source.fingerprint
    model = loading.build_model(found, source.space)
    for checkpoint in kept.checkpoints:
        checkpoint.load(model)
    last = load_file(weights)  # no validation, no average: the last checkpoint is the model
    assert all(torch.equal(value, last[name]) for name, value in model.state_dict().items())
