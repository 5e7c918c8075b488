"""Points drawn uniformly by area from the surfaces of simple solids, by exact arithmetic.

Only +, -, *, / and square roots, which IEEE 754 rounds alike everywhere, make a point from its random numbers: the
content is the same on every machine. y is up.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from vaebench.functional import random

Array = NDArray[np.float64]
UP = np.array([0.0, 1.0, 0.0])
TRIES = 8  # candidates of a rejection, of which the last is taken where none is accepted


class Numbers:
    """Streams of uniform numbers for N clouds, `seed` and the order of the calls alone deciding them."""

    def __init__(self, seed: int, clouds: int) -> None:
        self._seed, self._clouds, self._calls = seed, torch.arange(clouds), 0

    def __call__(self, *event: int) -> Array:
        """(N, *event) in (0, 1)."""
        self._calls += 1
        keys = random.keys(random.derive(self._seed, self._calls), self._clouds)
        found: Array = random.uniform(keys, event).double().numpy()
        return found

    def between(self, low: float, high: float) -> Array:
        """(N, 1) in (low, high)."""
        return low + (high - low) * self(1)

    def directions(self, *event: int) -> Array:
        """Uniform points of the unit circle, (N, *event, 2): between neighbours of `CIRCLE`, brought to length 1."""
        place = self(*event) * (len(CIRCLE) - 1)
        left = place.astype(np.int64)
        part = (place - left)[..., None]
        chord = (1 - part) * CIRCLE[left] + part * CIRCLE[left + 1]
        length: Array = np.sqrt((chord**2).sum(-1, keepdims=True))
        return chord / length


def _circle(halvings: int) -> Array:
    """Points of the unit circle, once around from (1, 0): a square whose arcs are halved."""
    points = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [1.0, 0.0]])
    for _ in range(halvings):
        middle = points[:-1] + points[1:]
        middle /= np.sqrt((middle**2).sum(-1, keepdims=True))
        points = np.insert(points, np.arange(1, len(points)), middle, 0)
    return points


CIRCLE = _circle(10)  # 4,097 points: what chords change in an angle's density is below one part in 10**6


def _first(accepted: NDArray[np.bool_], candidates: Array) -> Array:
    """The first of the candidates (..., TRIES, F) that is accepted (..., TRIES), or the last: (..., F)."""
    place = np.where(accepted.any(-1), accepted.argmax(-1), accepted.shape[-1] - 1)
    taken: Array = np.take_along_axis(candidates, place[..., None, None], -2)[..., 0, :]
    return taken


def sphere(number: Numbers, points: int) -> Array:
    """(N, points, 3) of a sphere: height and direction are independent and uniform (Archimedes)."""
    radius, y = number.between(0.4, 0.9), 2 * number(points) - 1
    around = np.sqrt(1 - y**2)[..., None] * number.directions(points)
    return radius[..., None] * np.stack([around[..., 0], y, around[..., 1]], -1)


def box(number: Numbers, points: int) -> Array:
    """(N, points, 3) of a box whose half sides lie between .2 and .55."""
    half = np.concatenate([number.between(0.2, 0.55) for _ in range(3)], -1)  # (N, 3)
    area = half[:, [1, 0, 0]] * half[:, [2, 2, 1]]  # of the faces across x, y and z
    bounds = area.cumsum(-1) / area.sum(-1, keepdims=True)
    face = (number(points)[..., None] > bounds[:, None, :2]).sum(-1)  # (N, points)
    inside = 2 * number(points, 3) - 1
    side = np.where(number(points) < 0.5, -1.0, 1.0)
    np.put_along_axis(inside, face[..., None], side[..., None], -1)
    return half[:, None] * inside


def cylinder(number: Numbers, points: int) -> Array:
    """(N, points, 3) of a closed cylinder about the vertical."""
    radius, height = number.between(0.15, 0.5), number.between(0.2, 0.7)  # half its height
    part = number(points) * (2 * height + radius)  # areas over 2 pi r: the side's 2h, each disc's r / 2
    side, up = part < 2 * height, part < 2 * height + radius / 2
    across = radius * np.where(side, 1.0, np.sqrt(number(points)))
    y = np.where(side, (2 * number(points) - 1) * height, np.where(up, height, -height))
    return _turned(number, across, y)


def cone(number: Numbers, points: int) -> Array:
    """(N, points, 3) of a closed cone, its apex up."""
    radius, height = number.between(0.25, 0.6), number.between(0.3, 0.8)  # half its height
    slant = np.sqrt(radius**2 + 4 * height**2)
    side, far = number(points) * (radius + slant) < slant, np.sqrt(number(points))  # far: from the apex, or the axis
    return _turned(number, radius * far, np.where(side, height * (1 - 2 * far), -height))


def torus(number: Numbers, points: int) -> Array:
    """(N, points, 3) of a torus about the vertical: the tube's angle is drawn in proportion to its circle's length."""
    ring, tube = number.between(0.4, 0.65), number.between(0.08, 0.25)
    angle = number.directions(points, TRIES)  # (N, points, TRIES, 2)
    length = ring[..., None] + tube[..., None] * angle[..., 0]
    angle = _first(number(points, TRIES) * (ring + tube)[..., None] < length, angle)
    return _turned(number, ring + tube * angle[..., 0], tube * angle[..., 1])


def _turned(number: Numbers, across: Array, y: Array) -> Array:
    """Points at distances `across` (N, P) from the axis and heights `y`, each in a direction of its own."""
    around = across[..., None] * number.directions(across.shape[1])
    return np.stack([around[..., 0], y, around[..., 1]], -1)


Solid = Callable[[Numbers, int], Array]
SOLIDS: tuple[Solid, ...] = (sphere, box, cylinder, cone, torus)


def stacked(below: Array, above: Array) -> Array:
    """Two solids (N, P, 3) and (N, Q, 3), the second standing on the first, scaled to the unit ball: (N, P + Q, 3)."""
    gap = below[..., 1].max(1) - above[..., 1].min(1)
    both = np.concatenate([below, above + gap[:, None, None] * UP], 1)
    middle = (both[..., 1].max(1) + both[..., 1].min(1)) / 2
    both = both - middle[:, None, None] * UP
    fitted: Array = both * (0.9 / np.sqrt((both**2).sum(-1).max(1)))[:, None, None]
    return fitted


def posed(number: Numbers, x: Array) -> Array:
    """Points (N, P, 3) turned about the vertical, each cloud by an angle of its own."""
    cosine, sine = np.split(number.directions(1)[:, 0], 2, -1)  # (N, 1) each
    across = cosine * x[..., 0] - sine * x[..., 2]
    return np.stack([across, x[..., 1], sine * x[..., 0] + cosine * x[..., 2]], -1)
