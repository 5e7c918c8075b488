"""Leaderboard rows on disk: one explicit schema, one Parquet file per model and dataset; CSVs are `rendered`.

Imports no torch. Writing is locked, atomic and byte-stable: equal rows give equal bytes, and a repeated run changes no
file, so that a diff means something. `ranking` compares rows.
"""

import dataclasses
import hashlib
import io
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from vaebench.boards import marks
from vaebench.boards.rows import CURVE, KINDS, LONGEST, SCHEMA, Identity, Row, row, utc
from vaebench.core import files
from vaebench.core.errors import DataError, UserError, foreign
from vaebench.core.names import check_name

CIRCUMSTANCE = ("created", "seconds", "peak_memory", "torch", "vaebench", "commit", "dirty")
VERSION = "2"
"""Version of the rows' schema."""
MOST_ROWS = 20_000
MOST_BYTES = 2**24
BATCH = 100  # rows read at once
LOCK_SECONDS = 120.0  # how long another process may be writing; a write takes milliseconds


def merge(stored: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """The rows of one model's file after `new`, of whole runs of metrics, is written over `stored`, in file order.

    A new row takes the place of one of its identity, unless that one has a later metric version, or is `ok` where the
    new one is not and data and version are the same (nothing finished is lost), or differs only in `CIRCUMSTANCE` (then
    the new run has reproduced it; a clean checkout's row still replaces a dirty one's) or in a verdict that the new row
    does not pass. Rows of other weights stand beside each other. Rows without a value are left out where the same run,
    done at another time, has values: one that fails has a row for the whole metric. Marks that follow from a model's
    other rows are set anew. Raises ValueError for two different rows of one identity.
    """
    rows: dict[Identity, Row] = {}
    for candidate in new:
        if rows.setdefault(candidate.identity, candidate) != candidate:
            raise ValueError(f"two rows at once for {candidate.metric} {candidate.column} of {candidate.model}")
    return overlaid(marks.alone(stored), marks.alone(rows.values()))


def overlaid(under: Iterable[Row], over: Iterable[Row]) -> list[Row]:
    """`merge` of rows of one model that have no mark which follows from others."""
    kept, rows = ({each.identity: each for each in side} for side in (under, over))
    merged = _without_moot(kept, rows)
    for identity, each in _without_moot(rows, kept).items():
        merged[identity] = _winner(kept[identity], each) if identity in kept else each
    return marks.together(merged[identity] for identity in sorted(merged))


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
    *place, _, _, seed = row.identity
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


def encode(rows: Sequence[Row]) -> bytes:
    """A Parquet file of `rows`: no compression (git compresses), a checksum on every page; its metadata hold the number
    of the schema, how many rows there are, and a digest of them.
    """
    records = []
    for each in rows:
        record = {name: getattr(each, name) for name in KINDS} | {"created": utc(each.created)}
        records.append(record | {"curve": each.curve and dict(zip(CURVE.names, each.curve, strict=True))})
    buffer = io.BytesIO()
    with pq.ParquetWriter(
        buffer,
        SCHEMA,
        version="2.6",
        compression="none",
        write_statistics=False,
        store_schema=False,
        write_page_checksum=True,
    ) as writer:
        writer.write_table(pa.Table.from_pylist(records, schema=SCHEMA))
        writer.add_key_value_metadata({"schema": VERSION, "rows": str(len(rows)), "sha256": digest(rows)})
    return buffer.getvalue()


def digest(rows: Iterable[Row]) -> str:
    """The SHA-256 of every field of every row, in order."""
    lines = (json.dumps([getattr(each, name) for name in KINDS]) + "\n" for each in rows)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_file(path: Path) -> list[Row]:
    """The rows of one Parquet file.

    DataError names the file where it cannot be read, is of another schema, holds other rows than it says or more than
    `MOST_ROWS`, or is not one of vaebench's.
    """
    with readable(path):
        version, rows = _rows(_content(path))
        if version != VERSION:
            older = "do `vaebench board migrate` once" if version == "1" else "update vaebench"
            raise DataError(f"{path} is of row schema {version}, and this vaebench reads {VERSION}: {older}")
        if {(each.dataset, each.model) for each in rows} != {(path.parent.name, path.stem)}:
            raise ValueError("no rows, or rows of another model or dataset")
        return list(rows)


@lru_cache(maxsize=256)
def _rows(content: bytes) -> tuple[str, tuple[Row, ...]]:
    """The row schema of a Parquet file's content, and its rows if they are of this one; ValueError if it is damaged.

    One command asks for the same boards several times: equal bytes are checked once.
    """
    with _parquet(content, MOST_ROWS) as parquet:
        said = {key.decode(): text.decode() for key, text in (parquet.metadata.metadata or {}).items()}
        found = parquet.schema_arrow
        if (version := said.get("schema", "1" if "facet" not in found.names else VERSION)) != VERSION:
            return version, ()
        checked(found, SCHEMA)
        rows = tuple(row(record | {"marks": tuple(record["marks"])}) for record in records(parquet))
        if (said.get("rows"), said.get("sha256")) != (str(len(rows)), digest(rows)):
            raise ValueError(f"its {len(rows)} rows are not the {said.get('rows', 'unknown number')} that were written")
        return version, rows


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """A DataError that names `path` for whatever goes wrong with it."""
    with foreign(lambda why: DataError(f"cannot read {path}: {why}; restore it, or delete it and run again")):
        yield


@contextmanager
def opened(path: Path, most: int = MOST_ROWS) -> Iterator[pq.ParquetFile]:
    """A Parquet file, small by its size and footer before any row is read; raises ValueError for a larger one.

    Few bytes can be many: a long text that all rows share is kept once. Nothing of a column is asked of the footer,
    since a damaged one can then end the process.
    """
    with _parquet(_content(path), most) as parquet:
        yield parquet


def _content(path: Path) -> bytes:
    if (size := files.check_plain(path)) > MOST_BYTES:
        raise ValueError(f"it is of {size} bytes, more than {MOST_BYTES}")
    return path.read_bytes()


@contextmanager
def _parquet(content: bytes, most: int) -> Iterator[pq.ParquetFile]:
    with pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True) as parquet:
        groups = [parquet.metadata.row_group(i) for i in range(parquet.metadata.num_row_groups)]
        said, held = parquet.metadata.num_rows, sum(group.num_rows for group in groups)
        if (count := max(said, held)) > most:
            raise ValueError(f"it holds {count} rows, more than {most}")
        if said != held:
            raise ValueError(f"its footer says {said} rows, and its parts hold {held}")
        if (size := sum(group.total_byte_size for group in groups)) > MOST_BYTES:
            raise ValueError(f"it holds {size} bytes, more than {MOST_BYTES}")
        yield parquet


