"""Laws of ranks: ties, classes, who is ranked."""

import dataclasses
import json
from typing import Any

import pytest
from board_rows import BASE, FAILED, LAW, PUBLISHED, row
from hypothesis import given
from hypothesis import strategies as st

from vaebench.boards import export, ranking
from vaebench.boards.rows import Row


def ranks(found: list[Row], column: str = "nll") -> dict[str, int]:
    return {each.model: place for each, place in ranking.rank(found, column).items()}


def test_ties_are_not_transitive() -> None:
    unit = 1 / ranking.Z
    a, b, c = (row(model=m, value=v, stderr=unit) for m, v in (("a", 10.0), ("b", 11.5), ("c", 13.0)))
    assert ranks([a, b, c]) == {"a": 1, "b": 1, "c": 2}
    assert ranks([c, a, b]) == {"a": 1, "b": 1, "c": 2}
    up = [dataclasses.replace(each, better="higher") for each in (a, b, c)]
    assert ranks(up) == {"a": 2, "b": 1, "c": 1}
    assert ranks([dataclasses.replace(each, better="none") for each in (a, b, c)]) == {}


def test_rows_without_error_have_no_width() -> None:
    found = [row(model=m, value=v, stderr=None) for m, v in (("a", 1.0), ("b", 1.0), ("c", 1.0001), ("d", 0.9))]
    assert ranks(found) == {"d": 1, "a": 2, "b": 2, "c": 4}


@pytest.mark.parametrize(
    "other",
    [
        {"comparability": '{"k": 5000}'},
        {"split": "train"},
        {"dataset": "mnist"},
        {"data_fingerprint": "ee"},
        {"metric": "other"},
        {"metric_version": 2},
    ],
    ids=repr,
)
def test_never_across_classes(other: dict[str, Any]) -> None:
    found = [row(model="a", value=1.0), row(model="b", value=50.0, **other), row(model="c", value=60.0, **other)]
    assert ranks(found) == {"a": 1, "b": 1, "c": 2}
    assert len(ranking.table(found)) == 2


def test_who_is_ranked() -> None:
    out = [row(model="p", **PUBLISHED), row(model="f", **FAILED), row(model="r", verified="refuted")]
    assert ranks([row(value=99.0), *out, row(model="e", column="elbo")]) == {"vae": 1}


def test_a_model_counts_once_by_its_lowest_seed() -> None:
    many = [row(model="a", seed=s, value=v, stderr=None) for s, v in ((3, 1.0), (0, 5.0), (1, 2.0))]
    other = row(model="b", seed=7, value=3.0, stderr=None)
    found = ranking.rank([*many, other], "nll")
    assert {(each.model, each.seed): place for each, place in found.items()} == {
        ("a", 0): 2,
        ("a", 1): 1,
        ("a", 3): 1,
        ("b", 7): 1,
    }


@LAW
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 4)), min_size=1, max_size=8))
def test_rank_laws(pairs: list[tuple[int, int]]) -> None:
    found = [row(model=f"m{i}", value=v, stderr=float(e)) for i, (v, e) in enumerate(pairs)]
    got = ranking.rank(found, "nll")
    assert min(got.values()) == 1
    assert max(got.values()) <= len(found)
    for a in found:
        for b in found:
            assert not ranking.significantly_better(a, b) or got[a] < got[b]


def test_table_and_json() -> None:
    found = [
        row(model="b", value=1.0, curve=((1, 2), (0.5, 0.25), "k", "nll")),
        row(model="b", column="elbo", value=-2.0, better="higher", bound="lower"),
        row(model="a", value=9.0),
        row(model="z", metric="fid", column="fid"),
        row(model="p", **PUBLISHED),
    ]
    measured, published = ranking.table(found, "likelihood", by="nll")
    assert (measured.origin, published.origin) == ("measured", "published")
    assert measured.comparability == {"k": 100}
    assert [c.name for c in measured.columns] == ["elbo", "nll"]
    assert [line.model for line in measured.lines] == ["b", "a"]
    assert measured.lines[0].ranks == {"nll": 1, "elbo": 1}
    assert measured.lines[0].parameters == {"samples": 100}
    assert published.lines[0].ranks == {}
    assert published.lines[0].source == "Table 1"
    assert [line.model for line in ranking.table(found, "likelihood")[0].lines] == ["a", "b"]
    assert len(ranking.table(found)) == 3
    assert ranking.table([]) == []
    back = json.loads(json.dumps(export.to_json(found), allow_nan=False))
    assert back[0]["curve"] == {"x": [1.0, 2.0], "y": [0.5, 0.25], "x_name": "k", "y_name": "nll"}
    assert back[0]["parameters"] == {"samples": 100}
    assert back[2]["value"] == 9.0
    assert list(back[0]) == list(BASE)
