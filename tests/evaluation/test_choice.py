"""Which metrics a run measures."""

import pytest

from vaebench.core.data import Dataset, Space
from vaebench.evaluation import choice

LONG = {"certified", "regret"}
GREY = Dataset("grey", Space((1, 8, 8), 256, "pmf"), {}, "0" * 64)
COLOUR = Dataset("colour", Space((3, 8, 8), 256, "pmf"), {}, "0" * 64)


@pytest.mark.parametrize("preset", ["standard", "paper"])
def test_what_takes_long_is_measured_where_it_is_named(preset: str) -> None:
    found = choice.metrics((), preset, (), GREY)
    assert set(choice.left_out(preset, GREY)) == LONG | {"fd-imagenet"}
    assert not LONG & set(found)
    assert {"likelihood", "probe", "gallery"} <= set(found)
    assert set(choice.metrics(["regret"], preset, (), GREY)) == {"regret"}
    assert LONG & set(choice.metrics((), preset, ["regret.images=50"], GREY)) == {"regret"}


def test_features_of_photographs_are_those_of_colour_images() -> None:
    """Grey images have `fd-domain` on their boards, and four minutes of a run on MNIST went into this."""
    assert set(choice.left_out("standard", COLOUR)) == LONG
    assert "fd-imagenet" in choice.metrics((), "standard", (), COLOUR)
    assert "fd-imagenet" not in choice.metrics((), "standard", (), GREY)


def test_preset_quick_leaves_nothing_out() -> None:
    assert choice.left_out("quick", GREY) == ()
    assert set(choice.metrics((), "quick")) >= LONG
