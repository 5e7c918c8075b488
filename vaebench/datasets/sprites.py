"""White squares, ellipses and hearts: shape, size, orientation, x and y (64x64, binarised when read)."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebench.core.data import GroundTruth, Source, Space, Split
from vaebench.datasets._rendered import rendered

SIDE, FINE = 64, 10  # FINE: subpixels along a side of a pixel
NAMES = ("shape", "scale", "orientation", "x", "y")
VALUES = (3, 6, 40, 32, 32)
SINES = (0, 1564, 3090, 4540, 5878, 7071, 8090, 8910, 9511, 9877, 10000)  # 10,000 sin of 0, 9, ..., 90 degrees
PERIODS = (10, 20, 40)  # orientations after which a square, an ellipse and a heart look the same
HALF = 130  # subpixels: every sprite lies in a square of twice this side about its centre
FIRST, STEP = 134, 12  # subpixels: position k has its centre at FIRST + STEP k, so that every sprite lies inside
PATCH = 27  # pixels along a side of a square that holds a sprite wherever it is
CORNER = (FIRST - HALF + STEP * np.arange(VALUES[3])) // FINE  # the first pixel of the patch at each position
OFFSET = (FIRST - HALF + STEP * np.arange(VALUES[3])) % FINE  # subpixels from there to the sprite's square


def _sine(orientation: int) -> int:
    quarter, step = divmod(orientation % 40, 10)
    return (SINES[step], SINES[10 - step], -SINES[step], -SINES[10 - step])[quarter]


def _covered(shape: int, scale: int, orientation: int) -> NDArray[np.bool_]:
    """Which subpixels (260 y, 260 x) have their centre in the sprite, by integers alone.

    In subpixels, with s = 5 + scale: a square of side 18 s; an ellipse with half axes 13 s and 7 s; a heart, of a
    square that stands on a corner, 9 s from its middle, and two discs, each with one of its upper sides for a diameter.
    Lengths below are in units of 1/20,000 of a subpixel.
    """
    centre = 2 * np.arange(2 * HALF) + 1 - 2 * HALF
    sine, cosine = _sine(orientation), _sine(orientation + 10)
    u = centre * cosine + centre[:, None] * sine
    v = centre[:, None] * cosine - centre * sine  # downwards, where the orientation is 0
    unit = 20_000 * (5 + scale)
    p, q, h = u + v, u - v, 9 * unit  # along the sides of the heart's square, times the root of 2
    inside: NDArray[np.bool_]
    if shape == 0:
        inside = (abs(u) <= 9 * unit) & (abs(v) <= 9 * unit)
    elif shape == 1:
        inside = (7 * u) ** 2 + (13 * v) ** 2 <= (7 * 13 * unit) ** 2
    else:
        inside = (p + h) ** 2 + q**2 <= h**2
        inside |= p**2 + (q - h) ** 2 <= h**2
        inside |= (abs(p) <= h) & (abs(q) <= h)
    return inside


@cache
def _stamps() -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Grey patches (sprites, 5 y, 5 x, PATCH, PATCH) at each offset of an even number of subpixels, and which of the
    sprites each (shape, scale, orientation) is.
    """
    start = FINE * np.arange(PATCH)[:, None] - 2 * np.arange(5)[:, None, None]
    subpixel = np.arange(2 * HALF)
    pixels = ((subpixel >= start) & (subpixel < start + FINE)).reshape(5 * PATCH, 2 * HALF).astype(np.float32)
    index = np.zeros(VALUES[:3], np.intp)
    stamps: list[NDArray[np.uint8]] = []
    for shape, period in enumerate(PERIODS):
        for scale in range(VALUES[1]):
            index[shape, scale] = len(stamps) + np.arange(VALUES[2]) % period
            for orientation in range(period):
                area = pixels @ _covered(shape, scale, orientation).astype(np.float32) @ pixels.T  # exact: up to 100
                grey = (255 * area.astype(np.int64) + FINE**2 // 2) // FINE**2
                stamps.append(grey.astype(np.uint8).reshape(5, PATCH, 5, PATCH).swapaxes(1, 2))
    return np.stack(stamps), index


def render(factors: Tensor) -> Tensor:
    """Grey images (B, 1, 64, 64) of `factors` (B, 5): shape, scale, orientation by 9 degrees clockwise, x and y.

    Shapes are square, ellipse and heart; scales are 0.5, 0.6, ..., 1; x and y rise from left to right and from top to
    bottom. As if drawn white on black at ten times the size and averaged over areas: 255 times the covered part of each
    pixel's 100 subpixels, rounded half up, in integers, so that the content is the same everywhere.
    """
    stamps, index = _stamps()
    shape, scale, orientation, x, y = factors.numpy().T
    pixel = np.arange(PATCH)
    rows, columns = CORNER[y][:, None, None] + pixel[:, None], CORNER[x][:, None, None] + pixel
    canvas = np.zeros((len(factors), SIDE, SIDE), np.uint8)
    patches = stamps[index[shape, scale, orientation], OFFSET[y] // 2, OFFSET[x] // 2]
    canvas[np.arange(len(factors))[:, None, None], rows, columns] = patches
    return torch.from_numpy(canvas).unsqueeze(1)


TRUTH = GroundTruth(NAMES, VALUES, render)


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" (20,000) and "test" (500)."""
    return rendered("sprites", TRUTH)


plugin = Source(
    name="sprites",
    space=Space((1, SIDE, SIDE), 2, "pmf"),
    read=read,
    origin="rendered; the factors are those of dSprites (Matthey et al. 2017)",
    licence="none needed: rendered, not collected",
    fingerprint="f40679c147a525d746e3cd281fa93a21e18f8c96c41f79ea72fb0e6ff4ac7714",
    bundled=True,
    ground_truth=TRUTH,
)
