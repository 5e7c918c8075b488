"""Templates made into text, and the words that they use. Imports no torch."""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vaebench.boards import tasks
from vaebench.boards.classes import title
from vaebench.boards.headline import Cell, listed, sentence
from vaebench.boards.rows import Row
from vaebench.boards.site.sheets import PROVENANCE, Line, again
from vaebench.boards.text import number
from vaebench.core import registry as plugins
from vaebench.core.names import YOURS

WIDEST = 18
TOLD = {"dirty": "uncommitted changes", "peak_memory": "peak memory, bytes"}
"""What fields of a row are called, where their names do not say it."""
HERE = Path(__file__).parent


@cache
def summary(kind: plugins.Kind, name: str) -> str:
    """What `vaebench ls` says of a plug-in; nothing of one that is not installed."""
    return plugins.summary(kind, name) if name in plugins.names(kind) else ""


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda row: number(row.value, row.stderr, row.low, row.high)
    environment.filters["parts"] = parts
    environment.filters["title"] = title
    environment.filters["sentence"] = sentence
    environment.filters["json"] = lambda value: value if isinstance(value, str) else json.dumps(value)
    environment.filters["provenance"] = provenance
    environment.filters["words"] = words
    environment.filters["listed"] = listed
    environment.filters["told"] = lambda row: [mark for mark in row.marks if mark != YOURS]
    environment.filters["yours"] = lambda line: (
        any(row.origin == "measured" for row in line.rows) and all(YOURS in row.marks for row in line.rows)
    )
    environment.filters["ident"] = id
    environment.globals["width"] = width
    environment.globals["column_widths"] = lambda sheet: [
        width(cell.row for cell in cells if cell is not None)
        for cells in zip(*(line.cells for line in sheet.lines), strict=True)
    ]
    environment.globals["again"] = again
    environment.globals["apart"] = tasks.APART
    environment.globals["verdict"] = verdict
    environment.filters["said"] = said
    environment.globals["metric_summary"] = lambda name: summary("metrics", name)
    return environment


def provenance(row: Row) -> list[tuple[str, Any]]:
    """What is known of the run behind a row, each under its name."""
    known = [(name, value) for name in PROVENANCE if (value := getattr(row, name)) is not None]
    return [(TOLD.get(name, name.replace("_", " ")), value) for name, value in known]


def parts(row: Row) -> tuple[str, str]:
    """The value of a row, and what follows it: ("96.83", "± 0.45")."""
    said = number(row.value or 0.0, row.stderr, row.low, row.high)
    value, _, rest = said.partition(" ")
    return value, rest


def width(rows: Iterable[Row | None]) -> int:
    """How many characters the longest error of a column has, so that the values of the column end at one place."""
    return min(
        WIDEST, max((len(parts(row)[1]) for row in rows if row is not None and row.value is not None), default=0)
    )


def words(fields: Mapping[str, Any]) -> str:
    """A protocol as a reader says it: "decode mean, samples 5000"."""
    said = {key: value for key, value in fields.items() if value is not None and key not in ("split", "comparable")}
    return ", ".join(
        f"{key.replace('_', ' ')} {value if isinstance(value, str) else json.dumps(value)}"
        for key, value in sorted(said.items())
    )


def said(line: Line) -> str:
    """The marks and verdicts of a sheet's line, each with its columns where not all values have it."""
    found: dict[str, list[str]] = {}
    valued = [row for row in line.rows if row.value is not None]
    for row in valued:
        for mark in (*row.marks, row.verified):
            if mark not in (YOURS, "unverified"):
                found.setdefault(mark, []).append(row.column)
    marks = sorted(found.items())
    return "; ".join(name if len(has) == len(valued) else f"{name}: {', '.join(has)}" for name, has in marks)


def verdict(cells: Iterable[Cell | None]) -> str:
    """`refuted` where any value is, `verified` where all are, else nothing."""
    found = {cell.row.verified for cell in cells if cell is not None}
    return "refuted" if "refuted" in found else "verified" if found == {"verified"} else ""


def text(template: str, **values: Any) -> bytes:
    """A template, filled in."""
    return _environment().get_template(template).render(**values).encode()
