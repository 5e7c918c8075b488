"""ModelNet40, 12,311 CAD models of 40 classes as clouds of 512 of 2,048 points (9,840 / 2,468 are in the release)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.datasets.utils import download_and_extract_archive

from vaebench.core.data import Source, Space, Split, Subsampled
from vaebench.core.errors import UserError, foreign
from vaebench.datasets._clouds import POINTS
from vaebench.datasets._files import damaged, require, size_of

FOLDER = "modelnet40_ply_hdf5_2048"
URL = f"https://shapenet.cs.stanford.edu/media/{FOLDER}.zip"
CLASSES, MOST = 40, 2**28  # MOST: bytes of a file; the largest of the release has 50 MB


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" and "test" of the HDF5 release in `<root>/modelnet40_ply_hdf5_2048`: y is up, labels 0..39.

    Each split is what `ply_data_<split>*.h5` hold, in order of their names. Needs the extra `points`.
    """
    require("modelnet40", root, [FOLDER], download, lambda: download_and_extract_archive(URL, root))
    return {name: _split(root, name) for name in ("train", "test")}


def _split(root: Path, name: str) -> Split:
    files = sorted(path.name for path in (root / FOLDER).glob(f"ply_data_{name}*.h5"))
    if not files:
        raise damaged("modelnet40", root, FOLDER, f"holds no ply_data_{name}0.h5")
    parts = [_read(root, f"{FOLDER}/{file}") for file in files]
    points, label = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Split(name, torch.from_numpy(points), torch.from_numpy(label).long(), Subsampled(POINTS))


def _read(root: Path, file: str) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """The points (N, P, 3) and labels (N,) of one file."""
    try:
        import h5py
    except ImportError as error:
        raise UserError("modelnet40 is read by h5py; install it: pip install 'vaebench[points]'") from error
    size_of("modelnet40", root, file, MOST)
    with (
        foreign(lambda reason: damaged("modelnet40", root, file, f"is not an HDF5 file of the release ({reason})")),
        h5py.File(root / file, "r") as content,
    ):
        for key in ("data", "label"):  # of this file itself: a link could name any other
            if not isinstance(content.get(key, getlink=True), h5py.HardLink) or content[key].external:
                raise ValueError(f"{key} is not a dataset of this file")
        shapes = content["data"].shape, content["label"].shape
        if len(shapes[0]) != 3 or shapes[0][1] < POINTS or shapes[0][2] != 3 or shapes[1][:1] != shapes[0][:1]:
            raise ValueError(f"data and label have the shapes {shapes}")
        points, label = np.asarray(content["data"], np.float32), np.asarray(content["label"]).reshape(-1)
    if not np.isfinite(points).all():
        raise damaged("modelnet40", root, file, f"holds NaN or infinity in cloud {_first(~np.isfinite(points))}")
    if label.shape != points.shape[:1] or label.min() < 0 or label.max() >= CLASSES:
        raise damaged("modelnet40", root, file, f"should have one label of 0..{CLASSES - 1} for each cloud")
    return points, label


def _first(sick: NDArray[np.bool_]) -> int:
    return int(sick.reshape(len(sick), -1).any(1).argmax())


plugin = Source(
    name="modelnet40",
    space=Space((POINTS, 3), None, "density"),
    read=read,
    origin="https://modelnet.cs.princeton.edu, points as drawn for PointNet (Qi et al. 2017)",
    licence="for academic use; the models are their creators'",
)
