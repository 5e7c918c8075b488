"""One leaderboard row, and the explicit schema that rows are kept in. Imports no torch."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import pyarrow as pa

from vaebench.core.errors import UserError, unknown
from vaebench.core.files import unplaced
from vaebench.core.names import CSV_AFTER, CSV_BEFORE, check_name

_TEXT, _INT, _FLOAT = pa.string(), pa.int64(), pa.float64()
_POINTS = pa.list_(pa.field("element", _FLOAT, nullable=False))
CURVE = pa.struct([("x", _POINTS), ("y", _POINTS), ("x_name", _TEXT), ("y_name", _TEXT)])


def _must(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


SCHEMA: pa.Schema = pa.schema(
    [
        _must("model", _TEXT),
        pa.field("weights_sha256", _TEXT),
        _must("dataset", _TEXT),
        pa.field("data_fingerprint", _TEXT),
        _must("split", _TEXT),
        _must("metric", _TEXT),
        _must("metric_version", _INT),
        _must("parameters", _TEXT),
        _must("comparability", _TEXT),
        _must("column", _TEXT),
        pa.field("value", _FLOAT),
        pa.field("stderr", _FLOAT),
        pa.field("n", _INT),
        _must("unit", _TEXT),
        _must("better", _TEXT),
        _must("bound", _TEXT),
        pa.field("curve", CURVE),
        _must("status", _TEXT),
        pa.field("reason", _TEXT),
        _must("origin", _TEXT),
        pa.field("source", _TEXT),
        _must("verified", _TEXT),
        pa.field("seed", _INT),
        pa.field("device", _TEXT),
        pa.field("dtype", _TEXT),
        pa.field("torch", _TEXT),
        pa.field("vaebench", _TEXT),
        pa.field("commit", _TEXT),
        pa.field("dirty", pa.bool_()),
        _must("created", pa.timestamp("ms", tz="UTC")),
        pa.field("seconds", _FLOAT),
        pa.field("peak_memory", _INT),
    ]
)
KINDS = {field.name: (field.type, field.nullable) for field in SCHEMA}
_WORDS = {
    "better": ("lower", "higher", "none"),
    "bound": ("exact", "lower", "upper", "estimate"),
    "status": ("ok", "skipped", "failed"),
    "origin": ("measured", "published"),
    "verified": ("unverified", "verified", "refuted"),
}
Identity = tuple[str, str, str, str, str, str, str, int]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One column of one metric, for one model and dataset; ValueError where a field cannot be what it says.

    `value` is there exactly where status is `ok`; else `reason` says why not. `curve` is (x, y, x_name, y_name).
    `parameters` and `comparability` are JSON objects, exactly as `json.dumps(..., sort_keys=True)` writes them. A
    measured row names its weights, data and seed; a published one its source. `created` is ISO 8601 with a time zone,
    and kept in UTC, to the second. `reason` is brought to one line of printable text. NaN and infinity are refused.
    """

    model: str
    weights_sha256: str | None
    dataset: str
    data_fingerprint: str | None
    split: str
    metric: str
    metric_version: int
    parameters: str
    comparability: str
    column: str
    value: float | None
    stderr: float | None
    n: int | None
    unit: str
    better: Literal["lower", "higher", "none"]
    bound: Literal["exact", "lower", "upper", "estimate"]
    curve: tuple[tuple[float, ...], tuple[float, ...], str, str] | None
    status: Literal["ok", "skipped", "failed"]
    reason: str | None
    origin: Literal["measured", "published"]
    source: str | None
    verified: Literal["unverified", "verified", "refuted"]
    seed: int | None
    device: str | None
    dtype: str | None
    torch: str | None
    vaebench: str | None
    commit: str | None
    dirty: bool | None
    created: str
    seconds: float | None
    peak_memory: int | None

    def __post_init__(self) -> None:
        for name, (kind, nullable) in KINDS.items():
            value = getattr(self, name)
            if value is None and not nullable:
                raise ValueError(f"{name} is missing")
            if value is not None:
                object.__setattr__(self, name, _checked(name, kind, value))
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                raise ValueError(f"{name} {getattr(self, name)!r} is none of {', '.join(words)}")
        check_name("model", self.model)
        check_name("dataset", self.dataset)
        if self.column in (*CSV_BEFORE, *CSV_AFTER) or self.column.endswith("_stderr"):
            raise ValueError(f"column {self.column!r} has a name that the CSV uses itself")
        measured, ok = self.origin == "measured", self.status == "ok"
        needs = {
            "value": ok,
            "reason": not ok,
            "n": ok and measured,
            "weights_sha256": measured,
            "data_fingerprint": measured,
            "seed": measured,
            "source": not measured,
        }
        for name in (name for name, needed in needs.items() if needed and getattr(self, name) is None):
            raise ValueError(f"{name} is missing from a row that is {self.origin} and {self.status}")
        for name in ("value", "stderr", "curve"):
            if not ok and getattr(self, name) is not None:
                raise ValueError(f"a row that is {self.status} has no {name}")
        for name in ("stderr", "n", "seed", "metric_version", "seconds", "peak_memory"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} = {getattr(self, name)} is negative")

    @property
    def identity(self) -> Identity:
        """What a later row must share to take this one's place in its file; also the order of rows in a file."""
        seed = -1 if self.seed is None else self.seed
        place = (self.metric, self.split, self.comparability, self.parameters, self.origin, self.source or "")
        return (*place, self.column, seed)


def _checked(name: str, kind: pa.DataType, value: Any) -> Any:
    """`value` as the plain Python type that stands for `kind`; ValueError where it is another."""
    if kind == _FLOAT and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}, not a finite number")
        return float(value) + 0.0  # no negative zero: equal rows have equal bytes
    if kind == _INT and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= 2**63:
            raise ValueError(f"{name} = {value} does not fit in 64 bits")
        return int(value)
    if kind == pa.bool_() and isinstance(value, bool):
        return value
    if kind == CURVE and isinstance(value, tuple) and len(value) == 4:
        x, y, *names = value
        if len(x) != len(y):
            raise ValueError(f"{name} has {len(x)} x and {len(y)} y")
        points = (tuple(_checked(name, _FLOAT, point) for point in axis) for axis in (x, y))
        return (*points, *(_checked(name, _TEXT, text) for text in names))
    if not isinstance(value, str) or kind in (_FLOAT, _INT, CURVE, pa.bool_()):
        raise ValueError(f"{name} {value!r} is a {type(value).__name__}, not {kind}")
    if name == "created":
        return utc(value).isoformat(timespec="seconds")
    if name in ("parameters", "comparability") and not _canonical(value):
        raise ValueError(f"{name} {value!r} is not a JSON object with sorted keys, as json.dumps writes it")
    if name == "reason":
        value = " ".join(unplaced(value).split())
        value = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in value) or "unknown"
    if not value.isprintable() or not (value or name == "unit"):
        raise ValueError(f"{name} {value!r} is empty or not printable")
    return str(value)


def _canonical(text: str) -> bool:
    try:
        parsed = json.loads(text)
        return isinstance(parsed, dict) and json.dumps(parsed, sort_keys=True, allow_nan=False) == text
    except ValueError:
        return False


def utc(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"created {text!r} is not a time in ISO 8601 with its time zone")


def row(values: Mapping[str, Any]) -> Row:
    """A Row from a mapping with exactly its fields; UserError for an unknown or missing one, ValueError as Row."""
    for key in values:
        if key not in KINDS:
            raise unknown("column", key, KINDS)
    if missing := [name for name in KINDS if name not in values]:
        raise UserError(f"a row lacks {', '.join(missing)}")
    return Row(**values)
