"""One leaderboard row, and the explicit schema, number 2, that rows are kept in. Imports no torch."""

import json
import math
import re
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
MARKS = pa.list_(pa.field("element", _TEXT, nullable=False))
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
        _must("facet", _TEXT),
        _must("column", _TEXT),
        pa.field("value", _FLOAT),
        pa.field("stderr", _FLOAT),
        pa.field("df", _FLOAT),
        pa.field("low", _FLOAT),
        pa.field("high", _FLOAT),
        pa.field("n", _INT),
        _must("unit", _TEXT),
        _must("better", _TEXT),
        _must("bound", _TEXT),
        _must("marks", MARKS),
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
LONGEST = 10_000  # characters of a text
_WORDS = {
    "better": ("lower", "higher", "none"),
    "bound": ("exact", "lower", "upper", "estimate"),
    "status": ("ok", "skipped", "failed"),
    "origin": ("measured", "published"),
    "verified": ("unverified", "verified", "refuted"),
}
Identity = tuple[str, str, str, str, str, str, str, str, str, int]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number of one metric, for one model and dataset; raises ValueError if a field cannot be what it says.

    The number is named by `column` and `facet`: {"score": "regret", "set": "notmnist"} tells columns of one name apart.
    `value` is there exactly where status is `ok`; else `reason` says why not, and where nothing of the metric was
    measured `column` is empty: it has one row. (`low`, `high`) is the 95% interval of `value`, there wherever `stderr`
    is; `df` are the degrees of freedom of `stderr`, None where it is normal. `marks` are words on how far to trust the
    value, sorted. `curve` is (x, y, x_name, y_name). `parameters`, `comparability` and `facet` are JSON objects,
    exactly as `json.dumps(..., sort_keys=True)` writes them; a facet's values are texts. A measured row names its
    weights, data and seed; a published one its source. `created` is ISO 8601 with a time zone, and kept in UTC, to the
    second. `reason` is brought to one line of printable text. NaN and infinity are refused.
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
    facet: str
    column: str
    value: float | None
    stderr: float | None
    df: float | None
    low: float | None
    high: float | None
    n: int | None
    unit: str
    better: Literal["lower", "higher", "none"]
    bound: Literal["exact", "lower", "upper", "estimate"]
    marks: tuple[str, ...]
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
            "column": ok or not measured,
            "value": ok,
            "reason": not ok,
            "n": ok and measured,
            "low": self.stderr is not None or self.high is not None,
            "high": self.low is not None,
            "stderr": self.df is not None,
            "weights_sha256": measured,
            "data_fingerprint": measured,
            "seed": measured,
            "source": not measured,
        }
        for name in (name for name, needed in needs.items() if needed and getattr(self, name) in (None, "")):
            raise ValueError(f"{name} is missing from a row that is {self.origin} and {self.status}")
        for name in ("value", "stderr", "low", "curve"):
            if not ok and getattr(self, name) is not None:
                raise ValueError(f"a row that is {self.status} has no {name}")
        for name in ("stderr", "df", "n", "seed", "metric_version", "seconds", "peak_memory"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} = {getattr(self, name)} is negative")
        ends = (self.low, self.value, self.high)
        if self.low is not None and sorted(ends) != list(ends):  # type: ignore[type-var]
            raise ValueError(f"value {self.value} is outside of its interval {self.low} to {self.high}")

    def __hash__(self) -> int:
        """By what tells nearly all rows apart: boards look rows up by the million, and there are three dozen fields."""
        return hash((self.model, self.weights_sha256, self.parameters, self.facet, self.column, self.value))

    @property
    def identity(self) -> Identity:
        """What a later row must share to take this one's place in its file; also the order of rows in a file."""
        seed = -1 if self.seed is None else self.seed
        place = (self.metric, self.split, self.comparability, self.parameters, self.origin, self.source or "")
        return (*place, self.weights_sha256 or "", self.column, self.facet, seed)


def _checked(name: str, kind: pa.DataType, value: Any) -> Any:
    """`value` as the plain Python type that stands for `kind`; raises ValueError if it is another."""
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
    if kind == MARKS and isinstance(value, tuple):
        words = tuple(_checked(name, _TEXT, word) for word in value)
        if list(words) != sorted(set(words)) or not all(re.fullmatch("[a-z]+([ -][a-z]+)*", word) for word in words):
            raise ValueError(f"{name} {value!r} should be words of a-z, sorted")
        return words
    if not isinstance(value, str) or kind in (_FLOAT, _INT, MARKS, CURVE, pa.bool_()):
        raise ValueError(f"{name} {value!r} is a {type(value).__name__}, not {kind}")
    if name == "created":
        return utc(value).isoformat(timespec="seconds")
    if name == "reason":
        value = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(value.split()))
        value = " ".join(unplaced(value).split()) or "unknown"
        value = value if len(value) <= LONGEST else f"{value[: LONGEST - 4]} ..."
    if len(value) > LONGEST:
        raise ValueError(f"{name} is of {len(value)} characters, more than {LONGEST}")
    if name in ("parameters", "comparability", "facet") and not _canonical(value, name == "facet"):
        held = " of texts" if name == "facet" else ""
        raise ValueError(f"{name} {value[:200]!r} is not a JSON object{held} with sorted keys, as json.dumps writes it")
    if not value.isprintable() or not (value or name in ("unit", "column")):
        raise ValueError(f"{name} {value!r} is empty or not printable")
    return str(value)


def _canonical(text: str, of_texts: bool) -> bool:
    try:
        parsed = json.loads(text)
        if not isinstance(parsed, dict) or json.dumps(parsed, sort_keys=True, allow_nan=False) != text:
            return False
    except (ValueError, RecursionError):
        return False
    return not of_texts or all(isinstance(value, str) for value in parsed.values())


def utc(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"created {text!r} is not a time in ISO 8601 with its time zone")


def row(values: Mapping[str, Any]) -> Row:
    """A Row from a mapping of its fields. Raises UserError for an unknown or missing one, ValueError as Row."""
    for key in values:
        if key not in KINDS:
            raise unknown("column", key, KINDS)
    if missing := [name for name in KINDS if name not in values]:
        raise UserError(f"a row lacks {', '.join(missing)}")
    return Row(**values)
