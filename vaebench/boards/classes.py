"""What makes two rows comparable: written here, and nowhere else. Pure functions; imports no torch."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from vaebench.boards.rows import Row


class Class(NamedTuple):
    """What rows must share to be ranked, drawn or paired with one another, column by column. Sorts as boards do."""

    dataset: str
    metric: str
    split: str
    metric_version: int
    comparability: str
    facet: str
    origin: str
    data_fingerprint: str


class Entrant(NamedTuple):
    """Who competes in a class: a model of one set of weights, or a published one of one source."""

    model: str
    weights: str


def class_of(row: Row) -> Class:
    """The class of a row. A measured row's comparability holds what its metric's value depends on."""
    where = (row.dataset, row.metric, row.split, row.metric_version, row.comparability, row.facet)
    return Class(*where, row.origin, row.data_fingerprint or "")


def entrant(row: Row) -> Entrant:
    """Whose a row is."""
    return Entrant(row.model, row.weights_sha256 or row.source or "")


def named_apart(entrants: Iterable[Entrant]) -> dict[Entrant, str]:
    """The name of each, sorted: of a model that has several weights with the first digits of theirs."""
    found = sorted(set(entrants))
    models = [each.model for each in found]
    return {each: f"{each.model} ({each.weights[:8]})" if models.count(each.model) > 1 else each.model
            for each in found}  # fmt: skip


def protocol(row: Row) -> Mapping[str, Any]:
    """What the value of a row depends on, by field: its comparability."""
    fields: Mapping[str, Any] = json.loads(row.comparability)
    return fields


def facet(row: Row) -> Mapping[str, str]:
    """The facet of a row, by field."""
    fields: Mapping[str, str] = json.loads(row.facet)
    return fields


def named(row: Row) -> tuple[str, str]:
    """What a number is called within a run: its column and facet."""
    return row.column, row.facet


def title(row: Row) -> str:
    """The name of a number: "auroc (score regret, set notmnist)"."""
    told = ", ".join(f"{key} {value}" for key, value in facet(row).items())
    return f"{row.column} ({told})" if told else row.column


def differences(a: Row, b: Row) -> list[str]:
    """What puts two rows of one column into different classes: "samples 100 against 1000"; nothing where none does."""
    found = []
    for field, one, other in zip(Class._fields, class_of(a), class_of(b), strict=True):
        if one == other:
            continue
        if field in ("comparability", "facet"):
            left, right = (protocol(a), protocol(b)) if field == "comparability" else (facet(a), facet(b))
            keys = sorted(key for key in {*left, *right} if left.get(key) != right.get(key))
            found += [f"{key} {left.get(key)} against {right.get(key)}" for key in keys]
        else:
            found.append(f"{field.replace('_', ' ')} {str(one)[:12]} against {str(other)[:12]}")
    return found


def lowest_seeds(rows: Iterable[Row]) -> list[Row]:
    """The row of the lowest seed among those that differ in the seed alone, so that no value is picked; in order."""
    lowest: dict[tuple[object, ...], Row] = {}
    for row in sorted(rows, key=lambda each: (each.dataset, each.model, each.identity)):
        lowest.setdefault((class_of(row), entrant(row), row.parameters, row.column), row)
    return list(lowest.values())
