"""Laws of ranks: ties, classes, who is ranked."""

import dataclasses
import json
from typing import Any

import pytest
from board_rows import BASE, FAILED, LAW, PUBLISHED, row
from hypothesis import given
from hypothesis import strategies as st

from vaebench.boards import export, ranking
from vaebench.boards.paired import Paired
from vaebench.boards.rows import Row


def ranks(found: list[Row], column: str = "nll", compare: ranking.Compare | None = None) -> dict[str, str]:
    return {each.model: str(place) for each, place in ranking.rank(found, column, compare).items()}


def between(model: str, low: float, high: float, **changes: Any) -> Row:
    return row(model=model, value=(low + high) / 2, stderr=1.0, low=low, high=high, **changes)


def test_overlapping_intervals_share_a_range() -> None:
    a, b, c = between("a", 9, 11), between("b", 10.5, 12.5), between("c", 12, 14)
    for found in ([a, b, c], [c, a, b]):
        assert ranks(found) == {"a": "1-2", "b": "1-3", "c": "2-3"}  # ties are not transitive
    up = [dataclasses.replace(each, better="higher") for each in (a, b, c)]
    assert ranks(up) == {"a": "2-3", "b": "1-3", "c": "1-2"}
    assert ranks([dataclasses.replace(each, better="none") for each in (a, b, c)]) == {}
    assert ranks([a, between("b", 11, 12)]) == {"a": "1-2", "b": "1-2"}  # touching intervals overlap


def test_a_wide_interval_is_never_first() -> None:
    found = [between("narrow", 9.9, 10.1), between("next", 10.9, 11.1), between("wide", 0, 30)]
    assert ranks(found) == {"narrow": "1-2", "next": "2-3", "wide": "1-3"}
    (group,) = ranking.table(found, by="nll")
    assert [line.model for line in group.lines] == ["narrow", "next", "wide"]


def test_rows_without_error_have_no_width() -> None:
    found = [row(model=m, value=v, stderr=None) for m, v in (("a", 1.0), ("b", 1.0), ("c", 1.0001), ("d", 0.9))]
    assert ranks(found) == {"d": "1", "a": "2-3", "b": "2-3", "c": "4"}


@pytest.mark.parametrize(
    "other",
    [
        {"comparability": '{"k": 5000}'},
        {"split": "train"},
        {"dataset": "mnist"},
        {"data_fingerprint": "ee"},
        {"metric": "other"},
        {"metric_version": 2},
        {"facet": '{"set": "noise"}'},
    ],
    ids=repr,
)
def test_never_across_classes(other: dict[str, Any]) -> None:
    found = [row(model="a", value=1.0), row(model="b", value=50.0, **other), row(model="c", value=60.0, **other)]
    assert ranks(found) == {"b": "1", "c": "2"}  # and a class of one model has no rank
    assert len(ranking.table(found)) == 2


def test_who_is_ranked() -> None:
    out = [row(model="p", **PUBLISHED), row(model="f", **FAILED), row(model="r", verified="refuted")]
    sound = [row(value=99.0), row(model="s", value=1.0), row(model="e", column="elbo")]
    assert ranks([*sound, *out]) == {"vae": "2", "s": "1"}


@pytest.mark.parametrize("metric", ["latent-gap", "consistency"])
def test_collapse_earns_no_rank_where_it_is_trivial(metric: str) -> None:
    gaps = [row(model=m, metric=metric, column="c", value=v) for m, v in (("a", 5.0), ("b", 9.0), ("flat", 0.0))]
    marked = [*gaps[:2], dataclasses.replace(gaps[2], marks=("collapsed",))]
    assert ranks(marked, "c") == {"a": "1", "b": "2"}
    nlls = [dataclasses.replace(each, metric="likelihood") for each in marked]
    assert ranks(nlls, "c") == {"flat": "1", "a": "2", "b": "3"}


def loose(model: str, nll: float, tenth: float, **changes: Any) -> list[Row]:
    values = {"nll": nll, "bpd": nll / 100, "nll_point": nll / 50, "nll_tenth": tenth}
    marked = dict.fromkeys(("nll", "bpd", "nll_point"), ("bound loose",))
    return [
        row(model=model, column=c, value=v, stderr=1e-6, marks=marked.get(c, ()), **changes) for c, v in values.items()
    ]


