"""Names: those that can be part of a path, and those that a column cannot have."""

import re

CSV_BEFORE = ("model", "metric", "split", "origin", "seed", "status", "n", "verified")
CSV_AFTER = ("metric_version", "comparability", "parameters", "source", "reason", "weights_sha256", "data_fingerprint")
"""What a CSV line says of itself before and after its metric's columns, which cannot have these names."""


def check_name(kind: str, name: str) -> str:
    """`name`, where it can be part of a path: [a-z0-9][a-z0-9._-]*, and not `.csv` at its end. ValueError else."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name) or name.endswith(".csv"):
        raise ValueError(f"{kind} name {name!r} should be of a-z, 0-9, '.', '_' and '-', and begin with one of a-z0-9")
    return name
