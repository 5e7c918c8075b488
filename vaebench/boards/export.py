"""Rows in other people's formats: JSON Lines, and the model-index block of a Hugging Face model card. No torch.

A model-index is the YAML header in which a model's README states its results: a list of results, each of one task and
one dataset with its metrics. huggingface_hub writes it (the extra `hf`).
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vaebench.boards.classes import class_of, facet, lowest_seeds, protocol, title
from vaebench.boards.rows import Row
from vaebench.boards.text import safe
from vaebench.core.errors import UserError
from vaebench.core.names import CSV_AFTER, CSV_BEFORE

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData


def json_lines(rows: Iterable[Row]) -> str:
    """A line of JSON for each row, with every field; `parameters`, `comparability`, `facet` and `curve` as objects."""
    return "".join(json.dumps(record) + "\n" for record in to_json(rows))


def card_data(rows: Sequence[Row]) -> "ModelCardData":
    """The measured rows of one model that have a value, as the header of its card: `to_yaml()` is its text.

    The lowest of several seeds stands for them, as where models are ranked, so that no value is picked. One result for
    each dataset and split; a metric's `type` is the column, its `args` the protocol, and what says how far to trust it:
    standard error, n, seed, verdict, versions. The format's own `verified` is left out: it stands for Hugging Face's
    evaluation. Raises ValueError if there is no value, or if there are rows of several models; UserError without the
    extra `hf`.
    """
    try:
        from huggingface_hub import ModelCardData
    except ImportError as error:
        raise UserError("a model-index needs huggingface_hub, which is absent: pip install 'vaebench[hf]'") from error
    measured = lowest_seeds(row for row in rows if row.origin == "measured" and row.status == "ok")
    if len(names := {row.model for row in measured}) != 1:
        raise ValueError(f"a model-index is of one model's measured values, not of {sorted(names) or 'none'}")
    measured.sort(key=lambda row: (row.dataset, row.split, row.data_fingerprint or ""))
    return ModelCardData(model_name=names.pop(), eval_results=[_result(row) for row in measured])


def _result(row: Row) -> "EvalResult":
    from huggingface_hub import EvalResult

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
    return EvalResult(
        task_type="unconditional-image-generation",
        task_name="Density modelling by a variational auto-encoder",
        dataset_type=row.dataset,
        dataset_name=row.dataset,
        dataset_split=row.split,
        dataset_revision=row.data_fingerprint,
        metric_type=row.column,
        metric_name=f"{title(row)}{unit}{side}",
        metric_value=row.value,
        metric_args={**args, **trust},
    )


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
    return "" if value is None else safe(value)


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
