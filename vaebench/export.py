"""Rows in other people's formats: JSON Lines, and the model-index block of a Hugging Face model card. No torch.

A model-index is the YAML header in which a model's README states its results: a list of results, each of one task and
one dataset with its metrics. Text is written as JSON strings, which YAML reads as they are.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .ranking import to_json
from .rows import Row

TASK = {"type": "unconditional-image-generation", "name": "Density modelling by a variational auto-encoder"}
RESERVED = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}  # words that are no text in YAML 1.1


def json_lines(rows: Iterable[Row]) -> str:
    """A line of JSON for each row, with every field; `parameters`, `comparability` and `curve` as objects."""
    return "".join(json.dumps(record) + "\n" for record in to_json(rows))


def model_index(rows: Sequence[Row]) -> dict[str, Any]:
    """The measured rows of one model that have a value, as the content of a model-index block.

    Of several seeds the lowest, as where models are ranked, so that none is picked by its value. One result for each
    dataset and split; a metric's `type` is the column, its `args` the protocol, and what says how far to trust it:
    standard error, n, seed, verdict, versions. The format's own `verified` is left out: it stands for Hugging Face's
    evaluation. ValueError where there is no value, or where there are rows of several models.
    """
    measured = _lowest_seeds(row for row in rows if row.origin == "measured" and row.status == "ok")
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


def _lowest_seeds(rows: Iterable[Row]) -> list[Row]:
    lowest: dict[tuple[object, ...], Row] = {}
    for row in sorted(rows, key=lambda each: (each.dataset, each.model, each.identity, each.seed)):
        place = (row.dataset, row.model, row.metric, row.split, row.comparability, row.parameters, row.column)
        lowest.setdefault(place, row)
    return list(lowest.values())


def _metric(row: Row) -> dict[str, Any]:
    protocol = {**json.loads(row.parameters), **json.loads(row.comparability)}
    unit = f", {row.unit}" if row.unit else ""
    side = "" if row.better == "none" else f", {row.better} is better"
    trust = {
        "metric": f"{row.metric} v{row.metric_version}",
        "stderr": row.stderr,
        "n": row.n,
        "bound": row.bound,
        "seed": row.seed,
        "verdict": row.verified,
        "weights_sha256": row.weights_sha256,
        "vaebench": row.vaebench,
    }
    name = f"{row.column}{unit}{side}"
    return {"type": row.column, "name": name, "value": row.value, "args": {**protocol, **trust}}


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
