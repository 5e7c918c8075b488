"""Numbers that others have published, from `published.toml`, as rows beside the measured ones. Imports no torch.

They are read when a board is shown, and are in no Parquet file: correcting the file corrects every board. A published
row is never ranked; its comparability class says `comparable`, and where that is false its `reason` says why.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from vaebench.boards.rows import Row
from vaebench.core import tables as tables_
from vaebench.core.errors import DataError, UserError, foreign

INCOMPARABLE = "not comparable: "
FILE = Path(__file__).with_suffix(".toml")
ENTERED = "2026-11-25T00:00:00+00:00"  # `created` of a row that no run created


@dataclass(frozen=True)
class Table:
    """One column of one source; raises ValueError for one without a source."""

    source: str
    metric: str
    column: str
    unit: str
    better: Literal["lower", "higher", "none"]
    bound: Literal["exact", "lower", "upper", "estimate"]
    split: str
    values: Mapping[str, Any]
    protocol: Mapping[str, Any] = field(default_factory=dict)
    incomparable: str | None = None

    def __post_init__(self) -> None:
        if not self.source.strip() or "[mem]" in self.source:
            raise ValueError(f"source = {self.source!r} should be a paper and where the number was seen")
        if self.incomparable is not None and not self.incomparable.strip():
            raise ValueError("incomparable should be the reason, or be left out")
        if "comparable" in self.protocol:
            raise ValueError("protocol holds no comparable: give incomparable its reason, or leave it out")
        if not self.values or not all(isinstance(models, dict) and models for models in self.values.values()):
            raise ValueError("values should hold a number for each model of each dataset")


def read(path: Path = FILE) -> list[Row]:
    """Every published row, in the order of the file. DataError names the table and key that are wrong."""
    with foreign(lambda reason: DataError(f"cannot read {path}: {reason}; restore it")):
        content = tables_.parse(path.read_text(encoding="utf-8"))
    if set(content) != {"table"} or not isinstance(content["table"], list):
        raise DataError(f"{path} should hold [[table]] and nothing else")
    rows: dict[tuple[str, str, Any], Row] = {}
    for number, table in enumerate(content["table"], 1):
        try:
            for row in _rows(tables_.build(Table, table, f"{path.name}, table {number}")):
                if (key := (row.dataset, row.model, row.identity)) in rows:
                    raise ValueError(f"{row.model} on {row.dataset} has a second {row.column} of one source")
                rows[key] = row
        except UserError as error:
            raise DataError(str(error)) from error
        except ValueError as error:
            raise DataError(f"{path.name}, table {number}: {error}") from error
    return list(rows.values())


def _rows(table: Table) -> list[Row]:
    protocol = json.dumps({**table.protocol, "comparable": table.incomparable is None}, sort_keys=True)
    return [
        Row(
            model=model,
            weights_sha256=None,
            dataset=dataset,
            data_fingerprint=None,
            split=table.split,
            metric=table.metric,
            metric_version=1,
            parameters="{}",
            comparability=protocol,
            facet="{}",
            column=table.column,
            value=value,
            stderr=None,
            df=None,
            low=None,
            high=None,
            n=None,
            unit=table.unit,
            better=table.better,
            bound=table.bound,
            marks=(),
            curve=None,
            status="ok",
            reason=None if table.incomparable is None else f"{INCOMPARABLE}{table.incomparable}",
            origin="published",
            source=table.source,
            verified="unverified",
            seed=None,
            device=None,
            dtype=None,
            torch=None,
            vaebench=None,
            commit=None,
            dirty=None,
            created=ENTERED,
            seconds=None,
            peak_memory=None,
        )
        for dataset, models in table.values.items()
        for model, value in models.items()
    ]


@cache
def _shipped() -> list[Row]:
    return read()


def rows(dataset: str) -> list[Row]:
    """The published rows of one dataset, by model and then in file order."""
    return sorted((row for row in _shipped() if row.dataset == dataset), key=lambda row: (row.model, row.identity))


def datasets() -> list[str]:
    """The datasets that have published numbers, sorted."""
    return sorted({row.dataset for row in _shipped()})
