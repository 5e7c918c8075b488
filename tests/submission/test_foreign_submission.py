"""What a stranger sends is judged before it is opened, hashed or fetched; and a copy is a copy however it was saved."""

import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from submitted import WriteCard, one_fault, problems, recard

from vaebench.core import files
from vaebench.core.errors import DataError, UserError
from vaebench.core.names import check_name
from vaebench.models import card as cards
from vaebench.submission import folder as submission
from vaebench.submission.tree import MOST

_WATCHED: list[tuple[Path, list[str]]] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    for folder, seen in _WATCHED:
        if event in ("open", "os.listxattr", "shutil.copyfile") and isinstance(arguments[0], str | bytes | Path):
            path = Path(os.fsdecode(arguments[0]))
            if path.is_relative_to(folder):
                seen.append(path.relative_to(folder).as_posix())
        elif event in ("socket.connect", "socket.getaddrinfo"):
            seen.append(event)


@pytest.fixture(scope="module", autouse=True)
def _hook() -> None:
    sys.addaudithook(_watch)  # stays, and sees nothing where nothing is watched


@pytest.fixture
def opened(mine: Path) -> Iterator[list[str]]:
    """What Python opens in the submission from here on, and whether it looks for another machine."""
    _WATCHED.append((mine, seen := []))
    yield seen
    _WATCHED.clear()


def link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 200 * 10**9)


def local_socket(path: Path) -> None:
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)  # a longer path would not fit


