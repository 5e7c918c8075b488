"""Sprites are what their factors say: where they lie, how large they are, which way they point."""

import math

import pytest
import torch
from torch import Tensor

from vaebench.datasets.sprites import NAMES, SINES, VALUES, render

AREAS = (18**2, math.pi * 13 * 7, 2 * 9**2 + math.pi * 9**2 / 2)  # of s = 1, square subpixels


def ink(factors: list[list[int]]) -> Tensor:
    """The covered part of each pixel, (B, 64, 64)."""
    return render(torch.tensor(factors)).double()[:, 0] / 255


def moments(image: Tensor) -> tuple[float, float]:
    """The centre of mass x, y of (64, 64), pixels."""
    at = torch.arange(64) + 0.5
    return float((image.sum(0) * at).sum() / image.sum()), float((image.sum(1) * at).sum() / image.sum())


def test_sines_are_sines() -> None:
    assert list(SINES) == [round(10_000 * math.sin(math.radians(9 * k))) for k in range(11)]


@pytest.mark.parametrize("shape", range(3))
def test_area_and_place_follow_the_factors(shape: int) -> None:
    for scale in range(6):
        found = ink([[shape, scale, 0, 0, 31], [shape, scale, 7, 31, 0], [shape, scale, 13, 11, 20]])
        area = AREAS[shape] * (5 + scale) ** 2 / 100
        assert found.sum((1, 2)).tolist() == pytest.approx([area] * 3, rel=0.015)
    if shape < 2:  # a heart's centre of mass is not the middle of its square
        for image, (x, y) in zip(found, ((0, 31), (31, 0), (11, 20)), strict=True):
            assert moments(image) == pytest.approx((13.4 + 1.2 * x, 13.4 + 1.2 * y), abs=0.01)
    corner = ink([[shape, 5, o, x, y] for o in range(0, 40, 8) for x in (0, 31) for y in (0, 31)])
    assert float(corner.sum((1, 2)).min()) > 0.98 * area  # nothing is cut off at the frame


@pytest.mark.parametrize(("shape", "period"), [(0, 10), (1, 20), (2, 40)])
def test_orientations_repeat_with_the_symmetry_of_the_shape(shape: int, period: int) -> None:
    images = ink([[shape, 4, o, 15, 16] for o in range(40)])
    same = (images[:, None] == images[None]).all(-1).all(-1)
    order = torch.arange(40)
    assert same.equal((order[:, None] - order) % period == 0)


@pytest.mark.parametrize("shape", range(3))
def test_a_quarter_turn_of_the_factor_is_a_quarter_turn_of_the_image(shape: int) -> None:
    """About the middle of position (15.5, 15.5), the image's own: positions turn with it."""
    for turn in range(4):
        x, y = ((9, 4), (27, 9), (22, 27), (4, 22))[turn]
        assert ink([[shape, 3, 3 + 10 * turn, x, y]])[0].equal(ink([[shape, 3, 3, 9, 4]])[0].rot90(-turn))


def test_a_heart_points_down_and_turns_clockwise() -> None:
    for orientation, (x, y) in ((0, (0, -1)), (10, (1, 0)), (20, (0, 1)), (30, (-1, 0))):  # where its lobes are
        found = moments(ink([[2, 5, orientation, 15, 15]])[0])
        off = (found[0] - 31.4, found[1] - 31.4)
        assert (round(off[0]), round(off[1])) == (x * round(abs(off[0])), y * round(abs(off[1])))
        assert math.hypot(*off) > 1


def test_every_value_of_a_factor_makes_its_own_image() -> None:
    for factor, count in enumerate(VALUES):
        middle = torch.tensor([2, 3, 5, 7, 9]).repeat(count, 1)
        middle[:, factor] = torch.arange(count)
        images = render(middle).flatten(1)
        assert len(images.unique(dim=0)) == count, NAMES[factor]
        assert images.dtype == torch.uint8
