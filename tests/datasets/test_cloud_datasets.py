"""The datasets of point clouds: rendered solids, and files in the formats of those that are collected."""

import csv
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vaebench.core.data import Split
from vaebench.core.errors import DataError, UserError
from vaebench.core.registry import load_dataset
from vaebench.datasets import _solids, furniture, modelnet40, shapenet_points
from vaebench.datasets._solids import Numbers
from vaebench.distributions.noise import keyed

Array = NDArray[Any]


def ball(count: int, seed: int = 0) -> NDArray[np.float32]:
    x = np.random.default_rng(seed).standard_normal((count, 3))
    scaled: NDArray[np.float32] = (x / np.linalg.norm(x, axis=1).max()).astype(np.float32)
    return scaled


def test_directions_are_uniform() -> None:
    direction = Numbers(0, 20)(2000), Numbers(0, 20).directions(2000)
    angle = np.sort(np.arctan2(direction[1][..., 1], direction[1][..., 0]).ravel() / (2 * np.pi) % 1)
    assert abs(np.hypot(direction[1][..., 0], direction[1][..., 1]) - 1).max() < 1e-12
    gap = abs(angle - (np.arange(len(angle)) + 0.5) / len(angle)).max()
    assert gap < 1.63 / math.sqrt(len(angle))  # Kolmogorov and Smirnov at 1%


def _on_sphere(x: Array) -> Array:
    radius = np.linalg.norm(x, axis=-1)
    found: Array = radius / radius.mean(1, keepdims=True) - 1
    return found


def test_points_lie_on_their_solids_uniformly_by_area() -> None:
    points = 40_000
    x = _solids.sphere(Numbers(1, 2), points)
    assert abs(_on_sphere(x)).max() < 1e-12
    height = x[..., 1] / abs(x[..., 1]).max(1, keepdims=True)  # uniform on (-1, 1), by Archimedes
    assert abs(height.mean(1)).max() < 5 / math.sqrt(3 * points)
    x = _solids.box(Numbers(1, 2), points)
    half = abs(x).max(1)
    on = np.isclose(abs(x), half[:, None], rtol=0, atol=1e-12)
    assert on.any(-1).all()
    area = np.stack([half[:, 1] * half[:, 2], half[:, 0] * half[:, 2], half[:, 0] * half[:, 1]], 1)
    assert abs(on.mean(1) - area / area.sum(1, keepdims=True)).max() < 5 * 0.5 / math.sqrt(points)
    x = _solids.torus(Numbers(1, 2), points)
    across, y = np.hypot(x[..., 0], x[..., 2]), x[..., 1]
    tube = abs(y).max(1)
    ring = (across.max(1) + across.min(1)) / 2
    assert abs((across - ring[:, None]) ** 2 + y**2 - tube[:, None] ** 2).max() < 2e-3
    outer = (across > ring[:, None]).mean(1)  # by Pappus: 1/2 + tube / (pi ring)
    assert abs(outer - 0.5 - tube / (np.pi * ring)).max() < 5 * 0.5 / math.sqrt(points) + 1e-3
    x = _solids.cone(Numbers(1, 2), points)
    base = x[..., 1].min(1)
    across, top = np.hypot(x[..., 0], x[..., 2]).max(1), -base
    slant = np.hypot(across, 2 * top)
    side = (x[..., 1] > base[:, None] + 1e-12).mean(1)
    assert abs(side - slant / (slant + across)).max() < 5 * 0.5 / math.sqrt(points) + 2e-3
    x = _solids.cylinder(Numbers(1, 2), points)
    radius, top = np.hypot(x[..., 0], x[..., 2]).max(1), x[..., 1].max(1)
    side = np.isclose(np.hypot(x[..., 0], x[..., 2]), radius[:, None], rtol=0, atol=1e-9).mean(1)
    assert abs(side - 2 * top / (2 * top + radius)).max() < 5 * 0.5 / math.sqrt(points) + 1e-3


