"""Thumbnails: the first images of a grid of samples, cut out of `gallery/samples.png`. Imports no torch.

`gallery` frames each image of its grid with one grey; that is how they are found, whatever their size.
"""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vaebench.boards.site import artefacts
from vaebench.boards.site.artefacts import Figure

EDGE = (150, 150, 150)
SIDE, GAP, MOST = 56, 4, 8  # pixels of a thumbnail, between two, and how many
LEAST = 4  # pixels of a framed image at least


def of_model(folder: Path) -> Figure | None:
    """The strip of the samples that are kept in a model's folder; None where there are none, or none that can be cut.

    None also for a damaged picture, which `artefacts.pictures` warns of. Raises DataError if a file cannot be read.
    """
    path = folder / "gallery" / "samples.png"
    if not path.is_file() or artefacts.linked(path) or artefacts.damage(content := artefacts.read(path)):
        return None
    strip = cut(content)
    return (
        None if strip is None else artefacts.figure(strip, ".png", f"Samples of {folder.name} on {folder.parent.name}.")
    )


def cut(content: bytes) -> bytes | None:
    """The images of the first row of a whole PNG, at most `MOST`, as a PNG of one row; None where none are framed."""
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        pixels = np.asarray(image.convert("RGB"))
    cells = [pixels[place] for place in _framed((pixels == EDGE).all(2))[:MOST]]
    if not cells:
        return None
    width = round(SIDE * cells[0].shape[1] / cells[0].shape[0])
    strip = Image.new("RGBA", (len(cells) * (width + GAP) - GAP, SIDE))
    for i, cell in enumerate(cells):
        way = Image.Resampling.NEAREST if cell.shape[0] <= SIDE else Image.Resampling.LANCZOS
        strip.paste(Image.fromarray(cell).resize((width, SIDE), way), (i * (width + GAP), 0))
    strip.save(buffer := io.BytesIO(), format="PNG")
    return buffer.getvalue()


def _framed(edges: NDArray[np.bool_]) -> list[tuple[slice, slice]]:
    """Where the images of the first row of closed frames are; a title's letters have grey at their edges too."""
    for top in map(int, np.flatnonzero(edges.sum(1) > LEAST)):
        found = []
        for start, end in _runs(edges[top]):
            height = _runs(edges[top:, start])[0][1]
            frame = edges[top : top + height, start:end]
            if min(frame.shape) >= LEAST and frame[-1].all() and frame[:, -1].all():
                found.append((slice(top + 1, top + height - 1), slice(start + 1, end - 1)))
        if found:
            return found
    return []


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The [start, end) of each run of True."""
    ends = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in ends.reshape(-1, 2)]
