"""Laws of writing rows over those of a file."""

import dataclasses
import random

import pytest
from board_rows import FAILED, LAW, PUBLISHED, files_of_rows, row
from hypothesis import given
from hypothesis import strategies as st

from vaebench.boards import store as board
from vaebench.boards.rows import Row


@LAW
@given(files_of_rows, files_of_rows, st.randoms(use_true_random=False))
def test_merge_laws(stored: list[Row], new: list[Row], shuffle: random.Random) -> None:
    merged = board.merge(board.merge([], stored), new)
    assert board.merge(merged, new) == merged  # idempotent
    assert board.merge(merged, []) == merged
    mixed = shuffle.sample(new, len(new))
    assert board.merge(shuffle.sample(stored, len(stored)), mixed) == merged  # the order within a write is nothing
    one_by_one = board.merge([], stored)
    for run in {board._run(each): None for each in mixed}:
        one_by_one = board.merge(one_by_one, [each for each in mixed if board._run(each) == run])
    assert one_by_one == merged  # nor how its runs follow one another
    kept = {each.identity: each for each in merged}
    assert set(kept) <= {each.identity for each in stored + new}
    for each in stored + new:
        assert each.identity in kept or each.status != "ok"
        if each.status == "ok":  # nothing finished is lost to something unfinished
            other = kept[each.identity]
            assert other.status == "ok" or other.metric_version > each.metric_version


def test_merge_rules() -> None:
    old = row()
    assert board.merge([old], [row(value=1.0)]) == [row(value=1.0)]
    assert board.merge([old], [row(created="2027-01-01T00:00:00Z", seconds=9.0, peak_memory=1)]) == [old]
    assert board.merge([old], [row(**FAILED)]) == [old]
    assert board.merge([row(**FAILED)], [old]) == [old]
    dirty, again = row(dirty=True), row(dirty=False, created="2027-01-01T00:00:00Z")
    assert board.merge([dirty], [again]) == [again]  # the same value, of code that can be checked out
    assert board.merge([again], [dirty]) == [again]
    newer = row(metric_version=2, **FAILED)
    assert board.merge([old], [newer]) == [newer]
    assert board.merge([newer], [old]) == [newer]
    other_data = row(data_fingerprint="ee", **FAILED)
    assert board.merge([old], [other_data]) == [other_data]
    for apart in ({"seed": 1}, {"parameters": "{}"}, {"comparability": "{}"}, {"split": "train"}, PUBLISHED):
        assert len(board.merge([old], [row(**apart)])) == 2
    verified = row(verified="verified")
    assert board.merge([verified], [old]) == [verified]
    assert board.merge([old], [verified]) == [verified]
    assert board.merge([verified], [row(verified="refuted")])[0].verified == "refuted"


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_a_run_with_values_leaves_none_of_one_without(status: str) -> None:
    """A run without values has a row for the whole metric; one with values those that there are."""
    failed = row(column="", **(FAILED | {"status": status}))
    assert board.merge([failed], [row()]) == [row()]
    assert board.merge([row()], [failed]) == [row()]
    refused = row(column="bpd", created="2027-01-01T00:00:00Z", **FAILED)
    assert board.merge([], [row(), refused]) == [refused, row()]  # one column of a run may be refused
    assert board.merge([refused, row()], [row(), refused]) == [refused, row()]
    for apart in (
        {"seed": 1}, {"parameters": "{}"}, {"metric_version": 2}, {"data_fingerprint": "ee"}, {"weights_sha256": "bb"},
    ):  # fmt: skip
        assert len(board.merge([row()], [dataclasses.replace(failed, **apart)])) == 2


def test_rows_of_other_weights_stand_beside_each_other() -> None:
    other = row(weights_sha256="bb", value=1.0)
    assert board.merge([row()], [other]) == board.merge([other], [row()]) == [row(), other]
    assert board.merge([], [row(), other]) == [row(), other]
    assert board.merge([row(), other], [row(value=2.0)]) == [row(value=2.0), other]
    assert len(board.merge([row()], [row(**PUBLISHED)])) == 2
    with pytest.raises(ValueError, match="two rows at once"):
        board.merge([], [row(), row(value=2.0)])


def test_collapsed_is_marked_by_what_stands_in_the_file() -> None:
    """Whatever the order of writing, and no longer once the evidence is gone."""
    skl = row(metric="latent-gap", column="skl", value=0.0, stderr=None)
    rate = row(column="rate", better="none", value=0.49, stderr=None)
    units = row(metric="information", column="active_units", better="none", value=0.0, stderr=None, bound="exact")
    for evidence, sound in ((rate, {"value": 0.5}), (units, {"value": 1.0})):
        for merged in (
            board.merge([skl], [evidence]),
            board.merge([evidence], [skl]),
            board.merge([], [evidence, skl]),
        ):
            assert [each.marks for each in merged] == [("collapsed",)] * 2
            assert board.merge(merged, [evidence, skl]) == merged
            mended = board.merge(merged, [dataclasses.replace(evidence, **sound)])
            assert [each.marks for each in mended] == [()] * 2
        beside = board.merge([evidence], [dataclasses.replace(skl, weights_sha256="bb")])
        assert [each.marks for each in beside if each.weights_sha256 == "bb"] == [()]
    assert board.merge([rate], [row(column="", metric="latent-gap", **FAILED)])[0].marks == ()
