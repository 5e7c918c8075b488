"""Clouds of points as images: where points are seen, and which of two."""

import math

import torch

from vaebench.metrics.shared.cloud_picture import DARKEST, LIGHTEST, REACH, SIDE, TILT, TURNS, views


def seen(x: list[list[float]]) -> torch.Tensor:
    return views(torch.tensor([x]))[0, 0].float()


def test_a_point_is_a_spot_where_it_belongs_in_either_view() -> None:
    page = seen([[0.0, 0.0, 0.0]])
    assert page.shape == (SIDE, 2 * SIDE)
    for view in page.split(SIDE, 1):
        place = (view < 255).nonzero()
        assert place.tolist() == [[SIDE // 2 + down, SIDE // 2 + right] for down in (0, 1) for right in (0, 1)]
        assert float(view[SIDE // 2, SIDE // 2]) == round((DARKEST + LIGHTEST) / 2)
    up = seen([[0.0, 0.9, 0.0]])
    row = int((up < 255).nonzero()[0, 0])
    assert row == math.floor(SIDE / 2 * (1 - 0.9 * math.cos(TILT) / REACH))


def test_near_points_are_darker_and_hide_far_ones() -> None:
    turn = math.radians(TURNS[0])
    towards = torch.tensor([math.sin(turn) * math.cos(TILT), math.sin(TILT), math.cos(turn) * math.cos(TILT)])
    both = views(torch.stack([0.8 * towards, -0.8 * towards])[None])[0, 0, :, :SIDE].float()
    near, far = (views(sign * 0.8 * towards[None, None])[0, 0, :, :SIDE].float() for sign in (1, -1))
    assert float(near.min()) < float(far.min()) < 255
    assert float(both[SIDE // 2, SIDE // 2]) == float(near[SIDE // 2, SIDE // 2])


def test_points_outside_are_left_out_and_clouds_are_apart() -> None:
    pages = views(torch.tensor([[[3.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]]))
    assert pages.shape == (2, 1, SIDE, 2 * SIDE)
    assert bool((pages[0] == 255).all())
    assert bool((pages[1] < 255).any())
