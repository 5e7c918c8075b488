"""Measuring stored rows again: which metric, and which runs."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from vaebench.core import registry as plugins
from vaebench.core.errors import UserError
from vaebench.core.tables import build

if TYPE_CHECKING:
    from vaebench.boards.rows import Row
    from vaebench.core.metric import Metric


def metric_of(row: "Row") -> "Metric":
    """The metric as the row's parameters say. UserError where the version here is another."""
    presets = plugins.load("metrics", row.metric)
    kind = type(presets["standard"])  # type: ignore[index]
    if kind.version != row.metric_version:
        raise UserError(f"{row.metric} is of version {row.metric_version}, here is {kind.version}; run it again")
    built: Metric = build(kind, json.loads(row.parameters), f"{row.metric} of the stored row")
    return built


def runs_of(rows: "Iterable[Row]", *, by_seed: bool) -> "list[list[Row]]":
    """Rows by the run that gave them, or by the protocol that did whatever its seed, sorted."""
    runs: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        seed = row.seed if by_seed else None
        key = (row.metric, row.split, row.parameters, row.comparability, row.metric_version, row.dtype, seed)
        runs.setdefault(key, []).append(row)
    return [runs[key] for key in sorted(runs, key=str)]
