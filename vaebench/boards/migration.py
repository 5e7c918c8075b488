"""Boards of row schema 1, read once and written as schema 2: no value changes. Imports no torch.

What schema 1 did not hold follows from what it did, for the metrics that there were: which set and score a column of
`regret` was of, the degrees of freedom and the interval of each error, what a value depends on, and marks. It is
written down here as it was then, apart from the metrics as they are now.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from vaebench.boards import marks, per_example, store
from vaebench.boards.rows import SCHEMA, Row, row
from vaebench.core import files
from vaebench.core.names import BOUND_LOOSE, FEW_IMAGES
from vaebench.functional import intervals
from vaebench.functional.convergence import bound_loose

ADDED = ("facet", "df", "low", "high", "marks")
SCHEMA_1: pa.Schema = pa.schema([field for field in SCHEMA if field.name not in ADDED])
GIVEN = ("levels", "likelihood", "measure", "binarisation")
"""What the class of every metric held of the data and p(x|z), beside all parameters."""
NEEDED = {
    "likelihood": ("levels", "measure", "binarisation", "mass"),
    "regret": ("levels", "binarisation", "mass"),
} | dict.fromkeys(
    ("consistency", "disentanglement", "fd-domain", "fid", "gallery", "information", "latent-gap", "pocket-leak",
     "probe", "reconstruction", "tracin"),
    ("binarisation",),
)  # fmt: skip
"""What values depend on of these; of metrics from elsewhere, all."""
IMMATERIAL = {"regret": ("resamples",), "pocket-leak": ("shown",)}
IMPROPER = "discretised-logistic-mixture-nvae"
SAMPLED = ("categorical", "discretised-logistic", "discretised-logistic-mixture", IMPROPER)
"""Likelihoods that `decode` "auto" shows samples of."""
FEATURES = {"fd-domain": 64, "fid": 2048}
SEPARATIONS, SCORES = ("auroc", "auprc", "fpr95"), ("regret", "likelihood", "complexity", "ratio")
PROPORTIONS = (
    ("consistency", "agreement_small"), ("consistency", "agreement_large"), ("latent-gap", "leaked"),
    ("disentanglement", "factor_vae_score"), ("disentanglement", "beta_vae_score"), ("tracin", "self_retrieval"),
    ("tracin", "proponent_agreement"), ("tracin", "opponent_agreement"),
)  # fmt: skip
RESAMPLED = ("mig_dlib", "mig_chen", "modularity", "sap", "explicitness")
POCKETS = 10


def migrate(root: Path) -> dict[Path, int]:
    """Rewrite every file of schema 1 below `root`, and each dataset's CSV: how many rows each file then has.

    Per-example values are renamed to the names that they have now. DataError names a file that cannot be read; then it,
    and what comes after it, is left as it was.
    """
    done: dict[Path, int] = {}
    for dataset in store.datasets(root):
        with store.locked(root, dataset):
            for path in sorted((root / dataset).glob("*.parquet")):
                old = _read(path)
                if old is None:
                    continue
                new = rows(old)
                files.write_atomic(path, store.encode(new))
                _rename(root, new)
                done[path] = len(new)
            store.render_locked(root, dataset)
    return done


def _read(path: Path) -> list[dict[str, Any]] | None:
    """The rows of a file of schema 1, by field; None for one of a later schema."""
    with store.readable(path), store.opened(path) as parquet:
        if "facet" in parquet.schema_arrow.names:
            store.read_file(path)
            return None
        store.checked(parquet.schema_arrow, SCHEMA_1)
        return list(store.records(parquet))


def _rename(root: Path, new: Iterable[Row]) -> None:
    for each in new:
        if each.origin == "measured":
            path = per_example.path(root, each)
            if (old := path.with_name(_name_1(each))).is_file():
                old.rename(path)


def _name_1(of: Row) -> str:
    """What the file of per-example values was called, whatever the weights."""
    return f"values-{hashlib.sha256(f'{of.parameters} seed {of.seed}'.encode()).hexdigest()[:12]}.parquet"


def rows(old: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The rows of one model as schema 2 has them, in the order of its file. ValueError as Row."""
    runs: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for each in old:
        key = (each["metric"], each["split"], each["comparability"], each["parameters"], each["seed"], each["source"])
        runs.setdefault(key, []).append(each)
    made = [new for run in runs.values() for new in _run(run)]
    return marks.together(sorted(made, key=lambda each: each.identity))