def test_a_bound_that_has_not_converged_has_slack() -> None:
    """A bound 2 nats above another does not lose to it where it gains 1.1 nats in a decade, if it is marked."""
    columns = {"nll": 100.0, "bpd": 1.0, "nll_point": 2.0}
    found = [*loose("loose", 102, 103.1), *(row(model="sound", column=c, value=v) for c, v in columns.items())]
    assert ranks(found) == {"loose": "1-2", "sound": "1-2"}
    assert ranks([*loose("loose", 102.0, 102.3), *found[4:]]) == {"loose": "2", "sound": "1"}
    assert ranks([dataclasses.replace(each, marks=()) for each in found]) == {"loose": "2", "sound": "1"}
    exact = [dataclasses.replace(each, stderr=None, low=None, high=None) for each in found]
    for column in columns:
        assert ranks(exact, column) == {"loose": "1-2", "sound": "1-2"}
    assert ranks([*loose("loose", 98, 200), *exact[4:]]) == {"loose": "1", "sound": "2"}  # the slack is on one side


def test_paired_differences_decide_where_there_are_some() -> None:
    a, b, c = between("a", 8, 12), between("b", 9, 13), between("c", 10, 14)
    apart = {("a", "b"): -1.0, ("b", "a"): 1.0}

    def compare(one: Row, other: Row) -> Paired | None:
        delta = apart.get((one.model, other.model))
        return None if delta is None else Paired(delta, 0.1, delta - 0.2, delta + 0.2, 100)

    assert ranks([a, b, c]) == {"a": "1-3", "b": "1-3", "c": "1-3"}
    assert ranks([a, b, c], compare=compare) == {"a": "1-2", "b": "2-3", "c": "1-3"}
    near = Paired(-1.0, 2.0, -5.0, 3.0, 100)
    assert ranks([between("a", 0, 1), between("b", 8, 9)], compare=lambda *_: near) == {"a": "1-2", "b": "1-2"}
    found = [*loose("a", 10, 10.2), *loose("b", 10.3, 10.6)]
    told = {("a", "b"): Paired(-0.3, 0.01, -0.32, -0.28, 9), ("b", "a"): Paired(0.3, 0.01, 0.28, 0.32, 9)}
    assert ranks(found, compare=lambda one, other: told[one.model, other.model]) == {"a": "1-2", "b": "1-2"}


def test_a_model_counts_once_by_its_lowest_seed() -> None:
    many = [row(model="a", seed=s, value=v, stderr=None) for s, v in ((3, 1.0), (0, 5.0), (1, 2.0))]
    other = row(model="b", seed=7, value=3.0, stderr=None)
    found = ranking.rank([*many, other], "nll")
    assert {(each.model, each.seed): str(place) for each, place in found.items()} == {
        ("a", 0): "2",
        ("a", 1): "1",
        ("a", 3): "1",
        ("b", 7): "1",
    }
    weights = [row(model="b", weights_sha256="bb", value=9.0, stderr=None)]
    assert ranking.rank([row(model="b", stderr=None), *weights], "nll") == {}  # one model, however many weights
    (group,) = ranking.table([*many, other, *weights])
    assert {line.name for line in group.lines} == {"a", "b (aa)", "b (bb)"}
    assert [str(rank) for rank in ranking.rank([*many, other, *weights], "nll").values()] == ["1", "2", "1", "1", "3"]


@LAW
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 4)), min_size=2, max_size=8))
def test_rank_laws(pairs: list[tuple[int, int]]) -> None:
    found = [row(model=f"m{i}", value=v, stderr=float(e)) for i, (v, e) in enumerate(pairs)]
    got = ranking.rank(found, "nll")
    assert min(place.first for place in got.values()) == 1
    assert max(place.last for place in got.values()) == len(found)
    assert all(place.first <= place.last for place in got.values())
    best = min(found, key=lambda each: each.value or 0.0)
    assert got[best].first == 1
    for a in found:
        for b in found:
            if ranking.significantly_better(a, b):
                assert got[a].first < got[b].first
                assert got[a].last < got[b].last


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
    assert {name: str(rank) for name, rank in measured.lines[0].ranks.items()} == {"nll": "1"}
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
