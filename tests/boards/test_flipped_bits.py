"""Of single bits that flip in files of rows and of per-example values, none changes silently what is read."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from board_rows import row

from vaebench.boards import per_example, store
from vaebench.core.errors import DataError

FLIPS = 10_000
FEW = 1_000  # of them in every run of the tests
VALUED = row(n=40, value=2.0)
ROWS = [row(column="elbo", curve=((0.0, 1.0), (2.0, 3.0), "x", "y")), row()]


def rows_file(folder: Path) -> tuple[Path, Callable[[], object]]:
    path = folder / "digits" / "vae.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(store.encode(ROWS))
    return path, lambda: store.read_file(path)


def values_file(folder: Path) -> tuple[Path, Callable[[], object]]:
    path = per_example.path(folder, VALUED)
    path.parent.mkdir(parents=True)
    about = {field: getattr(VALUED, field) for field in per_example.ABOUT}
    values = np.random.default_rng(0).normal(size=40)
    path.write_bytes(per_example.encode({"nll": values - values.mean() + 2, "other": values}, about))
    return path, lambda: per_example.read(folder, VALUED).tolist()


def flip(make: Callable[[Path], tuple[Path, Callable[[], object]]], folder: Path, seeds: range) -> int:
    """How many of the flipped files are refused; each of the others gives what was written."""
    path, read = make(folder)
    whole, content, refused = read(), path.read_bytes(), 0
    for seed in seeds:
        noise, bad = random.Random(seed), bytearray(content)
        bad[noise.randrange(len(bad))] ^= 1 << noise.randrange(8)
        path.write_bytes(bad)
        try:
            found = read()
        except DataError:
            refused += 1
        else:
            assert found == whole, f"seed {seed}"
    return refused


@pytest.mark.parametrize("make", [rows_file, values_file])
def test_single_bits(make: Callable[[Path], tuple[Path, Callable[[], object]]], tmp_path: Path) -> None:
    assert flip(make, tmp_path, range(FEW)) > FEW / 2


@pytest.mark.slow
@pytest.mark.parametrize("make", [rows_file, values_file])
def test_ten_thousand_single_bits(make: Callable[[Path], tuple[Path, Callable[[], object]]], tmp_path: Path) -> None:
    assert flip(make, tmp_path, range(FLIPS)) > FLIPS / 2


@pytest.mark.parametrize("rows", [10**6 + 1, 20_000_000])
def test_values_are_counted_before_they_are_read(rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = values_file(tmp_path)
    table = pa.table({"nll": pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array([2.0]))})
    pq.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 2**22
    monkeypatch.setattr(pq.ParquetFile, "read", lambda self: pytest.fail("rows were read"))
    with pytest.raises(DataError, match=rf"holds {rows} rows, more than 1000000"):
        read()


@pytest.mark.parametrize("make", [rows_file, values_file])
def test_what_is_no_file_or_too_large_is_not_opened(
    make: Callable[[Path], tuple[Path, Callable[[], object]]], tmp_path: Path
) -> None:
    path, read = make(tmp_path)
    os.truncate(path, 2**40)
    with pytest.raises(DataError, match=f"{2**40} bytes, more than"):
        read()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="not a regular file"):
        read()