def _run(run: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """The rows of one run: one for all its columns where it has no value."""
    values = {each["column"]: each for each in run}
    nothing = all(each["status"] != "ok" for each in run)
    for each in run[:1] if nothing else run:
        new = {**each, "facet": "{}", "df": None, "low": None, "high": None, "marks": ()}
        new |= {"comparability": _comparability(each)}
        if nothing:
            yield row(new | {"column": "", "unit": "", "better": "none", "bound": "estimate"})
            continue
        column, _, rest = each["column"].partition("_")
        if each["metric"] == "regret" and column in SEPARATIONS:
            score, _, name = rest.partition("_")
            facet = {"score": score, "set": name.replace("_", "-")}
            new |= {"column": column, "facet": json.dumps(facet, sort_keys=True)}
        if each["stderr"] is not None:
            df = _df(each)
            low, high = _interval(each, df, values)
            new |= {"df": df, "low": low, "high": high}
        yield dataclasses.replace(row(new), marks=tuple(_marks(each, values)))


def _comparability(old: Mapping[str, Any]) -> str:
    """What the value depends on, as sorted JSON."""
    if old["origin"] != "measured" or old["metric"] not in NEEDED:
        return str(old["comparability"])
    metric, fields = old["metric"], json.loads(old["comparability"])
    parameters = json.loads(old["parameters"])
    if not set(GIVEN) < set(fields):  # the run ended before the class was known
        return str(old["comparability"])
    kept = {name: value for name, value in parameters.items() if name not in IMMATERIAL.get(metric, ())}
    if metric == "likelihood" and fields["binarisation"] != "dynamic":
        del kept["repeats"]
    if kept.get("decode") == "auto":
        kept["decode"] = "sample" if fields["likelihood"] in SAMPLED else "mean"
    mass = fields["likelihood"] if fields["likelihood"] == IMPROPER else "proper"
    return json.dumps(kept | {name: {**fields, "mass": mass}[name] for name in NEEDED[metric]}, sort_keys=True)


def _df(old: Mapping[str, Any]) -> float | None:
    """The degrees of freedom of a standard error."""
    metric, column, parameters = old["metric"], old["column"], json.loads(old["parameters"])
    if metric in ("fd-domain", "fid"):
        return float(parameters["repeats"] - 1)
    if column == "skl_knn":
        return 2.0
    if metric == "pocket-leak":
        return POCKETS - 1.0
    if column.startswith("dci_"):
        return float(parameters["dci_repeats"] - 1)
    if column.startswith("local_"):
        return float(parameters["centres"] - 1)
    if (metric, column) in PROPORTIONS or column in RESAMPLED or metric == "probe":
        return None
    if metric in NEEDED and not (metric == "tracin" or column.partition("_")[0] in SEPARATIONS):
        return float(old["n"] - 1)
    return None


def _interval(old: Mapping[str, Any], df: float | None, values: Mapping[str, Mapping[str, Any]]) -> tuple[float, float]:
    """The 95% interval of a value, as its metric has it now."""
    metric, column, value, stderr, n = (old[name] for name in ("metric", "column", "value", "stderr", "n"))
    if metric == "regret" and column.partition("_")[0] in SEPARATIONS:
        inside = values["regret"]["n"]
        if column.startswith("auroc"):
            return intervals.newcombe(value, n - inside, inside)
        return intervals.resampled(value, stderr, n - inside if column.startswith("auprc") else inside)
    if metric == "probe":
        low, high = intervals.wilson(value, n, 1.96)
        return intervals.trained(value, n, max(0.0, stderr**2 - ((high - low) / (2 * 1.96)) ** 2))
    if column.startswith("cleaning_auc"):
        return intervals.detection(value, n - values["self_influence_r2"]["n"], n)
    if (metric, column) in PROPORTIONS:
        return intervals.proportion(value, stderr, n)
    return intervals.student(value, stderr, df)


def _marks(old: Mapping[str, Any], values: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    metric, column = old["metric"], old["column"]
    if old["value"] is None:
        return
    if metric in FEATURES and old["n"] < FEATURES[metric]:
        yield FEW_IMAGES
    if metric == "likelihood" and column in ("nll", "bpd"):
        nll, tenth, ess = (values[name]["value"] for name in ("nll", "nll_tenth", "ess"))
        if bound_loose(nll, tenth, ess, json.loads(old["parameters"])["samples"]):
            yield BOUND_LOOSE
