"""Clouds of points as grey images: seen from the front, a little from above, and from the side."""

import math

import torch
from torch import Tensor

SIDE = 56  # pixels of a view
TURNS = (30.0, 120.0)  # degrees about the vertical, of each view
TILT = math.radians(20.0)
DARKEST, LIGHTEST = 20.0, 190.0  # grey levels of the nearest and the farthest point
REACH = 1.1  # half the side of a view, in units of the data, which lie in the unit ball


def views(x: Tensor) -> Tensor:
    """Grey images (N, 1, SIDE, 2 SIDE) uint8 of clouds x (N, P, 3), y up: two views side by side, near points darker.

    A point is a spot of 2 x 2 pixels; of points at one place the nearest is seen.
    """
    return torch.cat([_view(x.double().cpu(), math.radians(turn)) for turn in TURNS], -1)


def _view(x: Tensor, turn: float) -> Tensor:
    across = math.cos(turn) * x[..., 0] - math.sin(turn) * x[..., 2]
    depth = math.sin(turn) * x[..., 0] + math.cos(turn) * x[..., 2]
    up = math.cos(TILT) * x[..., 1] - math.sin(TILT) * depth
    depth = math.sin(TILT) * x[..., 1] + math.cos(TILT) * depth  # larger is nearer
    level = LIGHTEST + (DARKEST - LIGHTEST) * ((depth + 1) / 2).clamp(0, 1)
    left, top = ((SIDE / 2 * (1 + place / REACH)).floor().long() for place in (across, -up))
    page = torch.full((len(x), SIDE * SIDE), 255.0, dtype=torch.float64)
    for right, down in ((0, 0), (0, 1), (1, 0), (1, 1)):
        column, row = left + right, top + down
        seen = (column >= 0) & (column < SIDE) & (row >= 0) & (row < SIDE)
        place = torch.where(seen, row * SIDE + column, 0)
        page.scatter_reduce_(1, place, torch.where(seen, level, 255.0), "amin")
    return page.round().to(torch.uint8).view(len(x), 1, SIDE, SIDE)
