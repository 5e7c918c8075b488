"""Rows for the tests of boards: one by its changes, any, and what a run gives at once."""

import dataclasses
import json
import math
from datetime import datetime
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from vaebench.boards.rows import Row
from vaebench.functional import intervals

BASE: dict[str, Any] = {
    "model": "vae",
    "weights_sha256": "aa",
    "dataset": "digits",
    "data_fingerprint": "dd",
    "split": "test",
    "metric": "likelihood",
    "metric_version": 1,
    "parameters": '{"samples": 100}',
    "comparability": '{"k": 100}',
    "facet": "{}",
    "column": "nll",
    "value": 84.5,
    "stderr": 0.25,
    "df": None,
    "low": 84.0100090038649865,
    "high": 84.9899909961350135,
    "n": 360,
    "unit": "nats",
    "better": "lower",
    "bound": "upper",
    "marks": (),
    "curve": None,
    "status": "ok",
    "reason": None,
    "origin": "measured",
    "source": None,
    "verified": "unverified",
    "seed": 0,
    "device": "cpu",
    "dtype": "float32",
    "torch": "2",
    "vaebench": "0.1.0",
    "commit": None,
    "dirty": None,
    "created": "2026-01-31T12:00:00+00:00",
    "seconds": 1.5,
    "peak_memory": 10**9,
}
NO_VALUE = dict.fromkeys(("value", "stderr", "df", "low", "high", "curve"))
FAILED = {"status": "failed", **NO_VALUE, "n": None, "reason": "NaN in the decoder"}
PUBLISHED = {"origin": "published", "source": "Table 1", "weights_sha256": None, "data_fingerprint": None, "seed": None}


def row(**changes: Any) -> Row:
    """A row of `BASE` with changes; its interval is Student's unless it is given."""
    values = BASE | {"low": None, "high": None} | changes
    numbers = [values[name] for name in ("value", "stderr")]
    if values["low"] is None and all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
        values["low"], values["high"] = intervals.student(*numbers, values["df"])
    return Row(**values)


numbers = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)


@st.composite
def any_rows(draw: st.DrawFn, identities: int = 3) -> Row:
    """Any row of one model; `identities` bounds how many columns and seeds they share."""
    axis = st.lists(numbers, min_size=2, max_size=2).map(tuple)
    changes: dict[str, Any] = {
        "column": draw(st.sampled_from(["nll", "elbo", "=x"][:identities])),
        "value": draw(st.floats(-1e300, 1e300)),
        "stderr": draw(st.none() | st.floats(0, 1e300)),
        "df": None,
        "facet": json.dumps(draw(st.dictionaries(texts, texts, max_size=1))),
        "weights_sha256": draw(st.sampled_from(["aa", "bb"])),
        "marks": tuple(sorted(draw(st.sets(st.sampled_from(["bound loose", "few images"]))))),
        "n": draw(st.integers(0, 2**63 - 1)),
        "parameters": json.dumps(draw(st.dictionaries(st.text(max_size=3), numbers, max_size=1)), sort_keys=True),
        "curve": draw(st.none() | st.tuples(axis, axis, texts, texts)),
        "unit": draw(texts | st.just("")),
        "dirty": draw(st.none() | st.booleans()),
        "seconds": draw(st.none() | numbers.map(abs)),
        "created": draw(st.datetimes(datetime(1971, 1, 1))).isoformat() + "Z",
        "seed": draw(st.integers(0, identities)),
        "metric_version": draw(st.integers(1, 2)),
        "better": draw(st.sampled_from(["lower", "higher", "none"])),
        "verified": draw(st.sampled_from(["unverified", "verified", "refuted"])),
    }
    if draw(st.booleans()):
        changes |= PUBLISHED | {"source": draw(texts)}
    if draw(st.booleans()):
        reason = draw(st.text(st.characters(), min_size=1))
        changes |= {"status": "failed", **NO_VALUE, "reason": reason}
    return row(**changes)


def distinct(found: list[Row]) -> list[Row]:
    return list({each.identity: each for each in found}.values())


def at_once(found: list[Row], version: int) -> list[Row]:
    """As one run gives them: no identity twice, one version."""
    return distinct(
        [each if each.origin == "published" else dataclasses.replace(each, metric_version=version) for each in found]
    )


files_of_rows = st.builds(at_once, st.lists(any_rows(), max_size=6), st.integers(1, 2))
LAW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
