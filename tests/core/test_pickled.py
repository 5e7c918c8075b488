"""Arrays in pickles: read as they were, and nothing else is, nor run."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaebench.core.pickled import RefusedError, read

TABLE = {
    "net": {"kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "bias": np.ones(3, ">f8")},
    "turned": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "text": "words", "number": 7, "real": 0.5, "nothing": None, "empty": {}, "bytes": np.zeros(0, np.uint8),
}  # fmt: skip


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    return bool(a == b)


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_come_back_as_they_were(protocol: int) -> None:
    assert same(TABLE, read(pickle.dumps(TABLE, protocol)))


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


class State:
    """Runs code by its state."""

    def __setstate__(self, state: object) -> None:
        raise AssertionError("it was run")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_nothing_else_is_read_or_run(protocol: int, tmp_path: Path) -> None:
    state = State()
    state.__dict__["x"] = 1
    odd: list[Any] = [
        Evil(tmp_path / "made"), {"a": Evil(tmp_path / "made")}, state, OrderedDict(a=1), {1: 2}, [1], {"a": {1, 2}},
        np.array([object()]), np.array(["a"]), np.float32(1), np.dtype("f4"), print, os.system,
        {"a": np.array([(1, 2)], [("x", int), ("y", int)])}, {"a": Path("x")}, {"a": (1, 2)}, {"a": b"x"},
    ]  # fmt: skip
    for value in odd:
        with pytest.raises((RefusedError, ValueError)):
            read(pickle.dumps(value, protocol))
    assert list(tmp_path.iterdir()) == []


def test_damaged_and_hostile_pickles_end() -> None:
    whole = pickle.dumps(TABLE, 4)
    rng = np.random.default_rng(0)
    for size in range(0, len(whole), 7):
        with pytest.raises(ValueError, match=r"."):
            read(whole[:size])
    for _ in range(2000):
        spoilt = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            spoilt[place] = rng.integers(256)
        try:
            found = read(bytes(spoilt))
        except Exception:
            continue
        assert isinstance(found, dict | str | int | float | None | np.ndarray)
    with pytest.raises(RefusedError, match="wait at once"):
        read(b"\x80\x04" + b"}" * 10_000 + b".")
    with pytest.raises(ValueError, match="stack is empty"):
        read(b"\x80\x04s.")
    table: dict[str, Any] = {}
    table["itself"] = table
    with pytest.raises(RefusedError):
        read(pickle.dumps(table, 4))
