"""Pickles that hold a few words a million times are refused by counting, before any word is done."""

import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vaebench.core import pickled
from vaebench.core.errors import DataError
from vaebench.models.formats._reading import read_file, read_state_dict

WRITE = Callable[[Path, bytes], None]
DEEP = [b"(" * 3_000_000, b"\x80\x02" + b"(" * 3_000_000, b"\x80\x04" + b"(N" * 2000 + b"t" * 2000 + b"."]
LONG = [b"\x80\x02]" + b"]a" * 600_000 + b".", b"\x80\x02N" + b"\x94" * 1_100_000, b"\x80\x02" + b"K\x00" * 1_100_000]


def bare(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def zipped(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")


@pytest.mark.parametrize("write", [bare, zipped])
@pytest.mark.parametrize("content", DEEP, ids=["marks", "marks of protocol 2", "tuples"])
def test_a_deep_pickle_is_refused_at_once(content: bytes, write: WRITE, tmp_path: Path) -> None:
    write(tmp_path / "a.pt", content)
    start = time.process_time()
    with pytest.raises(DataError, match=r"its pickle is refused: .*more than 1000 marks wait at once"):
        read_file(tmp_path / "a.pt")
    assert time.process_time() - start < 1


@pytest.mark.parametrize("write", [bare, zipped])
@pytest.mark.parametrize("content", LONG, ids=["lists", "memo", "numbers"])
def test_a_long_pickle_is_refused(
    content: bytes, write: WRITE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickled, "WORDS", 10**5)
    write(tmp_path / "a.pt", content)
    with pytest.raises(DataError, match=r"its pickle is refused: .*more than 100000 words"):
        read_file(tmp_path / "a.pt")


def test_one_pickle_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for folder in "ab":
            archive.writestr(f"{folder}/data.pkl", b"\x80\x02}.")
    with pytest.raises(DataError, match="it has 2 of them"):
        read_file(path)


@pytest.mark.parametrize("former", [False, True])
def test_state_dicts_of_both_formats_are_read(former: bool, tmp_path: Path) -> None:
    state = {f"layer.{i}.weight": torch.full((2, 3), float(i)) for i in range(300)}
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=not former)
    found = read_state_dict(tmp_path / "a.pt").tensors
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_a_deep_pickle_is_one_line_of_import(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "a.pt").write_bytes(DEEP[0])
    (tmp_path / "mine.toml").write_text(
        'dataset = "digits"\nsummary = "A small VAE."\nfamily = "flat"\n\n'
        '[model]\nlatent = 2\nhidden = [8]\nlikelihood = "categorical"\n',
        encoding="utf-8",
    )
    call = ("import", "torch", tmp_path / "a.pt", "--card", tmp_path / "mine.toml", "--out", tmp_path / "out")
    refused(3, call, "its pickle is refused")
    assert not os.path.lexists(tmp_path / "out")


def test_a_sparse_file_is_refused_before_it_is_hashed(tmp_path: Path) -> None:
    (tmp_path / "a.pt").touch()
    os.truncate(tmp_path / "a.pt", 200 * 10**9)
    with pytest.raises(DataError, match=f"has {200 * 10**9} bytes, more than"):
        read_file(tmp_path / "a.pt")
    os.truncate(tmp_path / "a.pt", 60 * 10**9)
    start = time.monotonic()
    with pytest.raises(DataError):
        read_file(tmp_path / "a.pt")
    assert time.monotonic() - start < 20
