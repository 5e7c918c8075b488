"""No kill changes what training gives; nothing foreign is resumed."""

import dataclasses
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from training_runs import RECIPES, bits, bits_card, digits, digits_card, log, run, stop_at
from weekly import weekly

from vaebench.core.errors import UserError
from vaebench.models.card import Recipe
from vaebench.training import loop as training


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The weights file of each recipe, trained in one go."""
    out = {name: tmp_path_factory.mktemp(name) for name in RECIPES}
    for name, recipe in RECIPES.items():
        run(digits_card(recipe), digits(), out[name])
    return {name: (folder / "tiny.safetensors").read_bytes() for name, folder in out.items()}


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
import training_runs as t
torch.set_num_threads(1)
def report(step, steps, text):
    if step == 30:
        os.kill(os.getpid(), signal.SIGKILL)
t.run(t.digits_card(t.RECIPES[sys.argv[2]]), t.digits(), Path(sys.argv[3]), report)
"""


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("name", [n if n == "rich" else pytest.param(n, marks=pytest.mark.slow) for n in RECIPES])
def test_kill_9_and_resume_gives_the_same_bits(name: str, tmp_path: Path, uninterrupted: dict[str, bytes]) -> None:
    here = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}  # in its order
    command = [sys.executable, "-W", "error", "-c", KILLED, str(here), name, str(tmp_path)]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.log.jsonl", "tiny.resume"]
    first: list[int] = []
    trained = run(digits_card(RECIPES[name]), digits(), tmp_path, lambda step, steps, text: first.append(step))
    assert first[0] == 26  # two epochs of 13 steps were kept, four steps of the third were lost
    assert (tmp_path / "tiny.safetensors").read_bytes() == uninterrupted[name]
    assert trained.trained is not None
    assert [line["epoch"] for line in log(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize("name", RECIPES)
def test_interruption_in_this_process(name: str, tmp_path: Path, uninterrupted: dict[str, bytes]) -> None:
    for step in (5, 13, 31):  # in the first epoch; as it ends; in the third
        with pytest.raises(KeyboardInterrupt):
            run(digits_card(RECIPES[name]), digits(), tmp_path, stop_at(step))
    run(digits_card(RECIPES[name]), digits(), tmp_path)
    assert (tmp_path / "tiny.safetensors").read_bytes() == uninterrupted[name]


@pytest.mark.parametrize("name", weekly(RECIPES, "plain"))
def test_a_long_epoch_is_resumed_within(
    name: str, tmp_path: Path, uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, first = tmp_path / "whole", list[int]()
    run(digits_card(RECIPES[name]), digits(), whole)
    monkeypatch.setattr(training, "KEEP_EVERY", 0.0)  # a state after every step
    for step in (5, 12, 13, 14, 31):
        with pytest.raises(KeyboardInterrupt):
            run(digits_card(RECIPES[name]), digits(), tmp_path, stop_at(step))
    run(digits_card(RECIPES[name]), digits(), tmp_path, lambda step, steps, text: first.append(step))
    assert first[0] == 30  # the step that was told of, and whose state was not yet kept, is lost
    assert (tmp_path / "tiny.safetensors").read_bytes() == uninterrupted[name]
    for resumed, line in zip(log(tmp_path), log(whole), strict=True):
        assert {**resumed, "seconds": 0} == {**line, "seconds": 0}


@pytest.mark.parametrize("objective", ["factor", "iwae", "jacobian", "info"])
def test_objectives_are_resumed_within_an_epoch(
    objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, dataset = bits_card(Recipe(epochs=2, batch_size=8), objective), bits()
    run(card, dataset, tmp_path / "whole")
    monkeypatch.setattr(training, "KEEP_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        run(card, dataset, tmp_path, stop_at(8))
    run(card, dataset, tmp_path)
    assert (tmp_path / "tiny.safetensors").read_bytes() == (tmp_path / "whole" / "tiny.safetensors").read_bytes()


def test_interruption_before_or_after_any_write(
    tmp_path: Path, cut_short: Callable[[Callable[[], object], int, bool], None]
) -> None:
    card, dataset = bits_card(Recipe(epochs=2, batch_size=20, ema=0.5)), bits()
    run(card, dataset, tmp_path / "whole")
    whole = (tmp_path / "whole" / "tiny.safetensors").read_bytes()
    writes = 7  # the log, twice state and log, weights, card
    for last in range(1, writes + 1):
        for after in (False, True):
            out = tmp_path / f"{last}{after}"
            cut_short(partial(run, card, dataset, out), last, after)
            trained = run(card, dataset, out)
            assert trained.weights_path().read_bytes() == whole
            assert len(log(out)) == 2
            assert not (out / "tiny.resume").exists()


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    card, said = bits_card(Recipe(epochs=1, batch_size=16)), []
    first = run(card, bits(), tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = run(card, bits(), tmp_path, lambda step, steps, text: said.append(text))
    assert again == first
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(said) == 1
    assert "already trained" in said[0]
    assert run(first, bits(), tmp_path) == first  # the resolved card is the same run
    with pytest.raises(UserError, match=r"use another --out, or remove"):
        run(bits_card(Recipe(epochs=2, batch_size=16)), bits(), tmp_path)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


# what must not be resumed


def test_a_state_of_another_run_is_refused(tmp_path: Path) -> None:
    card = bits_card(Recipe(epochs=2, batch_size=16))
    with pytest.raises(KeyboardInterrupt):
        run(card, bits(), tmp_path, stop_at(5))
    kept = (tmp_path / "tiny.resume").read_bytes()
    others = [
        (dataclasses.replace(card, training=Recipe(epochs=3, batch_size=16)), bits()),
        (dataclasses.replace(card, model={**card.model, "hidden": [9]}), bits()),
        (dataclasses.replace(card, objective={"name": "elbo", "beta": 2.0}), bits()),
        (card, bits(41)),
    ]
    for other, dataset in others:
        with pytest.raises(UserError, match=r"another recipe, model or data: use another --out, or remove") as error:
            run(other, dataset, tmp_path)
        assert "\n" not in str(error.value)
    assert (tmp_path / "tiny.resume").read_bytes() == kept
    model, objective = {**card.model, "prior": "normal"}, {"name": "elbo", "beta": 1.0}
    explicit = dataclasses.replace(card, model=model, objective=objective)
    run(explicit, bits(), tmp_path)  # a default written out is the same run


class Malicious:
    """A pickle that makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


def test_a_garbage_or_malicious_state_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    card, resume, made = bits_card(Recipe(epochs=2, batch_size=16)), tmp_path / "tiny.resume", tmp_path / "made"
    with pytest.raises(KeyboardInterrupt):
        run(card, bits(), tmp_path, stop_at(5))
    good = resume.read_bytes()
    state = torch.load(resume, weights_only=True)

    def saved(value: object) -> bytes:
        torch.save(value, resume)
        return resume.read_bytes()

    bad = [
        b"",
        b"garbage",
        good[: len(good) // 2],
        pickle.dumps(Malicious(made)),
        saved(Malicious(made)),
        saved({**state, "log": Malicious(made)}),
        saved([1, 2]),
        saved({"digest": state["digest"]}),
        saved({**state, "model": {}}),
        saved({**state, "model": 3}),
        saved({**state, "epoch": "x"}),
        saved({**state, "generators": [torch.zeros(3, dtype=torch.uint8)]}),
        saved({**state, "generators": [1]}),
        saved({**state, "sums": {"total": 1.0}}),
    ]
    for content in bad:
        resume.write_bytes(content)
        with pytest.raises(UserError, match=r"tiny\.resume .*use another --out, or remove") as error:
            run(card, bits(), tmp_path)
        assert "\n" not in str(error.value)
        assert not made.exists()
        assert resume.read_bytes() == content