SPECIAL = {"link": link, "sparse": sparse, "fifo": os.mkfifo, "socket": local_socket, "folder": Path.mkdir}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", ["mine.safetensors", "other.safetensors"])
def test_what_is_no_plain_file_is_never_opened(
    kind: str, name: str, mine: Path, write_card: WriteCard, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`other.safetensors` is named by the card, which is then at fault itself."""
    monkeypatch.chdir(mine)
    if name == "other.safetensors":
        recard(mine, write_card, weights__file=f"'{name}'")
    (mine / "mine.safetensors").unlink()
    SPECIAL[kind](mine / name)
    opened.clear()
    found, told = submission.read(mine)
    assert found is None
    assert told
    assert set(opened) == {"mine.toml"}
    assert not any(re.search("[0-9a-f]{64}", problem.fault) for problem in told), "a hash tells of a file elsewhere"


@pytest.mark.parametrize(
    "changes",
    [
        {"weights.file": "'other.safetensors'"},
        {"weights.url": "'https://127.0.0.1/w'"},
        {"weights.url": f"'https://example.org/{'w' * 3000}'"},
        {"summary": "'A model'"},
        {"family": "'flatt'"},
        {"dataset": "'digit'"},
        {"sumary": "'A model.'"},
        {"notes": '"\\u202eA model."'},
        {"weights.sha256": "'0'"},
        {"training.epochs": "0"},
        {"dataset": "'image-folder'"},
        {"model.latent": str(10**9)},
        {"model.hidden": "[100000, 100000]"},
        {"objective.name": "'iwae'", "objective.samples": str(10**9)},
    ],
)
@pytest.mark.parametrize("away", [False, True])
def test_a_card_with_a_fault_opens_nothing_else(
    changes: dict[str, str], away: bool, mine: Path, write_card: WriteCard, opened: list[str]
) -> None:
    url = {"weights.url": "'https://weights.example/w'"} if away else {}
    recard(mine, write_card, **{**url, **changes})
    if away:
        (mine / "mine.safetensors").unlink()
    opened.clear()
    found, told = submission.read(mine)
    assert found is None
    assert told
    assert set(opened) == {"mine.toml"}


def test_nothing_is_fetched_for_a_folder_with_a_fault(mine: Path, write_card: WriteCard, opened: list[str]) -> None:
    recard(mine, write_card, weights__url="'https://weights.example/w'")
    (mine / "mine.safetensors").unlink()
    (mine / "run.py").touch()
    opened.clear()
    one_fault(mine, "run.py", "does not belong here")
    assert set(opened) == {"mine.toml"}


def test_the_watch_sees_what_is_opened(mine: Path, opened: list[str]) -> None:
    assert problems(mine) == []
    assert "mine.safetensors" in opened


def test_more_files_than_a_submission_has(mine: Path) -> None:
    for number in range(MOST):
        (mine / f"{number}.txt").touch()
    with pytest.raises(UserError, match=f"holds more than {MOST} files"):
        submission.read(mine)


HVAE = {"family": "'hamiltonian'"}
NVAE = {"family": "'nvae'", "model.hidden": None, "model.likelihood": "'bernoulli'"}
DEAR: dict[str, tuple[dict[str, str | None], str]] = {
    "deep key": ({"model." + "a." * 3000 + "b": "1"}, "is nested deeper than 16 tables"),
    "deeper key": ({"model." + "a." * 30_000 + "b": "1"}, "is nested deeper than 16 tables"),
    "deep key inside": ({"model.x": "{y = 1, " + "a . " * 3000 + "b = 1}"}, "is nested deeper than 16 tables"),
    "deep quoted key": ({"model." + "'a'." * 3000 + "b": "1"}, "is nested deeper than 16 tables"),
    "deep list": ({"model.hidden": "[" * 20 + "8" + "]" * 20}, "is nested deeper than 16 tables"),
    "deeper list": ({"model.hidden": "[" * 20_000 + "]" * 20_000}, "is nested too deep"),
    "long list": ({"model.hidden": f"[{'1,' * 20_000}]"}, "has more than 10000 entries"),
    "long text": ({"notes": f"'{'a' * 30_000}'"}, "a text of 30000 characters"),
    "steps": ({**HVAE, "model.steps": str(10**6)}, "steps = 1000000 should be at most 1000"),
    "scales": ({**NVAE, "model.scales": str(10**6)}, "scales = 1000000 should be at most 16"),
    "many scales": ({**NVAE, "model.scales": str(10**9)}, "scales = 1000000000 should be at most 1000000"),
    "groups": ({**NVAE, "model.groups": str(10**7)}, "groups = 10000000 should be at most 1000000"),
    "flows": ({**NVAE, "model.flows": "65"}, "flows = 65 should be at most 64"),
    "cells": ({**NVAE, "model.groups": "256", "model.scales": "16"}, "should be at most 2000"),
    "width": ({"model.latent": str(10**9)}, "latent = 1000000000 should be at most 1000000"),
    "draws": ({"objective.name": "'iwae'", "objective.samples": str(10**9)}, "samples = 1000000000 should be at most"),
    "layers": ({"objective.name": "'factor'", "objective.depth": "101"}, "depth = 101 should be at most 100"),
    "seed": ({"training.seed": str(2**63)}, "does not fit in 64 bits"),
}


@pytest.mark.parametrize("what", DEAR)
def test_counts_have_bounds(what: str, mine: Path, write_card: WriteCard) -> None:
    changes, says = DEAR[what]
    recard(mine, write_card, **changes)
    started = time.process_time()
    one_fault(mine, "mine.toml", says)
    assert time.process_time() - started < 5


def test_a_card_that_is_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.touch()
    os.truncate(path, 2**40)
    with pytest.raises(DataError, match=f"has {2**40} bytes, more than {cards.MAX_BYTES}"):
        cards.read(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="is not a regular file"):
        cards.read(path)


def saved_again(path: Path) -> None:
    save_file(load_file(path), path, {"note": "saved again"})


def moved_about(path: Path) -> None:
    """The same tensors at other places, which depend on their names alone in files that safetensors writes."""
    tensors = load_file(path)
    renamed = {f"x{len(tensors) - number:03}": name for number, name in enumerate(sorted(tensors))}
    save_file({new: tensors[old] for new, old in renamed.items()}, path)
    head = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    text = path.read_bytes()[8:head].rstrip()
    for new, old in renamed.items():
        text = text.replace(f'"{new}"'.encode(), f'"{old}"'.encode())
    path.write_bytes(len(text).to_bytes(8, "little") + text + path.read_bytes()[head:])


@pytest.mark.parametrize("how", [saved_again, moved_about])
def test_a_copy_of_weights_that_are_on_the_board(how: Callable[[Path], None], zoo_card: Path) -> None:
    for suffix in (".toml", ".safetensors"):
        zoo_card.with_suffix(suffix).rename(zoo_card.with_name(f"mine{suffix}"))
    card, weights = zoo_card.with_name("mine.toml"), zoo_card.with_name("mine.safetensors")
    before = load_file(weights)
    how(weights)
    after = load_file(weights)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    old, text = cards.find("vae", "digits").weights, card.read_text()
    assert old is not None
    text = text.replace("vae.safetensors", weights.name).replace(old.sha256, files.sha256(weights))
    card.write_text(text.partition("[training]")[0] + "[weights]" + text.partition("[weights]")[2])
    assert old.sha256 != files.sha256(weights)
    one_fault(card.parent, weights.name, "its tensors are on the board already, as those of digits/vae")
    after[next(iter(after))].view(-1)[0] += 1e-3  # other weights
    save_file(after, weights)
    card.write_text(card.read_text().replace(cards.read(card).weights.sha256, files.sha256(weights)))  # type: ignore[union-attr]
    assert problems(card.parent) == []


WINDOWS = ["con", "prn", "aux", "nul", "com1", "com9", "lpt1", "con.x", "nul.tar.gz", "vae.", "vae..", "a" * 101]


@pytest.mark.parametrize("name", WINDOWS)
def test_names_that_windows_cannot_hold(name: str, mine: Path) -> None:
    with pytest.raises(ValueError, match=r"is none that Windows can hold|has 101 characters"):
        check_name("model", name)
    for suffix in (".toml", ".safetensors"):
        (mine / f"mine{suffix}").rename(mine / f"{name}{suffix}")
    found, told = submission.read(mine)
    assert found is None
    assert any("Windows can hold" in problem.fault or "characters" in problem.fault for problem in told)


@pytest.mark.parametrize("name", ["console", "vae-con", "com10", "nullary", "a.con", "a" * 100])
def test_names_like_those_that_are_none(name: str) -> None:
    assert check_name("model", name) == name
