"""Images in labelled rows, as one PNG: every pixel an exact square, and the same bytes for the same images."""

from collections.abc import Iterable, Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vaebench.metrics.shared.packed import packed

SIDE = 56  # pixels of the picture that an image's height comes near to, by a whole factor
GAP, WIDE, MARGIN = 3, 14, 10  # pixels between images, between blocks or bands, around all
TITLE, LABEL = 14, 11  # font sizes
INK, EDGE, PAPER = (30, 30, 30), (150, 150, 150), (255, 255, 255)


class Row(NamedTuple):
    """A row of a grid: its label, and blocks of 8-bit images, each (N, 1 or 3, H, W), side by side."""

    label: str
    blocks: tuple[Tensor, ...]


def _enlarged(image: Tensor, factor: int) -> Image.Image:
    """An image (C, H, W) whose every pixel is `factor` wide and high."""
    pixels = image.permute(1, 2, 0).repeat_interleave(factor, 0).repeat_interleave(factor, 1).numpy()
    return Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy())


def _starts(groups: Iterable[int], length: int) -> list[int]:
    """Where each of the images in `groups` of so many starts, each `length` long."""
    starts, at = list[int](), 0
    for count in groups:
        starts += [at + i * (length + GAP) for i in range(count)]
        at += count * (length + GAP) + WIDE - GAP
    return starts


def png(title: str, bands: Sequence[Sequence[Row]], columns: Sequence[str] = ()) -> bytes:
    """The grid below `title`, as a PNG: rows in bands, their blocks as wide as the first row's, or less.

    `columns` are the headings, if any. Images are enlarged by the whole factor that brings them nearest to `SIDE`.
    """
    rows = [row for band in bands for row in band]
    height, width = rows[0].blocks[0].shape[2:]
    factor = max(1, round(SIDE / height))
    height, width = factor * height, factor * width
    large, small = ImageFont.load_default(TITLE), ImageFont.load_default(LABEL)
    labels = ceil(max(small.getlength(row.label) for row in rows))
    left, top = MARGIN + labels + 2 * GAP * bool(labels), MARGIN + 2 * TITLE + (LABEL + GAP) * bool(columns)
    across = [left + x for x in _starts(map(len, rows[0].blocks), width)]
    down = [top + y for y in _starts(map(len, bands), height)]
    right = max(across[-1] + width, MARGIN + ceil(large.getlength(title)))
    page = Image.new("RGB", (right + MARGIN, down[-1] + height + MARGIN), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, MARGIN), title, INK, large)
    for text, x in zip(columns, across, strict=bool(columns)):
        draw.text((x + width // 2, top - GAP), text, INK, small, anchor="ms")
    for row, y in zip(rows, down, strict=True):
        draw.text((left - 2 * GAP, y + height // 2), row.label, INK, small, anchor="rm")
        for image, x in zip((image for block in row.blocks for image in block), across, strict=False):
            draw.rectangle((x - 1, y - 1, x + width, y + height), outline=EDGE)
            page.paste(_enlarged(image, factor), (x, y))
    return packed(page)
