"""Clouds of 512 points on spheres, boxes, cylinders, cones, tori and pairs of them, one on the other (rendered)."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np
import torch

from vaebench.core.data import Source, Space, Split, Subsampled
from vaebench.datasets._clouds import POINTS
from vaebench.datasets._solids import SOLIDS, Array, Numbers, Solid, posed, stacked
from vaebench.functional import random

STORED = 1024  # points of each cloud, of which a reading draws 512
SIZES = {"train": 500, "test": 100}  # clouds of each class, a multiple of the 20 pairs


def render(name: str, clouds: int) -> Split:
    """The split `name`: `clouds` clouds of each of six classes, their order mixed, always the same."""
    kinds = [_drawn(solid, (name, label), clouds, STORED) for label, solid in enumerate(SOLIDS)]
    pairs = [pair for pair in product(range(len(SOLIDS)), repeat=2) if pair[0] != pair[1]]
    each, half = clouds // len(pairs), STORED // 2
    standing = [stacked(*(_drawn(SOLIDS[part], (name, *pair, part), each, half) for part in pair)) for pair in pairs]
    kinds.append(np.concatenate(standing))
    x = torch.from_numpy(np.concatenate(kinds)).float()
    y = torch.arange(len(kinds)).repeat_interleave(clouds)
    order = torch.argsort(random.keys(random.derive("shapes", name), torch.arange(len(x))))
    return Split(name, x[order], y[order], Subsampled(POINTS))


def _drawn(solid: Solid, key: tuple[object, ...], clouds: int, points: int) -> Array:
    number = Numbers(random.derive("shapes", *key), clouds)
    return posed(number, solid(number, points))


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" (3,000) and "test" (600). Labels: sphere, box, cylinder, cone, torus, pair."""
    return {name: render(name, clouds) for name, clouds in SIZES.items()}


plugin = Source(
    name="shapes",
    space=Space((POINTS, 3), None, "density"),
    read=read,
    origin="rendered",
    licence="none needed: rendered, not collected",
    fingerprint="cc1cd6f95030d33733afa611dbeb346fa7b49aecee5f134f53799dfcfeef70b5",
    bundled=True,
)
