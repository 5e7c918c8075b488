"""Black discs on white, anywhere: what is rendered, exactly."""

from dataclasses import dataclass
from functools import cache
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebench.core.data import GroundTruth

FINE = 10  # subpixels along a side of a pixel
UNIT = 30  # of length: a subpixel is 30 units wide, so that every number here is an integer
RADIUS = 1536
PATCH = 12  # pixels along a side of a square that holds a disc wherever it is
CHUNK = 500

Bits = NDArray[np.uint64]


@final
@dataclass(frozen=True)
class Discs:
    """Images of `side` pixels with `count` discs of radius 1536 / 300 pixels, each anywhere.

    Each axis has `positions`: the k-th has its centre at 1536 + `step` k units of 1/300 pixel, so that every disc lies
    inside the image.
    """

    side: int
    count: int
    positions: int
    step: int

    @property
    def truth(self) -> GroundTruth:
        """Two factors for each disc: x and y, from left to right and top to bottom."""
        names = tuple(f"{axis}{disc}" for disc in range(self.count) for axis in "xy")
        return GroundTruth(names, (self.positions,) * len(names), self.render)

    def render(self, factors: Tensor) -> Tensor:
        """Grey images (B, 1, side, side) of `factors` (B, 2 count), integers 0..positions-1.

        As if drawn black on white at ten times the size and averaged over areas: 255 times the uncovered part of each
        pixel's 100 subpixels, rounded half up, in integers, so that the content is the same everywhere.
        """
        first, stamps = _stamps(self)
        return torch.cat([self._render(part.numpy(), first, stamps) for part in factors.split(CHUNK)])

    def _render(self, factors: NDArray[Any], first: NDArray[np.int64], stamps: Bits) -> Tensor:
        canvas = np.zeros((len(factors), self.side, self.side, 2), np.uint64)
        image, pixel = np.arange(len(factors))[:, None, None], np.arange(PATCH)
        for disc in range(self.count):
            x, y = factors[:, 2 * disc], factors[:, 2 * disc + 1]
            rows, columns = first[y][:, None, None] + pixel[:, None], first[x][:, None, None] + pixel
            canvas[image, rows, columns] |= stamps[y, x]
        covered = np.bitwise_count(canvas).sum(-1, dtype=np.int64)
        grey = (255 * (FINE**2 - covered) + FINE**2 // 2) // FINE**2
        return torch.from_numpy(grey.astype(np.uint8)).unsqueeze(1)


@cache
def _stamps(discs: Discs) -> tuple[NDArray[np.int64], Bits]:
    """The first pixel (P,) of the patch of each position, and the subpixels that a disc at x, y covers in its patch.

    A patch is (P y, P x, PATCH, PATCH, 2): the 100 subpixels of each pixel as bits of two words. A subpixel is
    covered where its centre is at most RADIUS from the disc's.
    """
    count = discs.positions
    centre = RADIUS + discs.step * np.arange(count)
    first = np.minimum((centre - RADIUS) // (UNIT * FINE), discs.side - PATCH)
    subpixel = first[:, None] * FINE + np.arange(PATCH * FINE)  # (P, 120)
    square = (subpixel * UNIT + UNIT // 2 - centre[:, None]) ** 2
    stamps = np.zeros((count, count, PATCH, PATCH, 2), np.uint64)
    for y in range(count):
        covered = square[y][None, :, None] + square[:, None, :] <= RADIUS**2  # (x, 120, 120)
        pixels = covered.reshape(count, PATCH, FINE, PATCH, FINE).transpose(0, 1, 3, 2, 4)
        bits = np.packbits(pixels.reshape(count, PATCH, PATCH, FINE**2), axis=-1)
        words = np.zeros((*bits.shape[:-1], 16), np.uint8)
        words[..., : bits.shape[-1]] = bits
        stamps[y] = words.view(np.uint64)
    return first, stamps
