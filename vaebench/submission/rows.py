"""The rows of a submission: which are wanted, and whether those laid out are one honest-looking run. No torch.

That values are right cannot be seen in a file: `vaebench verify` measures them again.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebench.boards import per_example as values
from vaebench.boards import store as board
from vaebench.boards.classes import facet, protocol, title
from vaebench.boards.rows import Row
from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.errors import DataError
from vaebench.submission.folder import Problem, Submission, told

if TYPE_CHECKING:
    from vaebench.core.metric import Metric

SEED = 0
"""Seed of every submitted row, so that none can be picked."""
_MAGIC = {".png": b"\x89PNG\r\n\x1a\n", ".parquet": b"PAR1"}


def required(dataset: str) -> list[str]:
    """The metrics that a submission is measured by: `likelihood`, and all that the shipped board has values of."""
    rows = board.read(files.shipped_boards(), dataset)
    measured = {row.metric for row in rows if row.origin == "measured" and row.status == "ok"}
    return sorted({"likelihood", *measured} & set(plugins.shipped("metrics")))


def check(
    submission: Submission,
    boards: Path,
    presets: "Mapping[str, Mapping[str, Metric]]",
    fingerprint: str | None,
    preset: str = "standard",
) -> tuple[list[Row], list[Problem]]:
    """The rows below `boards`, and why they are not one run of the metrics of `preset` on the submitted weights, and no
    more. Rows of another preset as a whole are told so, and held against that.

    `fingerprint` is the data's, where it is pinned.
    """
    card, root = submission.card, boards.parent
    path = boards / card.dataset / f"{card.name}.parquet"
    if not path.is_file():
        fault = "is not here: `vaebench submit` on the folder of the card and its weights measures and writes it"
        return [], [Problem(_place(path, root), fault)]
    try:
        rows = board.read_file(path)
    except DataError as error:
        return [], [Problem(_place(path, root), told(error, root))]
    metrics, faults = presets[preset], list[str]()
    other = next((name for name, others in presets.items() if _is_of(rows, others)), preset)
    if other != preset and not _is_of(rows, metrics):
        metrics = presets[other]
        faults.append(f"measured at {other}; a pull request needs {preset}")
    measured = {row.metric for row in rows}
    if lacking := sorted(metrics.keys() - measured):
        faults.append(f"lacks {', '.join(lacking)}, which the board of {card.dataset} has")
    faults += [f"{name} is not asked for" for name in sorted(measured - metrics.keys())]
    shared: dict[str, dict[str, None]] = {}
    for row in (row for row in rows if row.metric in metrics):
        for fault in _faults(row, submission, metrics[row.metric], fingerprint):
            shared.setdefault(fault, {})[row.metric] = None
        faults += [*_alone(row, metrics[row.metric]), *_values_fault(boards, row)]
    faults += [f"{', '.join(names)}: {fault}" for fault, names in shared.items()]
    problems = [Problem(_place(path, root), fault) for fault in dict.fromkeys(faults)]
    for kept in sorted((boards / card.dataset / card.name).glob("*/*")):
        if kept.parent.name not in metrics or not kept.read_bytes().startswith(_MAGIC[kept.suffix]):
            fault = f"is not a {kept.suffix[1:]} file of a metric that is asked for"
            problems.append(Problem(_place(kept, root), fault))
    return rows, problems


def _place(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _parameters(metric: "Metric") -> str:
    return json.dumps(dataclasses.asdict(metric), sort_keys=True)


def _is_of(rows: list[Row], metrics: "Mapping[str, Metric]") -> bool:
    """Whether the rows of these metrics, of which there are some, were measured with their parameters."""
    own = [row for row in rows if row.metric in metrics]
    return bool(own) and all(row.parameters == _parameters(metrics[row.metric]) for row in own)


def _faults(row: Row, submission: Submission, metric: "Metric", fingerprint: str | None) -> Iterator[str]:
    """What is wrong with a row that may be wrong with those of several metrics."""
    assert submission.card.weights is not None
    wanted = {
        "weights_sha256": submission.card.weights.sha256,
        "data_fingerprint": fingerprint or row.data_fingerprint,
        "origin": "measured",
        "verified": "unverified",
        "metric_version": metric.version,
        "split": metric.split,
        "seed": SEED,
    }
    for field, value in wanted.items():
        if (found := getattr(row, field)) != value:
            yield f"{field} is {found}, not {value}"
    said, right = json.loads(row.parameters), json.loads(_parameters(metric))
    if odd := sorted(name for name in {*said, *right} if said.get(name) != right.get(name)):
        yield f"parameters: {'; '.join(f'{name} is {said.get(name)}, not {right.get(name)}' for name in odd)}"
    if protocol(row) not in _protocols(row, metric):
        yield "its comparability class is not that of its parameters"


def _alone(row: Row, metric: "Metric") -> Iterator[str]:
    """What is wrong with a row by itself."""
    from vaebench.core.metric import Column

    column = Column(row.column, row.unit, row.better, row.bound, tuple(facet(row)))
    if row.column and column not in metric.columns:
        yield f"{row.metric} gives no {title(row)} in {row.unit or 'no unit'}, {row.better}, {row.bound}"
    if row.status == "failed" or (row.status != "ok" and row.metric == "likelihood"):
        yield f"{row.metric} is {row.status}: {row.reason}"


def _protocols(row: Row, metric: "Metric") -> list[dict[str, Any]]:
    """What the metric's values may depend on, whatever the family of p(x|z); which it is, verifying sees."""
    from vaebench.core.metric import Given

    said = protocol(row)
    space = (said.get("levels"), said.get("measure", ""), said.get("binarisation", ""))
    families = {said.get("mass"), said.get("likelihood"), "bernoulli", "categorical"}
    given = [Given(*space, family, proper) for family in families if family for proper in (True, False)]
    return [json.loads(json.dumps(dict(metric.depends(each)))) for each in given]


def _values_fault(boards: Path, row: Row) -> list[str]:
    """What is wrong with the per-example values behind a row, where some are kept."""
    if row.status != "ok" or not values.path(boards, row).is_file():
        return []
    try:
        values.read(boards, row)
    except values.NotKeptError:
        return []
    except DataError as error:
        return [told(error, boards.parent)]
    return []
