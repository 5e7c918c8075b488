"""Laws of the journal: what was put is got, or nothing is."""

import dataclasses
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from vaebench.core.errors import UserError
from vaebench.evaluation.journal import BlockKey, Journal

KEY = BlockKey(
    architecture="a" * 64,
    weights_sha256="aa",
    data_fingerprint="dd",
    dataset="digits",
    split="test",
    metric="likelihood",
    metric_version=1,
    parameters="{}",
    function="f 0",
    noise=0,
    dtype="float32",
    device="cpu",
    block_start=0,
    block_stop=100,
    torch="2",
)
VALUES: dict[str, np.ndarray] = {"elbo": np.arange(5, dtype=np.float64), "ess": np.ones((5, 2), np.float32)}


def key(i: int) -> BlockKey:
    return dataclasses.replace(KEY, block_start=i)


def same(a: dict[str, np.ndarray] | None, b: dict[str, np.ndarray]) -> bool:
    return (
        a is not None
        and set(a) == set(b)
        and all(
            x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
            for x, y in ((a[n], b[n]) for n in b)
        )
    )


TYPES = st.sampled_from(["f2", "f4", "f8", "i1", "i4", "i8", "u1", "?"]).map(np.dtype)
ANY = st.dictionaries(
    st.text("abc_", min_size=1, max_size=3), TYPES.flatmap(lambda t: arrays(t, array_shapes(min_dims=0))), max_size=3
)


@settings(max_examples=50, deadline=None)
@given(ANY)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, values: dict[str, np.ndarray]) -> None:
    journal = Journal(tmp_path_factory.mktemp("journal"))
    assert journal.get(KEY) is None
    journal.put(KEY, values)
    found = journal.get(KEY)
    assert found is not None
    assert same(found, values)
    assert all(array.flags.writeable for array in found.values())


def test_strided_and_empty_arrays(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    values: dict[str, np.ndarray] = {"t": np.arange(12.0).reshape(3, 4).T[::2], "none": np.zeros((0, 3))}
    journal.put(KEY, values)
    assert same(journal.get(KEY), values)


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([None]), np.array([1j])])
def test_only_numbers(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="cannot be kept"):
        Journal(tmp_path).put(KEY, {"x": array})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(BlockKey)])
def test_every_part_of_the_key_counts(tmp_path: Path, field: str) -> None:
    journal = Journal(tmp_path)
    journal.put(KEY, VALUES)
    value = getattr(KEY, field)
    change: dict[str, Any] = {field: value + 1 if isinstance(value, int) else f"{value}x"}
    other = dataclasses.replace(KEY, **change)
    assert journal.get(other) is None
    assert other.digest != KEY.digest
    assert same(journal.get(dataclasses.replace(KEY)), VALUES)


def test_digest_is_fixed() -> None:
    """A journal outlives a release: the digest changes only with the key."""
    assert dataclasses.replace(KEY, vaebench="0").digest == DIGEST


DIGEST = "f98b9dd35e6a1d753e5171c8c67765182591b27563cdb7b08c890a9665c101d2"


def test_any_damage_is_absence(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.put(KEY, VALUES)
    (path,) = tmp_path.rglob("*.block")
    whole = path.read_bytes()
    flips = [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(len(whole))]
    for bad in [*flips, *(whole[:i] for i in range(len(whole))), whole + b"\0", b"PK\x03\x04" * 99]:
        path.write_bytes(bad)
        assert journal.get(KEY) is None
    journal.put(KEY, VALUES)
    assert path.read_bytes() == whole
    assert same(journal.get(KEY), VALUES)
    other = tmp_path / key(1).digest[:2] / f"{key(1).digest[2:]}.block"
    other.parent.mkdir(exist_ok=True)
    path.rename(other)
    assert journal.get(key(1)) is None  # a block under another's name
    path.mkdir()
    assert journal.get(KEY) is None


def size(journal: Journal) -> int:
    return sum(status.st_size for _, status in journal.blocks())


def test_prune_removes_what_was_used_longest_ago(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert size(journal) == 0
    assert journal.prune() == 0
    for i in range(4):
        journal.put(key(i), VALUES)
    for i, path in enumerate(tmp_path / key(i).digest[:2] / f"{key(i).digest[2:]}.block" for i in range(4)):
        os.utime(path, (1000 + i, 1000 + i))
    foreign = tmp_path / "ab" / "notes.txt"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("mine")
    left = tmp_path / "ab" / f".{'0' * 62}.block.abcdefgh"
    left.write_bytes(b"half")
    one = size(journal) // 4
    assert size(journal) == 4 * one
    assert journal.get(key(0)) is not None  # used: now the last to go
    assert journal.prune(4 * one) == 0
    assert journal.prune(2 * one + 1) == 2 * one
    assert [journal.get(key(i)) is not None for i in range(4)] == [True, False, False, True]
    journal.prune(0)
    assert size(journal) == 0
    assert journal.get(key(0)) is None
    assert foreign.read_text() == "mine"
    assert left.exists()
    os.utime(left, (0, 0))
    journal.prune(0)
    assert not left.exists()


def test_full_disk_and_unusable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "journal")
    journal.put(KEY, VALUES)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="No space left"):
            journal.put(KEY, {"x": np.zeros(3)})
    assert same(journal.get(KEY), VALUES)
    assert len(list((tmp_path / "journal").rglob("*.*"))) == 1
    (tmp_path / "file").write_text("")
    blocked = Journal(tmp_path / "file")
    assert blocked.get(KEY) is None
    assert size(blocked) == 0
    with pytest.raises(UserError, match="cannot write"):
        blocked.put(KEY, VALUES)


SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from vaebench.evaluation.journal import BlockKey, Journal
base = eval(sys.argv[2])
journal = Journal(Path(sys.argv[1]))
for n in range(5):
    for i in range(8):
        key = BlockKey(**base | {"block_start": i})
        found = journal.get(key)
        assert found is None or (found["x"] == i).all() and found["x"].shape == (1000,)
        journal.put(key, {"x": np.full(1000, float(i))})
    journal.prune(20000)
"""


def test_processes_share_a_journal(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), repr(dataclasses.asdict(KEY))]
    workers = [subprocess.Popen(command) for _ in range(4)]
    assert [worker.wait(60) for worker in workers] == [0] * 4
    journal = Journal(tmp_path)
    for i in range(8):  # the last to act may have pruned any of them
        found = journal.get(key(i))
        assert found is None or same(found, {"x": np.full(1000, float(i))})
        journal.put(key(i), {"x": np.full(1000, float(i))})
        assert journal.get(key(i)) is not None
