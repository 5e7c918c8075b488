"""Per-example values, kept beside the rows so that models can be compared example by example. Imports no torch.

A file stands at <leaderboards>/<dataset>/<model>/<metric>/values-<digest>.parquet; the digest is of the metric's
parameters, the seed and the weights, so that no two of them overwrite one another. It holds a float32 column for each
kept column of the metric, one line for each example of the split in order, and says in its metadata what was measured
on what. Nothing is compressed (git does that): 40 kB a column for 10,000 examples, about 31 kB of which stay in git.
"""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vaebench.boards.rows import Row
from vaebench.boards.store import opened
from vaebench.core.errors import DataError, foreign

ABOUT = (
    "model", "weights_sha256", "dataset", "data_fingerprint", "split", "metric", "metric_version", "parameters", "seed",
    "dtype",
)  # fmt: skip
"""The fields of a row that the file repeats: where one differs, the file is of another run."""
DISTINCT = 256  # values of a column that are written as indices into them: right or wrong takes a bit
MOST_VALUES = 10**6  # of a column; bytes are bounded as those of rows
ROUNDING = 1e-6  # of a mean of float32 values, relative
NEAR_ZERO = 1e-3  # of a mean, relative to that of absolute values
UNITS_OF = {"bpd": "nll", "nll_point": "nll"}
"""Columns that are another in another unit: values are kept of that one alone."""


class NotKeptError(DataError):
    """A metric keeps no per-example values of this column."""


def name(parameters: str, seed: int, weights_sha256: str) -> str:
    """The file's name: values-<first 12 hex digits of the SHA-256 of parameters, seed and weights>.parquet."""
    of = f"{parameters} seed {seed} weights {weights_sha256}"
    return f"values-{hashlib.sha256(of.encode()).hexdigest()[:12]}.parquet"


def encode(values: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> bytes:
    """The file of `values`, each (N,), by column, measured on what `about` says (exactly the fields of `ABOUT`).

    Equal values give equal bytes. Raises ValueError for a value that is not finite, or columns of several lengths.
    """
    if set(about) != set(ABOUT):
        raise ValueError(f"per-example values should say {', '.join(ABOUT)}")
    arrays = {column: np.asarray(values[column], dtype=np.float32) for column in sorted(values)}
    for column, array in arrays.items():
        if array.ndim != 1 or not np.isfinite(array).all():
            raise ValueError(f"per-example values of {column} are not one finite number for each example")
    schema = pa.schema([pa.field(column, pa.float32(), nullable=False) for column in arrays])
    few = [column for column, array in arrays.items() if len(np.unique(array)) <= DISTINCT]
    buffer = io.BytesIO()
    with pq.ParquetWriter(
        buffer,
        schema,
        version="2.6",
        compression="none",
        use_dictionary=few,
        column_encoding=dict.fromkeys(arrays.keys() - few, "BYTE_STREAM_SPLIT"),  # like bytes together: git packs well
        write_statistics=False,
        store_schema=False,
        write_page_checksum=True,
    ) as writer:
        writer.write_table(pa.Table.from_arrays([pa.array(array) for array in arrays.values()], schema=schema))
        writer.add_key_value_metadata({field: str(about[field]) for field in ABOUT})
    return buffer.getvalue()


def path(root: Path, row: Row) -> Path:
    """Where the values behind a measured row are kept, if they are."""
    return root / row.dataset / row.model / row.metric / name(row.parameters, row.seed or 0, row.weights_sha256 or "")


def read(root: Path, row: Row) -> NDArray[np.float64]:
    """The values (N,) behind a measured row, in the order of its split.

    NotKeptError, a DataError, where the run keeps none of this column; raises DataError if they are absent, damaged, or
    stale: of other weights, data, version or dtype, or of another mean than the row's value.
    """
    file = path(root, row)
    again = f"vaebench run --dataset {row.dataset} --metric {row.metric} --seed {row.seed} with these parameters again"
    if not file.exists():
        what = f"{row.model} on {row.dataset}, {row.metric}, seed {row.seed}, parameters {row.parameters}"
        raise DataError(f"no per-example values are kept of {what}; do {again}")
    with (
        foreign(lambda why: DataError(f"cannot read {file}: {why}; restore it, or do {again}")),
        opened(file, MOST_VALUES) as parquet,
    ):
        said = {key.decode(): text.decode() for key, text in (parquet.metadata.metadata or {}).items()}
        names = parquet.schema_arrow.names
        column = UNITS_OF[row.column] if UNITS_OF.get(row.column) in names else row.column
        values = parquet.read(use_threads=False)[column].to_numpy() if column in names else None  # damage in any shows
    for field in ABOUT:
        if (found := said.get(field)) != (wanted := str(getattr(row, field))):
            raise DataError(f"{file} is stale: its {field} is {found}, the row's {wanted}; do {again}")
    if values is None:
        raise NotKeptError(f"{file} holds no {row.column}: per-example values are kept of {', '.join(names)}")
    values = np.asarray(values, dtype=np.float64)
    if column != row.column and row.value is not None and len(values):
        if abs(float(values.mean())) < NEAR_ZERO * float(np.abs(values).mean()):
            raise NotKeptError(
                f"{file} holds {column}, whose mean is too near 0 to tell the unit of {row.column} by it"
            )
        values = values * (row.value / float(values.mean()))
    mean, size = (float(values.mean()), float(np.abs(values).mean())) if len(values) else (0.0, 0.0)
    if len(values) != row.n or row.value is None or abs(mean - row.value) > ROUNDING * size:
        held = f"its mean is {mean:.8g} over {len(values)}, the row's value {row.value} over {row.n}"
        raise DataError(f"{file} is stale: {held}; do {again}")
    return values
