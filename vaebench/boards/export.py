"""Rows in other people's formats: JSON Lines, and the model-index block of a Hugging Face model card. No torch.

A model-index is the YAML header in which a model's README states its results: a list of results, each of one task and
one dataset with its metrics. Text is written as JSON strings, which YAML reads as they are.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from vaebench.boards.classes import class_of, facet, lowest_seeds, protocol, title
from vaebench.boards.rows import Row
from vaebench.core.names import CSV_AFTER, CSV_BEFORE

TASK = {"type": "unconditional-image-generation", "name": "Density modelling by a variational auto-encoder"}
RESERVED = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}  # words that are no text in YAML 1.1


def json_lines(rows: Iterable[Row]) -> str:
    """A line of JSON for each row, with every field; `parameters`, `comparability`, `facet` and `curve` as objects."""
    return "".join(json.dumps(record) + "\n" for record in to_json(rows))


def model_index(rows: Sequence[Row]) -> dict[str, Any]:
    """The measured rows of one model that have a value, as the content of a model-index block.

    Of several seeds the lowest, as where models are ranked, so that none is picked by its value. One result for each
    dataset and split; a metric's `type` is the column, its `args` the protocol, and what says how far to trust it:
    standard error, n, seed, verdict, versions. The format's own `verified` is left out: it stands for Hugging Face's
    evaluation. ValueError where there is no value, or where there are rows of several models.
    """
    measured = lowest_seeds(row for row in rows if row.origin == "measured" and row.status == "ok")
    if len(names := {row.model for row in measured}) != 1:
        raise ValueError(f"a model-index is of one model's measured values, not of {sorted(names) or 'none'}")
    places: dict[tuple[str, str, str | None], list[Row]] = {}
    for row in measured:
        places.setdefault((row.dataset, row.split, row.data_fingerprint), []).append(row)
    results = [
        {
            "task": TASK,
            "dataset": {"type": dataset, "name": dataset, "split": split, "revision": fingerprint},
            "metrics": [_metric(row) for row in members],
        }
        for (dataset, split, fingerprint), members in sorted(places.items())
    ]
    return {"model-index": [{"name": names.pop(), "results": results}]}


def _metric(row: Row) -> dict[str, Any]:
    args = {**json.loads(row.parameters), **protocol(row), **facet(row)}
    unit = f", {row.unit}" if row.unit else ""
    side = "" if row.better == "none" else f", {row.better} is better"
    trust = {
        "metric": f"{row.metric} v{row.metric_version}",
        "stderr": row.stderr,
        "low": row.low,
        "high": row.high,
        "marks": ", ".join(row.marks) or None,
        "n": row.n,
        "bound": row.bound,
        "seed": row.seed,
        "verdict": row.verified,
        "weights_sha256": row.weights_sha256,
        "vaebench": row.vaebench,
    }
    name = f"{title(row)}{unit}{side}"
    return {"type": row.column, "name": name, "value": row.value, "args": {**args, **trust}}


def to_yaml(value: Mapping[str, Any], indent: int = 0) -> str:
    """Nested mappings, lists of mappings and scalars as YAML in block style; null entries are left out."""
    lines = []
    for name, entry in value.items():
        key, pad = f'"{name}"' if name in RESERVED else name, "  " * indent
        if isinstance(entry, Mapping):
            text = to_yaml(entry, indent + 1)
            lines.append(f"{pad}{key}:\n{text}" if text else f"{pad}{key}: {{}}\n")
        elif isinstance(entry, list) and entry and all(isinstance(item, Mapping) for item in entry):
            lines.append(f"{pad}{key}:\n")
            for item in entry:
                text = to_yaml(item, indent + 1)
                lines.append(f"{pad}- {text[len(pad) + 2 :]}")
        elif entry is not None:
            lines.append(f"{pad}{key}: {_scalar(entry)}\n")
    return "".join(lines)


def _scalar(value: Any) -> str:
    """JSON, which YAML reads alike but for a number as 1e-05: without a point that is text in YAML 1.1."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text else text


def to_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Each row as what `json.dumps` takes, in the order given: all fields, with `parameters`, `comparability` and
    `facet` as objects and `curve` as an object of x, y, x_name and y_name, or null.
    """
    records = []
    for row in rows:
        record = asdict(row)
        for name in ("parameters", "comparability", "facet"):
            record[name] = json.loads(record[name])
        record["marks"] = list(row.marks)
        if row.curve is not None:
            x, y, x_name, y_name = row.curve
            record["curve"] = {"x": list(x), "y": list(y), "x_name": x_name, "y_name": y_name}
        records.append(record)
    return records


def _cell(value: str | float | None) -> str:
    """Numbers as Python reads them back; text that a spreadsheet would run as a formula behind an apostrophe."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(tuple("'=+-@\uff1d\uff0b\uff0d\uff20")) else value
    return "" if value is None else repr(value)


def _shared(row: Row, name: str) -> Any:
    """A field that the columns of a line share: neither marks nor the reason that a measured value has to itself."""
    alone = name == "marks" or (name == "reason" and row.origin == "measured" and row.status == "ok")
    return None if alone else getattr(row, name)


def _marks(line: Mapping[str, Row]) -> str | None:
    """The marks of a line, each with its columns: "bound loose: bpd, nll"."""
    found = sorted({mark for row in line.values() for mark in row.marks})
    return "; ".join(f"{mark}: {', '.join(c for c in sorted(line) if mark in line[c].marks)}" for mark in found) or None


def to_csv(rows: Iterable[Row]) -> str:
    """A wide table: a line holds the columns that share model, metric, facet, class, seed, status and n.

    Each column of a metric is followed by its standard error; cells are empty where there is none. Lines are in order
    of metric, split, version, class, facet and origin, so that those that can be compared stand together, and then of
    model. A metric that gave nothing has a line without values.
    """
    lines: dict[tuple[Any, ...], dict[str, Row]] = {}
    for each in sorted(rows, key=lambda row: (class_of(row)[1:7], row.model, row.identity)):
        key = tuple(_shared(each, name) for name in (*CSV_BEFORE, *CSV_AFTER))
        lines.setdefault(key, {})[each.column] = each
    columns = sorted({column for line in lines.values() for column in line if column})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*CSV_BEFORE, *(_cell(f"{c}{end}") for c in columns for end in ("", "_stderr")), *CSV_AFTER])
    for key, line in lines.items():
        pairs = [(line[c].value, line[c].stderr) if c in line else (None, None) for c in columns]
        values = [number for pair in pairs for number in pair]
        before, after = key[: len(CSV_BEFORE)], (_marks(line), *key[len(CSV_BEFORE) + 1 :])
        writer.writerow([_cell(cell) for cell in (*before, *values, *after)])
    return text.getvalue()