def test_shapes_fit_the_unit_ball_and_every_class_is_there() -> None:
    data = load_dataset("shapes", None)
    for split, size in (("train", 3000), ("test", 600)):
        found = data.split(split)
        assert len(found) == size
        assert found.y is not None
        assert found.y.bincount().tolist() == [size // 6] * 6
        assert float(found.x.norm(dim=-1).max()) <= 1


def test_a_reading_draws_some_points_without_repeats_and_moves_them_a_little() -> None:
    split = load_dataset("shapes", None).split("test")
    index = torch.tensor([5, 0, 5])
    with keyed(3, torch.tensor([5, 0, 605])):
        x, y, _ = split.take(index)
    assert x.shape == (3, 512, 3)
    assert y is not None
    distance = torch.cdist(x, split.x[index])
    nearest, which = distance.min(2)
    assert float(nearest.max()) < 0.06
    assert [len(each.unique()) > 400 for each in which] == [True] * 3
    assert not torch.equal(x[0], x[2])
    with keyed(3, torch.tensor([5])):
        alone = split.take(index[:1]).x
    torch.testing.assert_close(alone[0], x[0], rtol=0, atol=0)


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A folder in the layout of the furniture files."""
    folder = tmp_path / "furniture"
    folder.mkdir()
    points = np.stack([ball(4096, seed) for seed in range(4)])[np.arange(820) % 4].astype(np.float16)
    label = (np.arange(820) % 14 - 1).clip(-1, 11)
    np.savez(folder / "furniture_4096.npz", points=points, label=label, test=np.arange(820) % 5 == 0)
    with (folder / "models.tsv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["id", "creator", "licence"])
        writer.writerows([str(i), "someone", "CC0-1.0"] for i in range(820))
    return tmp_path


def test_furniture_is_read_with_its_attributions(released: Path) -> None:
    splits = furniture.read(released, False)
    assert {name: len(split) for name, split in splits.items()} == {"train": 656, "test": 164}
    (released / "furniture" / "models.tsv").write_text("id\tcreator\tlicence\n")
    with pytest.raises(ValueError, match="creator and licence of 820 models"):
        furniture.read(released, False)


def test_furniture_says_what_is_wrong(released: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    for download in (False, True):
        with pytest.raises(
            DataError, match=r"furniture is not under .*; it lies on no server: .* put there by hand"
        ) as e:
            load_dataset("furniture", tmp_path_factory.mktemp("empty"), download)
        assert "try again" not in str(e.value)
        assert "vaebench data get" not in str(e.value)
    file = released / "furniture" / "furniture_4096.npz"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"is not an npz file as released .*; put a sound one in its place"):
        furniture.read(released, False)


def hdf5(path: Path, points: Array, label: Array) -> None:
    h5py = pytest.importorskip("h5py")
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file["data"], file["label"] = points, label


def test_modelnet40_is_read_from_its_release(tmp_path: Path) -> None:
    points = np.stack([ball(2048, seed) for seed in range(3)])
    for name in ("train0", "train1", "test0"):
        hdf5(tmp_path / modelnet40.FOLDER / f"ply_data_{name}.h5", points, np.array([[0], [39], [7]], np.uint8))
    splits = modelnet40.read(tmp_path, False)
    assert [len(splits[name]) for name in ("train", "test")] == [6, 3]
    assert torch.equal(splits["test"].x, torch.from_numpy(points))
    assert splits["test"].y is not None
    assert splits["test"].y.tolist() == [0, 39, 7]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "is not an HDF5 file of the release"),
        (lambda path: hdf5(path, np.zeros((2, 100, 3), np.float32), np.zeros((2, 1))), "have the shapes"),
        (lambda path: hdf5(path, np.full((2, 2048, 3), np.nan, np.float32), np.zeros((2, 1))), "NaN or infinity in c"),
        (lambda path: hdf5(path, np.zeros((2, 2048, 3), np.float32), np.full((2, 1), 40)), "one label of 0..39"),
    ],
)
def test_modelnet40_says_what_is_wrong(make: Callable[[Path], object], says: str, tmp_path: Path) -> None:
    file = tmp_path / modelnet40.FOLDER / "ply_data_train0.h5"
    hdf5(file, np.stack([ball(2048)]), np.zeros((1, 1)))
    make(file)
    with pytest.raises(ValueError, match=says):
        modelnet40.read(tmp_path, False)


def test_modelnet40_needs_h5py_and_follows_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h5py = pytest.importorskip("h5py")
    file = tmp_path / modelnet40.FOLDER / "ply_data_train0.h5"
    hdf5(file, np.stack([ball(2048)]), np.zeros((1, 1)))
    other = tmp_path / "other.h5"
    hdf5(other, np.stack([ball(2048)]), np.zeros((1, 1)))
    with h5py.File(file, "a") as content:
        del content["data"]
        content["data"] = h5py.ExternalLink(str(other), "data")
    with pytest.raises(ValueError, match="data is not a dataset of this file"):
        modelnet40.read(tmp_path, False)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(UserError, match=r"pip install 'vaebench\[points\]'"):
        modelnet40.read(tmp_path, False)


OFF = "OFF\n4 4 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of clouds of its user's own."""
    for name in ("a", "b"):
        (tmp_path / shapenet_points.FOLDER / name).mkdir(parents=True)
        for seed in range(6):
            np.save(tmp_path / shapenet_points.FOLDER / name / f"{seed}.npy", ball(4096, seed))
    return tmp_path


def test_a_folder_of_clouds_and_meshes_is_read(own: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    folder = own / shapenet_points.FOLDER
    (folder / "b" / "mesh.off").write_text(OFF)
    trimesh.PointCloud(ball(4096, 9)).export(folder / "a" / "cloud.ply")
    (folder / "test.txt").write_text("b/mesh.off\na/0.npy\n")
    splits = shapenet_points.read(own, False)
    assert {name: split.x.shape for name, split in splits.items()} == {"train": (12, 4096, 3), "test": (2, 4096, 3)}
    mesh = splits["test"].x[1]
    assert float(mesh.norm(dim=-1).max()) == pytest.approx(1, abs=1e-5)
    assert isinstance(splits["test"], Split)
    assert torch.equal(mesh, shapenet_points.read(own, False)["test"].x[1])


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("a/7.npy", ball(1000), r"7.npy has 1000 points and .* has 4096; state how many .* count = 1000"),
        ("a/7.npy", ball(100), "points of shape"),
        ("a/7.npy", np.full((4096, 3), np.nan), "point 0 is NaN or infinite"),
        ("a/7.off", b"OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n", "no faces"),
        ("a/7.ply", b"ply\nformat", "is not a .ply file"),
        ("clouds.toml", b"count = 5", "count = 5 should be at least 512"),
        ("clouds.toml", b"count = 5000", "fewer than count = 5000"),
        ("test.txt", b"a/99.npy", "which is not there"),
    ],
)
def test_a_folder_says_what_is_wrong(own: Path, file: str, content: bytes | Array, says: str) -> None:
    path = own / shapenet_points.FOLDER / file
    if isinstance(content, bytes):
        pytest.importorskip("trimesh")
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(ValueError, match=says):
        shapenet_points.read(own, False)


def test_an_absent_or_empty_folder_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"your own files, <class>/<name>; .* shapenet-points"):
        shapenet_points.read(tmp_path, True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / shapenet_points.FOLDER).mkdir()
    with pytest.raises(ValueError, match=r"holds no <class>/<name> ending in .npy, .ply, .off"):
        shapenet_points.read(tmp_path, True)


@pytest.mark.skipif("VAEBENCH_DATA" not in os.environ, reason="VAEBENCH_DATA names no folder of datasets")
def test_the_real_furniture_is_the_pinned_one() -> None:
    data = load_dataset("furniture", Path(os.environ["VAEBENCH_DATA"]))
    labelled = {name: int((split.y >= 0).sum()) for name, split in data.splits.items() if split.y is not None}
    assert labelled == {"train": 298, "test": 75}
