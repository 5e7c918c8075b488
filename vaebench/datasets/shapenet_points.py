"""A folder of clouds or meshes of your own, .npy, .ply or .off, one folder a class (512 points a reading)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vaebench.core import npy
from vaebench.core.data import Source, Space, Split, Subsampled
from vaebench.core.errors import UserError, foreign
from vaebench.core.tables import within
from vaebench.datasets import _own
from vaebench.datasets._clouds import POINTS, cloud, together
from vaebench.datasets._files import damaged, require, size_of
from vaebench.functional import random

FOLDER = "shapenet-points"
DRAWN = 4096  # points of a mesh
MOST = 2**28  # bytes of a file
NOWHERE = "it is a folder of your own files, <class>/<name>"
KINDS = (".npy", ".ply", ".off")


@dataclass(frozen=True)
class Options:
    """`count` is of the points of every cloud: needed where files hold different numbers."""

    count: int | None = None

    def __post_init__(self) -> None:
        within(self, count=(POINTS, 2**20))


def read(root: Path, download: bool) -> Mapping[str, Split]:
    """The splits "train" and "test" of `<root>/shapenet-points/<class>/<name>`, y up; labels count sorted classes.

    A .npy file holds points (P, 3); a .ply file its vertices; of an .off file, a mesh, 4,096 points are drawn uniformly
    by area. Each cloud is centred and scaled into the unit ball. A fifth are test clouds, by a hash of their names, or
    those that `test.txt` lists. Clouds of differing size need `count = N` in `clouds.toml`. Needs the extra `points`
    for .ply and .off.
    """
    require(FOLDER, root, [FOLDER], download, NOWHERE)
    folder = root / FOLDER
    files = sorted(path for path in folder.glob("*/*") if path.suffix in KINDS)
    if not files:
        raise damaged(FOLDER, root, FOLDER, f"holds no <class>/<name> ending in {', '.join(KINDS)}", fetched=False)
    classes = sorted({path.parent.name for path in files})
    options = _own.options(Options, _own.text(folder / "clouds.toml"), folder / "clouds.toml")
    x = together([_points(root, path) for path in files], files, options.count)
    y = torch.tensor([classes.index(path.parent.name) for path in files])
    names = [path.relative_to(folder).as_posix() for path in files]
    splits = _own.split_of(FOLDER, names, {"test": _own.text(folder / "test.txt")}, folder)
    parts = _own.indices(splits, folder, "clouds")
    return {name: Split(name, x[part], y[part], Subsampled(POINTS)) for name, part in parts.items()}


def _points(root: Path, path: Path) -> NDArray[np.float32]:
    file = path.relative_to(root).as_posix()
    size_of(FOLDER, root, file, MOST)
    with foreign(
        lambda reason: damaged(FOLDER, root, file, f"is not a {path.suffix} file of points ({reason})", fetched=False)
    ):
        points = npy.read(path) if path.suffix == ".npy" else _geometry(path)
    return cloud(points, path)


def _geometry(path: Path) -> NDArray[Any]:
    """The vertices of a .ply file, or points drawn from the faces of an .off file."""
    try:
        import trimesh
    except ImportError as error:
        raise UserError(f"{path} is read by trimesh; install it: pip install 'vaebench[points]'") from error
    found = trimesh.load(path, file_type=path.suffix[1:], process=False)
    if path.suffix == ".ply" and isinstance(found, trimesh.Trimesh | trimesh.PointCloud):
        return np.asarray(found.vertices)
    if not isinstance(found, trimesh.Trimesh) or not len(found.faces) or not found.area > 0:
        raise ValueError("the mesh has no faces to draw points from")
    points, _ = trimesh.sample.sample_surface(found, DRAWN, seed=random.derive(path.name) % 2**32)
    return np.asarray(points)


plugin = Source(
    name="shapenet-points",
    space=Space((POINTS, 3), None, "density"),
    read=read,
    origin="your own files",
    licence="that of the files",
)
