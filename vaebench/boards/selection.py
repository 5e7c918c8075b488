"""Rows of a board by metric and by protocol, with one line where a choice leaves none. Imports no torch."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from vaebench.boards.classes import protocol
from vaebench.boards.rows import Row
from vaebench.core.errors import UserError, unknown


def of_metrics(rows: Sequence[Row], names: Iterable[str], where: str) -> list[Row]:
    """The rows of the metrics `names`, or all where there are none.

    UserError, which begins with `where`, for a metric without a row: it says of which metric a column is, or the
    nearest name.
    """
    names, known = tuple(names), {row.metric for row in rows}
    for name in names:
        if name not in known:
            owner = next((row.metric for row in rows if row.column == name), None)
            if owner is not None:
                raise UserError(
                    f"{where}: {name!r} is not a metric but a column of {owner!r}; give the metric {owner!r}"
                )
            raise UserError(f"{where}: {unknown('metric', name, known)}")
    return [row for row in rows if not names or row.metric in names]


def of_class(dataset: str, rows: Sequence[Row], text: str) -> list[Row]:
    """The rows whose comparability class has this FIELD=VALUE; UserError says which fields or values there are."""
    field, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--class {text!r} should be FIELD=VALUE, as samples=1000")
    known = [(row, protocol(row)) for row in rows]
    if not any(field in fields for _, fields in known):
        fields_ = {name for _, fields in known for name in fields}
        raise UserError(f"the board of {dataset!r}: {unknown('class field', field, fields_)}")
    kept = [row for row, fields in known if field in fields and said(fields[field]) == value]
    if not kept:
        values = sorted({said(fields[field]) for _, fields in known if field in fields})
        raise UserError(f"the board of {dataset!r} has no {field}={value}; there are: {', '.join(values)}")
    return kept


def said(value: Any) -> str:
    """A value of a comparability class, as `of_class` is given it."""
    return value if isinstance(value, str) else json.dumps(value)
