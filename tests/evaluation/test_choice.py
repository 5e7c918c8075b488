"""Which metrics a run measures."""

import pytest

from vaebench.evaluation import choice

LONG = {"certified", "regret"}


@pytest.mark.parametrize("preset", ["standard", "paper"])
def test_what_takes_long_is_measured_where_it_is_named(preset: str) -> None:
    found = choice.metrics((), preset)
    assert set(choice.left_out(preset)) == LONG
    assert not LONG & set(found)
    assert {"likelihood", "probe", "gallery"} <= set(found)
    assert set(choice.metrics(["regret"], preset)) == {"regret"}
    assert LONG & set(choice.metrics((), preset, ["regret.images=50"])) == {"regret"}


def test_preset_quick_leaves_nothing_out() -> None:
    assert choice.left_out("quick") == ()
    assert set(choice.metrics((), "quick")) >= LONG
