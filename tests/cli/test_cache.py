"""The cache is shown as it is, and emptied of what can be had again and of nothing else."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from vaebench.core import files
from vaebench.evaluation import journal

Invoke = Callable[..., Result]
Cache = dict[str, dict[str, Any]]


@pytest.fixture
def kinds(vaebench: Invoke) -> Callable[[], Cache]:
    """What `vaebench cache ls --json` says, by kind."""

    def ask() -> Cache:
        return {record["kind"]: record for record in json.loads(vaebench("cache", "ls", "--json").stdout)}

    return ask


def _plant(place: str, size: int, moment: int) -> Path:
    path = files.cache() / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (moment, moment))
    return path


@pytest.fixture
def planted() -> dict[str, list[Path]]:
    """Two files of each kind, the older first, and what is no part of them."""
    return {
        "journal": [_plant(f"journal/ab/{i:062}.block", 100 + i, 1000 + i) for i in range(2)],
        "statistics": [_plant(f"moments/{i}.moments", 200 + i, 2000 + i) for i in range(2)],
        "weights": [_plant(f"weights/{i}", 300 + i, 3000 + i) for i in range(2)],
        "checks": [_plant(f"checks/{i}.json", 400 + i, 4000 + i) for i in range(2)],
        "others": [_plant(name, 7, 0) for name in ("journal/notes", "locks/a.lock", "data/x", "weights/1.lock")],
    }


def test_an_absent_cache_is_empty(kinds: Callable[[], Cache], vaebench: Invoke) -> None:
    assert {kind: (part["files"], part["bytes"], part["oldest"]) for kind, part in kinds().items()} == {
        "journal": (0, 0, None), "statistics": (0, 0, None), "weights": (0, 0, None), "checks": (0, 0, None)
    }  # fmt: skip
    assert vaebench("cache", "clear").exit_code == 0


def test_ls_tells_files_bytes_oldest_and_limit(
    planted: dict[str, list[Path]], kinds: Callable[[], Cache], vaebench: Invoke
) -> None:
    assert {kind: (part["files"], part["bytes"], part["oldest"], part["limit"]) for kind, part in kinds().items()} == {
        "journal": (2, 201, "1970-01-01T00:16:40+00:00", journal.LIMIT),
        "statistics": (2, 401, "1970-01-01T00:33:20+00:00", None),
        "weights": (2, 601, "1970-01-01T00:50:00+00:00", None),
        "checks": (2, 801, "1970-01-01T01:06:40+00:00", None),
    }
    shown = vaebench("cache", "ls").stdout
    for text in (str(files.cache()), "201 bytes", "2.0 GB", "1970-01-01"):
        assert text in shown


@pytest.mark.parametrize("kind", ["journal", "statistics", "weights", "checks", None])
def test_clear_removes_a_kind_or_all_and_nothing_else(
    kind: str | None, planted: dict[str, list[Path]], kinds: Callable[[], Cache], vaebench: Invoke
) -> None:
    before = kinds()
    result = vaebench("cache", "clear", *([kind] if kind else []), "--json")
    gone = {kind} if kind else set(before)
    assert json.loads(result.stdout) == [
        {"kind": each, "freed": part["bytes"], "left": 0} for each, part in before.items() if each in gone
    ]
    assert {each for each, paths in planted.items() if not any(path.exists() for path in paths)} == gone
    assert all(path.exists() for each, paths in planted.items() if each not in gone for path in paths)


@pytest.mark.parametrize(("limit", "left"), [("0.3kB", [1, 1, 0, 0]), ("201", [2, 1, 0, 0]), ("1 GB", [2, 2, 2, 2])])
def test_limit_leaves_what_was_used_last(
    limit: str, left: list[int], planted: dict[str, list[Path]], kinds: Callable[[], Cache], vaebench: Invoke
) -> None:
    if limit == "0.3kB":
        planted["journal"][0].write_bytes(b"x" * 200)
        os.utime(planted["journal"][0], (1000, 1000))
    assert vaebench("cache", "clear", "--limit", limit).exit_code == 0
    assert [part["files"] for part in kinds().values()] == left
    for kind, count in zip(("journal", "statistics", "weights", "checks"), left, strict=True):
        assert [path.exists() for path in planted[kind]] == [count == 2, count >= 1]


def test_what_was_cleared_is_computed_again(
    quick: tuple[object, ...], vaebench: Invoke, kinds: Callable[[], Cache]
) -> None:
    first = vaebench(*quick).stdout
    blocks = kinds()["journal"]["files"]
    assert blocks == 4
    assert vaebench("cache", "clear", "journal").exit_code == 0
    assert kinds()["journal"]["files"] == 0
    assert vaebench(*quick).stdout == first
    assert kinds()["journal"]["files"] == blocks
