"""Names: those that can be part of a path, those that a column cannot have, and the marks of values."""

import re

CSV_BEFORE = ("model", "metric", "facet", "split", "origin", "seed", "status", "n", "verified")
CSV_AFTER = (
    "marks",
    "metric_version",
    "comparability",
    "parameters",
    "source",
    "reason",
    "weights_sha256",
    "data_fingerprint",
)
"""What a CSV line says of itself before and after its metric's columns, which cannot have these names."""

BOUND_LOOSE, FEW_IMAGES, COLLAPSED = "bound loose", "few images", "collapsed"
"""Marks: a likelihood bound that has not converged; a Frechet distance of fewer images than the features have
dimensions, whose covariance is singular; a model whose latents say next to nothing of the data."""
SHARED_IMAGES = "shared images"
"""Mark: repeats, whose spread is part of the error, that have images in common."""
UNCHECKED, UNIFORM = "unchecked", "worse than uniform"
"""Marks: a run that did not ask whether p(x|z) is proper; more bits a dimension than the levels have."""
YOURS = "yours"
"""The mark of a row that was read from one's own boards; in no file."""

LONGEST = 100
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
"""What Windows takes for a device, whatever follows a dot."""


def check_name(kind: str, name: str) -> str:
    """`name`, where it can be part of a path on every system. Raises ValueError if it cannot.

    It is [a-z0-9][a-z0-9._-]* of at most 100 characters, with no `.csv` or dot at its end, and no device of Windows.
    """
    if len(name) > LONGEST:
        raise ValueError(f"{kind} name {name[:20]!r}… has {len(name)} characters, more than {LONGEST}")
    if name.endswith(".") or DEVICES.fullmatch(name):
        raise ValueError(f"{kind} name {name!r} is none that Windows can hold; choose another")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name) or name.endswith(".csv"):
        raise ValueError(f"{kind} name {name!r} should be of a-z, 0-9, '.', '_' and '-', and begin with one of a-z0-9")
    return name
