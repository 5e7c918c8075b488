"""Leaderboard rows on disk: one explicit schema, one Parquet file per model and dataset, one CSV per dataset.

Imports no torch. Writing is locked, atomic and byte-stable: equal rows give equal bytes, and a repeated run changes no
file, so that a diff means something. `ranking` compares rows.
"""

import dataclasses
import hashlib
import io
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from vaebench.boards.export import to_csv
from vaebench.boards.rows import CURVE, KINDS, SCHEMA, Identity, Row, row, utc
from vaebench.core import files
from vaebench.core.errors import DataError, UserError
from vaebench.core.names import check_name

CIRCUMSTANCE = ("created", "seconds", "peak_memory", "torch", "vaebench", "commit", "dirty")
LOCK_SECONDS = 120.0  # how long another process may be writing; a write takes milliseconds


def merge(stored: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """The rows of one model's file after `new`, of whole runs of metrics, is written over `stored`, in file order.

    A new row takes the place of one of its identity, unless that one has a later metric version, or is `ok` where the
    new one is not and weights, data and version are the same (nothing finished is lost), or differs only in
    `CIRCUMSTANCE` (then the new run has reproduced it; a clean checkout's row still replaces a dirty one's) or in a
    verdict that the new row does not pass. Measured rows of weights other than the new rows' are dropped: the model has
    changed. Rows without a value are left out where the same run, done at another time, has values: one that fails has
    a row for every column that there could be. ValueError for two sets of weights, or two different rows of one
    identity.
    """
    rows: dict[Identity, Row] = {}
    for candidate in new:
        if rows.setdefault(candidate.identity, candidate) != candidate:
            raise ValueError(f"two rows at once for {candidate.metric} {candidate.column} of {candidate.model}")
    weights = {candidate.weights_sha256 for candidate in rows.values() if candidate.origin == "measured"}
    if len(weights) > 1:
        raise ValueError(f"rows of {len(weights)} sets of weights at once for {next(iter(rows.values())).model}")
    kept = {
        each.identity: each
        for each in stored
        if each.origin == "published" or not weights or each.weights_sha256 in weights
    }
    merged = _without_moot(kept, rows)
    for identity, each in _without_moot(rows, kept).items():
        merged[identity] = _winner(kept[identity], each) if identity in kept else each
    return [merged[identity] for identity in sorted(merged)]


def _without_moot(rows: Mapping[Identity, Row], others: Mapping[Identity, Row]) -> dict[Identity, Row]:
    """`rows` less those that have no value and no counterpart in `others`, where the same run has values."""
    latest = sorted(others.values(), key=lambda other: other.metric_version)
    finished = {_run(other): other for other in latest if other.status == "ok"}

    def moot(each: Row) -> bool:
        other = None if each.status == "ok" else finished.get(_run(each))
        if other is None or each.identity in others:
            return False
        return other.data_fingerprint == each.data_fingerprint and other.metric_version >= each.metric_version

    return {identity: each for identity, each in rows.items() if not moot(each)}


def _run(row: Row) -> tuple[str | int, ...]:
    """What the rows of one run of a metric share of their identities."""
    *place, _, seed = row.identity
    return (*place, seed)


def _winner(old: Row, new: Row) -> Row:
    if new.metric_version != old.metric_version:
        return max(old, new, key=lambda either: either.metric_version)
    if old.status == "ok" and new.status != "ok" and old.data_fingerprint == new.data_fingerprint:
        return old
    verified = old.verified if new.verified == "unverified" else new.verified
    aside = {name: getattr(old, name) for name in CIRCUMSTANCE} | {"verified": verified}
    reproduced = dataclasses.replace(new, **aside) == old
    return old if reproduced and not (old.dirty and new.dirty is False) else new


def encode(rows: Iterable[Row]) -> bytes:
    """A Parquet file of `rows`: no compression (git compresses), a checksum on every page, no metadata of its own."""
    records = []
    for each in rows:
        record = {name: getattr(each, name) for name in KINDS} | {"created": utc(each.created)}
        records.append(record | {"curve": each.curve and dict(zip(CURVE.names, each.curve, strict=True))})
    buffer = io.BytesIO()
    pq.write_table(
        pa.Table.from_pylist(records, schema=SCHEMA),
        buffer,
        version="2.6",
        compression="none",
        write_statistics=False,
        store_schema=False,
        write_page_checksum=True,
    )
    return buffer.getvalue()


def read_file(path: Path) -> list[Row]:
    """The rows of one Parquet file. DataError names the file where it cannot be read, or is not one of vaebench's."""
    try:
        with pq.ParquetFile(io.BytesIO(path.read_bytes()), page_checksum_verification=True) as parquet:
            found = parquet.schema_arrow
            odd = [f"no column {name!r}" for name in SCHEMA.names if name not in found.names]
            odd += [f"unknown column {name!r}" for name in found.names if name not in KINDS]
            odd += [f"column {f.name!r} of type {f.type}" for f in SCHEMA if not odd and found.field(f.name) != f]
            if odd or len(found) != len(SCHEMA):
                raise ValueError(", ".join(odd) or "a column twice")
            rows = []
            for record in parquet.read().to_pylist():
                curve = record["curve"]
                if curve is not None:
                    curve = (tuple(curve["x"]), tuple(curve["y"]), curve["x_name"], curve["y_name"])
                rows.append(row(record | {"curve": curve, "created": record["created"].isoformat()}))
            if {(each.dataset, each.model) for each in rows} != {(path.parent.name, path.stem)}:
                raise ValueError("no rows, or rows of another model or dataset")
            return rows
    except (OSError, ValueError, TypeError, pa.ArrowException, OverflowError, MemoryError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot read {path}: {text}; restore it, or delete it and run again") from error


def datasets(root: Path) -> list[str]:
    """The datasets that have a leaderboard under `root`, sorted."""
    return sorted({path.parent.name for path in root.glob("*/*.parquet")})


def read(root: Path, dataset: str) -> list[Row]:
    """All rows of `dataset`, by model and then in file order; none where none were written. DataError as read_file."""
    folder = root / _path_part("dataset", dataset)
    return [each for path in sorted(folder.glob("*.parquet")) for each in read_file(path)]


def write(root: Path, rows: Iterable[Row]) -> None:
    """Merge `rows` into root/<dataset>/<model>.parquet, then render root/<dataset>.csv anew.

    Processes that share a cache folder wait for one another, per dataset. When this returns, the rows are on disk;
    UserError or DataError where they cannot be, and then each file is the old one or the new, whole.
    """
    boards: dict[str, dict[str, list[Row]]] = {}
    for each in rows:
        boards.setdefault(each.dataset, {}).setdefault(each.model, []).append(each)
    for dataset, models in sorted(boards.items()):
        with _lock(root, dataset):
            for model, new in sorted(models.items()):
                path = root / dataset / f"{model}.parquet"
                stored = read_file(path) if path.exists() else []
                if (merged := merge(stored, new)) != stored:
                    files.write_atomic(path, encode(merged))
            _render(root, dataset)


def render(root: Path, dataset: str) -> None:
    """Write root/<dataset>.csv from the Parquet files of `dataset`; untouched where it is already right."""
    with _lock(root, _path_part("dataset", dataset)):
        _render(root, dataset)


def _path_part(kind: str, name: str) -> str:
    try:
        return check_name(kind, name)
    except ValueError as error:
        raise UserError(str(error)) from error


@contextmanager
def _lock(root: Path, dataset: str) -> Iterator[None]:
    """Alone among the writers of one dataset; the lock is in the cache, so that the leaderboards hold results only.

    Its age is that of the present writer's turn: while turns change, however many they are, it is worth waiting.
    """
    path = files.cache() / "locks" / f"{hashlib.sha256(str(root.resolve() / dataset).encode()).hexdigest()[:32]}.lock"
    lock = FileLock(path, timeout=LOCK_SECONDS, poll_interval=0.01)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while not lock.is_locked:
            try:
                lock.acquire()
            except Timeout as error:
                if path.stat().st_mtime < time.time() - LOCK_SECONDS:
                    told = f"another process has been writing {root / dataset} for {LOCK_SECONDS:g} s; end it"
                    raise UserError(told) from error
        os.utime(path)
    except OSError as error:
        raise UserError(f"cannot lock {path}: {error.strerror}; set VAEBENCH_CACHE to another folder") from error
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot use {root}: {error.strerror}; choose another folder") from error
    finally:
        lock.release()


def _render(root: Path, dataset: str) -> None:
    files.write_changed(root / f"{dataset}.csv", to_csv(read(root, dataset)).encode())
