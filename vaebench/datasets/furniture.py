"""820 meshes of furniture, vehicles, plants and people as clouds of 512 of 4,096 points; 373 have one of 12 labels."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vaebench.core.data import Source, Space, Split, Subsampled
from vaebench.core.errors import foreign
from vaebench.datasets._clouds import POINTS
from vaebench.datasets._files import damaged, require, size_of

NOWHERE = "it lies on no server: its points were drawn from the meshes of a Debian package"
FILES = ("furniture/furniture_4096.npz", "furniture/models.tsv")
CLOUDS, STORED, CLASSES = 820, 4096, 12
MOST = 2**26  # bytes of a file: the archive has 16 MB


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" (656) and "test" (164). Labels are 0..11, or -1 where a model has none.

    `models.tsv`, which names each model, its creator and its licence, must lie beside the points: their attributions
    travel with them. Nothing can be downloaded: the points were drawn from meshes.
    """
    require("furniture", root, FILES, download, NOWHERE)
    points, label, test = _arrays(root)
    _attributed(root)
    x, y, held = torch.from_numpy(points).float(), torch.from_numpy(label).long(), torch.from_numpy(test)
    parts = {"train": ~held, "test": held}
    return {name: Split(name, x[part], y[part], Subsampled(POINTS)) for name, part in parts.items()}


def _arrays(root: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    size_of("furniture", root, FILES[0], MOST)
    with (
        foreign(lambda reason: _damaged(root, FILES[0], f"is not an npz file as released ({reason})")),
        (root / FILES[0]).open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        points, label, test = (arrays[name] for name in ("points", "label", "test"))
    if points.shape != (CLOUDS, STORED, 3) or label.shape != (CLOUDS,) or test.shape != (CLOUDS,):
        raise _damaged(root, FILES[0], f"holds points of shape {points.shape}")
    if not np.isfinite(points).all() or label.min() < -1 or label.max() >= CLASSES:
        raise _damaged(root, FILES[0], "holds points that are NaN or infinite, or labels beyond 11")
    return points, label, test.astype(bool)


def _damaged(root: Path, file: str, problem: str) -> ValueError:
    return damaged("furniture", root, file, problem, fetched=False)


def _attributed(root: Path) -> None:
    size_of("furniture", root, FILES[1], MOST)
    with (root / FILES[1]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    if len(rows) != CLOUDS or not all(row.get("creator") and row.get("licence") for row in rows):
        raise _damaged(root, FILES[1], f"should name creator and licence of {CLOUDS} models")


plugin = Source(
    name="furniture",
    space=Space((POINTS, 3), None, "density"),
    read=read,
    origin="the 820 models of Debian's sweethome3d-furniture 1.8; points drawn uniformly by area",
    fingerprint="d5247468f3c9ae022ef9bf81b5bb59ed544ad84cccf0f164ac2b19872c9182bf",
    licence="CC0-1.0, CC-BY-3.0 or CC-BY-3.0-US, as models.tsv says of each model",
)
