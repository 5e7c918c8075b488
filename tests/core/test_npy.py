"""An .npy file is as long as its header says, or is refused in one line, before anything is made of it."""

import io
import os
from pathlib import Path

import numpy as np
import pytest

from vaebench.core import npy
from vaebench.core.errors import DataError
from vaebench.core.registry import load_dataset


def header(shape: str, kind: str = "|u1", version: tuple[int, int] = (1, 0)) -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    size = len(text).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + size + text


LYING = [
    f"({2**62}, 28, 28)", f"({2**32}, {2**32})", f"({2**64}, 0, 1)", f"({2**63},)", "(-1, 28, 28)", "(1, -64)",
    "(-1, -64)", f"({'9' * 5000},)", "(64.0,)", "('64',)", "64", "(None,)", "(True, 32)", "(65,)", "(63,)",
]  # fmt: skip


@pytest.mark.parametrize("shape", LYING)
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0), (9, 9)])
def test_a_header_that_lies_is_one_line(shape: str, version: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    path.write_bytes(header(shape, version=version) + bytes(64))
    for mapped in (False, True):
        with pytest.raises(ValueError, match=r"."):
            npy.read(path, mapped=mapped)
    with pytest.raises(DataError) as caught:
        load_dataset("tensor-file", path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["|O", "|S8", "<M8[s]", "|V8", "<U2", "x"])
def test_what_is_not_numbers_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    path.write_bytes(header("(8,)", kind) + bytes(64))
    with pytest.raises(ValueError, match=r"."):
        npy.read(path)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 3)])
def test_what_is_saved_is_read(shape: tuple[int, ...], order: str, tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    for kind in ("u1", ">i4", "<f8", "c16", "?"):
        saved = np.asarray(np.arange(np.prod(shape)).reshape(shape), kind, order=order)  # type: ignore[call-overload]
        np.save(path, saved)
        for mapped in (False, True):
            assert np.array_equal(npy.read(path, mapped=mapped), saved)


def test_every_cut_is_refused(tmp_path: Path) -> None:
    np.save(whole := io.BytesIO(), np.zeros((2, 3), np.uint8))
    for size in range(len(whole.getvalue())):
        (tmp_path / "a.npy").write_bytes(whole.getvalue()[:size])
        with pytest.raises(ValueError, match=r"."):
            npy.read(tmp_path / "a.npy")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(DataError, match="not a regular file"):
        npy.read(tmp_path / "a.npy")
