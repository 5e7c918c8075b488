"""Three black discs on white, each anywhere: six factors of 64 values (64x64, binarised when read)."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebench.core.data import GroundTruth, Source, Space, Split
from vaebench.datasets._rendered import rendered

SIDE, FINE, DOTS, POSITIONS = 64, 10, 3, 64  # FINE: subpixels along a side of a pixel
NAMES = tuple(f"{axis}{dot}" for dot in range(DOTS) for axis in "xy")
UNIT = 30  # of length: a subpixel is 30 units wide, so that every number below is an integer
RADIUS = 1536  # .08 of the 64 * 10 * 30 units of a side
STEP = 256  # position k has its centre at RADIUS + STEP k, so that every disc lies inside the image
PATCH = 12  # pixels along a side of a square that holds a disc wherever it is
CHUNK = 500

Bits = NDArray[np.uint64]


@cache
def _stamps() -> tuple[NDArray[np.int64], Bits]:
    """The first pixel (64,) of the patch of each position, and the subpixels that a disc at x, y covers in its patch.

    A patch is (64 y, 64 x, PATCH, PATCH, 2): the 100 subpixels of each pixel as bits of two words. A subpixel is
    covered where its centre is at most RADIUS from the disc's.
    """
    centre = RADIUS + STEP * np.arange(POSITIONS)
    first = np.minimum((centre - RADIUS) // (UNIT * FINE), SIDE - PATCH)
    subpixel = first[:, None] * FINE + np.arange(PATCH * FINE)  # (64, 120)
    square = (subpixel * UNIT + UNIT // 2 - centre[:, None]) ** 2
    stamps = np.zeros((POSITIONS, POSITIONS, PATCH, PATCH, 2), np.uint64)
    for y in range(POSITIONS):
        covered = square[y][None, :, None] + square[:, None, :] <= RADIUS**2  # (x, 120, 120)
        pixels = covered.reshape(POSITIONS, PATCH, FINE, PATCH, FINE).transpose(0, 1, 3, 2, 4)
        bits = np.packbits(pixels.reshape(POSITIONS, PATCH, PATCH, FINE**2), axis=-1)
        words = np.zeros((*bits.shape[:-1], 16), np.uint8)
        words[..., : bits.shape[-1]] = bits
        stamps[y] = words.view(np.uint64)
    return first, stamps


def render(factors: Tensor) -> Tensor:
    """Grey images (B, 1, 64, 64) of `factors` (B, 6): x and y of each disc, 0..63 from left to right and top to bottom.

    As if drawn black on white at ten times the size and averaged over areas: 255 times the uncovered part of each
    pixel's 100 subpixels, rounded half up, in integers, so that the content is the same everywhere.
    """
    first, stamps = _stamps()
    return torch.cat([_render(part.numpy(), first, stamps) for part in factors.split(CHUNK)])


def _render(factors: NDArray[Any], first: NDArray[np.int64], stamps: Bits) -> Tensor:
    canvas = np.zeros((len(factors), SIDE, SIDE, 2), np.uint64)
    image, pixel = np.arange(len(factors))[:, None, None], np.arange(PATCH)
    for dot in range(DOTS):
        x, y = factors[:, 2 * dot], factors[:, 2 * dot + 1]
        rows, columns = first[y][:, None, None] + pixel[:, None], first[x][:, None, None] + pixel
        canvas[image, rows, columns] |= stamps[y, x]
    covered = np.bitwise_count(canvas).sum(-1, dtype=np.int64)
    return torch.from_numpy(((255 * (FINE**2 - covered) + FINE**2 // 2) // FINE**2).astype(np.uint8)).unsqueeze(1)


TRUTH = GroundTruth(NAMES, (POSITIONS,) * len(NAMES), render)


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" (20,000) and "test" (500)."""
    return rendered("three-dots", TRUTH)


plugin = Source(
    name="three-dots",
    space=Space((1, SIDE, SIDE), 2, "pmf"),
    read=read,
    origin="rendered; the design is of Rhodes & Lee 2021 (JL1-VAE)",
    licence="none needed: rendered, not collected",
    fingerprint="e5c8a7b42b7a4b18b09a98828d2caf7d490ba5c2a4f443e5f59b0354361e2b1d",
    bundled=True,
    ground_truth=TRUTH,
)