def checked(found: pa.Schema, wanted: pa.Schema) -> None:
    """ValueError says how the columns that were `found` are not those `wanted`."""
    odd = [f"no column {name!r}" for name in wanted.names if name not in found.names]
    odd += [f"unknown column {name!r}" for name in found.names if name not in wanted.names]
    odd += [f"column {f.name!r} of type {f.type}" for f in wanted if not odd and found.field(f.name) != f]
    if odd or len(found) != len(wanted):
        raise ValueError(", ".join(odd) or "a column twice")


def records(parquet: pq.ParquetFile) -> Iterator[dict[str, Any]]:
    """Each row's fields, `curve` and `created` as a Row has them. Raises ValueError for a text beyond `LONGEST`."""
    for batch in parquet.iter_batches(BATCH):
        for column in batch.columns:
            if pa.types.is_string(column.type) and (pc.max(pc.binary_length(column)).as_py() or 0) > 4 * LONGEST:
                raise ValueError(f"a text of more than {LONGEST} characters")
        for record in batch.to_pylist():
            if (curve := record["curve"]) is not None:
                curve = (tuple(curve["x"]), tuple(curve["y"]), curve["x_name"], curve["y_name"])
            yield record | {"curve": curve, "created": record["created"].isoformat()}


def datasets(root: Path) -> list[str]:
    """The datasets that have a leaderboard under `root`, sorted."""
    return sorted({path.parent.name for path in root.glob("*/*.parquet")})


def read(root: Path, dataset: str) -> list[Row]:
    """All rows of `dataset`, by model and then in file order; none where none were written. DataError as read_file."""
    folder = root / _path_part("dataset", dataset)
    return [each for path in sorted(folder.glob("*.parquet")) for each in read_file(path)]


def weights(root: Path, dataset: str, model: str) -> set[str]:
    """The SHA-256 of each set of weights that the board has measured rows of under the name `model`.

    Rows of other weights written under that name stand beside them: who writes some says so. DataError as read_file.
    """
    path = root / _path_part("dataset", dataset) / f"{_path_part('model', model)}.parquet"
    stored = read_file(path) if path.exists() else []
    return {each.weights_sha256 for each in stored if each.weights_sha256 is not None}


def write(root: Path, rows: Iterable[Row]) -> None:
    """Merge `rows` into root/<dataset>/<model>.parquet, then render the CSVs of the dataset anew.

    Processes that share a cache folder wait for one another, per dataset. When this returns, the rows are on disk;
    Raises UserError or DataError if they cannot be, and then each file is the old one or the new, whole.
    """
    boards: dict[str, dict[str, list[Row]]] = {}
    for each in rows:
        boards.setdefault(each.dataset, {}).setdefault(each.model, []).append(each)
    for dataset, models in sorted(boards.items()):
        with locked(root, dataset):
            for model, new in sorted(models.items()):
                path = root / dataset / f"{model}.parquet"
                stored = read_file(path) if path.exists() else []
                merged = merge(stored, new)
                if len(merged) > MOST_ROWS:
                    raise UserError(f"{path} would hold {len(merged)} rows, more than {MOST_ROWS}; use another name")
                if merged != stored:
                    files.write_atomic(path, encode(merged))
            render_locked(root, dataset)


def render(root: Path, dataset: str) -> None:
    """Write all CSVs of `dataset` from its Parquet files; each untouched where it is already right."""
    with locked(root, _path_part("dataset", dataset)):
        render_locked(root, dataset, everything=True)


def _path_part(kind: str, name: str) -> str:
    try:
        return check_name(kind, name)
    except ValueError as error:
        raise UserError(str(error)) from error


@contextmanager
def locked(root: Path, dataset: str) -> Iterator[None]:
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


def render_locked(root: Path, dataset: str, everything: bool = False) -> None:
    from vaebench.boards import rendered

    rendered.write(root, dataset, read(root, dataset), everything)
