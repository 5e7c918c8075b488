"""A user's own images, in folders, zips and arrays: what is read, and the one line about what cannot be."""

import io
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from vaebench.core.data import Dataset
from vaebench.core.errors import DataError
from vaebench.core.registry import load_dataset
from vaebench.datasets import _own, image_folder

Array = NDArray[np.uint8]
Invoke = Callable[..., Result]


def photograph(path: Path, seed: int, size: tuple[int, int] = (12, 9), mode: str = "RGB") -> Array:
    """Writes a PNG or JPEG of `size`: width, height; its pixels (H, W, C) as they are decoded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8)).save(path)
    pixels: Array = np.asarray(Image.open(path).convert("RGB"))
    return pixels


def photographs(folder: Path, names: list[str]) -> dict[str, Array]:
    return {name: photograph(folder / name, seed) for seed, name in enumerate(names)}


def told(result: Result) -> str:
    """The one line of a command that ended for want of data."""
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (3, "", 1), result.output
    return result.stderr


def load(root: Path) -> Dataset:
    return load_dataset("image-folder", root)


NAMES = [f"{kind}/{i}.{'png' if i % 2 else 'JPG'}" for kind in ("b", "a") for i in range(10)]


def pixels_of(data: Dataset) -> set[bytes]:
    return {x.numpy().tobytes() for split in data.splits.values() for x in split.x}


def test_sub_folders_are_classes_and_a_fifth_is_to_test(tmp_path: Path) -> None:
    written = photographs(tmp_path / "image-folder", NAMES)
    (tmp_path / "image-folder" / ".hidden.png").write_bytes(b"")
    data = load(tmp_path)
    assert (data.space.shape, data.space.levels, data.space.measure) == ((3, 9, 12), 256, "pmf")
    assert pixels_of(data) == {np.ascontiguousarray(x.transpose(2, 0, 1)).tobytes() for x in written.values()}
    found = {split: list[str]() for split in data.splits}
    for name, split in zip(sorted(NAMES), _own.split_of("image-folder", sorted(NAMES), {}, ""), strict=True):
        found[split].append(name)
    for split, names in found.items():
        y = data.split(split).y
        assert y is not None
        assert y.tolist() == [0 if name.startswith("a") else 1 for name in names]
        assert [x.numpy().transpose(1, 2, 0).tolist() for x in data.split(split).x] == [
            written[name].tolist() for name in names
        ]


def test_the_hash_takes_a_fifth_and_moves_one_at_most() -> None:
    files = [f"{i}.png" for i in range(57)]
    before = dict(zip(files, _own.split_of("image-folder", files, {}, ""), strict=True))
    assert list(before.values()).count("test") == 12
    for added in ("a.png", "b.png", "c.png"):
        after = dict(zip([*files, added], _own.split_of("image-folder", [*files, added], {}, ""), strict=True))
        assert sum(after[file] != before[file] for file in files) <= 1


def test_a_zip_is_its_folder(tmp_path: Path) -> None:
    photographs(tmp_path / "photos", NAMES)
    (tmp_path / "photos" / "images.toml").write_text("size = 8\n")
    shutil.make_archive(str(tmp_path / "inner"), "zip", tmp_path / "photos")
    shutil.make_archive(str(tmp_path / "outer"), "zip", tmp_path, "photos")
    with zipfile.ZipFile(tmp_path / "outer.zip", "a") as archive:
        archive.writestr("__MACOSX/photos/._0.png", b"")
    (tmp_path / "root").mkdir()
    shutil.copy(tmp_path / "inner.zip", tmp_path / "root" / "image-folder.zip")
    roots = [tmp_path / name for name in ("photos", "inner.zip", "outer.zip", "root")]
    assert len({load(root).fingerprint for root in roots}) == 1
    assert {load(root).prepared for root in roots} == {"size 8, crop centre, resize bilinear, channels 3"}


def test_lists_and_folders_make_splits(tmp_path: Path) -> None:
    photographs(tmp_path / "x", ["a 1.png", "b.png", "c.png", "d.png"])
    (tmp_path / "x" / "test.txt").write_text("a 1.png\n\nc.png\n")
    (tmp_path / "x" / "valid.txt").write_text("b.png\n")
    data = load(tmp_path / "x")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 1, "valid": 1, "test": 2}
    assert data.split("test").y is None
    written = photographs(tmp_path / "y", ["train/p/1.png", "train/q/2.png", "test/q/1.png"])
    data = load_dataset("image-folder", _marked(tmp_path / "y"))
    assert data.split("train").y is not None
    assert data.split("train").y.tolist() == [0, 1]  # type: ignore[union-attr]
    assert data.split("test").y.tolist() == [1]  # type: ignore[union-attr]
    assert data.split("test").x[0].numpy().transpose(1, 2, 0).tolist() == written["test/q/1.png"].tolist()


def _marked(folder: Path, text: str = "") -> Path:
    (folder / "images.toml").write_text(text)
    return folder


@pytest.mark.parametrize("crop", ["centre", "none"])
@pytest.mark.parametrize("resize", ["bilinear", "nearest"])
def test_images_are_cropped_and_resized_as_the_table_says(crop: str, resize: str, tmp_path: Path) -> None:
    written = {f"{i}.png": photograph(tmp_path / f"{i}.png", i, (9 + i % 3, 12)) for i in range(12)}
    data = load(_marked(tmp_path, f'size = 6\ncrop = "{crop}"\nresize = "{resize}"\n'))
    expected = set()
    for x in written.values():
        image, width = Image.fromarray(x), x.shape[1]
        if crop == "centre":
            top = (12 - width) // 2
            image = image.crop((0, top, width, top + width))
        small = np.asarray(image.resize((6, 6), Image.Resampling[resize.upper()]))
        expected.add(np.ascontiguousarray(small.transpose(2, 0, 1)).tobytes())
    assert pixels_of(data) == expected
    assert data.prepared == f"size 6, crop {crop}, resize {resize}, channels 3"


def test_grey_and_turned_images(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(12)]
    for i, name in enumerate(names):
        photograph(tmp_path / name, i, mode="L")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    Image.fromarray(np.zeros((12, 9), np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
    data = load(_marked(tmp_path, "channels = 1"))
    assert data.space.shape == (1, 9, 12)
    assert sum(map(len, data.splits.values())) == 13


def _deep(path: Path) -> None:
    Image.fromarray(np.zeros((9, 12), np.uint16)).save(path)


def _bomb(path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(path)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (
        lambda d: (d / "5.png").write_bytes((d / "5.png").read_bytes()[:200]),
        r"5\.png is not a whole PNG file .*; mend or",
    ),
    "no image": (lambda d: (d / "5.png").write_bytes(b"<html>"), r"5\.png is not a whole PNG file"),
    "empty file": (lambda d: (d / "5.png").write_bytes(b""), r"5\.png is not a whole PNG file"),
    "postscript": (
        lambda d: (d / "5.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n"),
        r"5\.png is not a whole PNG file",
    ),
    "other format": (lambda d: Image.new("RGB", (12, 9)).save(d / "5.png", format="GIF"), r"5\.png is not a whole PNG"),
    "16 bits": (lambda d: _deep(d / "5.png"), r"5\.png .*more than 8 bits a channel: convert it"),
    "large": (lambda d: _bomb(d / "5.png"), r"5\.png is not a whole PNG file \("),
    "huge file": (lambda d: os.truncate(d / "5.png", 2**27), r"5\.png .*it has 134217728 bytes, more than 67108864"),
    "a pipe": (lambda d: ((d / "5.png").unlink(), os.mkfifo(d / "5.png")), r"5\.png .*not a regular file"),
    "a dead link": (lambda d: (d / "z.png").symlink_to("nowhere"), r"z\.png .*not a regular file"),
    "mixed sizes": (
        lambda d: photograph(d / "5.png", 0, (12, 10)),
        r"0\.png is 12x9 and 5\.png is 12x10; say in .*images\.toml .*: size = 64",
    ),
    "mixed depths": (lambda d: photograph(d / "a" / "x.png", 0), r"0\.png lies beside sub-folders, which are classes"),
    "not TOML": (lambda d: _marked(d, "size"), r"images\.toml is not TOML"),
    "unknown key": (lambda d: _marked(d, "sise = 3"), r"images\.toml: unknown key 'sise'; did you mean 'size'\?"),
    "bad size": (lambda d: _marked(d, "size = 0"), r"images\.toml: size = 0 should be at least 1"),
    "bad crop": (lambda d: _marked(d, "crop = 'left'"), r"crop = 'left' should be one of 'centre', 'none'"),
    "lists nothing": (
        lambda d: (d / "test.txt").write_text(""),
        r"of 12 images none is in the split 'test'; list some",
    ),
    "lists all": (
        lambda d: (d / "test.txt").write_text("\n".join(f"{i}.png" for i in range(12))),
        r"none is in the split 'train'",
    ),
    "lists another": (lambda d: (d / "test.txt").write_text("x.png"), r"test\.txt names x\.png, which is not there"),
    "lists twice": (
        lambda d: [(d / f"{split}.txt").write_text("1.png") for split in ("test", "valid")],
        r"1\.png is in both valid\.txt and test\.txt",
    ),
}


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("zipped", [False, True])
def test_what_is_wrong_is_one_line(fault: str, zipped: bool, tmp_path: Path) -> None:
    folder = tmp_path / "image-folder"
    photographs(folder, [f"{i}.png" for i in range(12)])
    spoil, says = BAD[fault]
    spoil(folder)
    if zipped:
        if fault in ("a pipe", "a dead link"):
            return
        shutil.make_archive(str(tmp_path / "image-folder"), "zip", folder)
        shutil.rmtree(folder)
    with pytest.raises(DataError, match=says) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)
    assert "<_io." not in str(error.value)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("name", ["image-folder", "tensor-file"])
def test_nothing_is_found_and_nothing_created(name: str, tmp_path: Path, vaebench: Invoke) -> None:
    get = ("data", "get", name, "--data", tmp_path)
    assert f"{name} is not under {tmp_path}: name your own" in told(vaebench(*get))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / name).mkdir()
    assert "holds no file that ends in" in told(vaebench(*get))


def test_near_misses_of_folders(tmp_path: Path, vaebench: Invoke) -> None:
    get = ("data", "get", "image-folder", "--data")
    photographs(tmp_path / "photos", ["cats/1.png", "dogs/1.png"])
    said = told(vaebench(*get, tmp_path / "photos"))
    assert "has images in cats, dogs: if these are its classes, put a file images.toml" in said
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "1.HEIC").touch()
    (tmp_path / "phone" / "images.toml").touch()
    assert "but files ending in .heic: convert them" in told(vaebench(*get, tmp_path / "phone"))
    (tmp_path / "image.tar").touch()
    assert "is neither a folder of images nor a .zip of them" in told(vaebench(*get, tmp_path / "image.tar"))
    (tmp_path / "image.zip").write_bytes(b"PK")
    assert "is not a whole zip file" in told(vaebench(*get, tmp_path / "image.zip"))


def test_a_zip_that_unpacks_to_much_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.png", bytes(image_folder.BYTES + 1))
    assert (tmp_path / "x.zip").stat().st_size < 2**20
    with pytest.raises(DataError, match=r"1\.png .*it has 67108865 bytes, more than 67108864"):
        load(tmp_path / "x.zip")


def test_the_class_of_a_row_says_how_images_were_made(
    tmp_path: Path, vaebench: Invoke, write_card: Callable[..., Path], boards: Path
) -> None:
    """A photograph's way from a folder to a table, as it is typed."""
    photographs(tmp_path / "photos", [f"{i}.png" for i in range(40)])
    _marked(tmp_path / "photos", "size = 8")
    changes = {
        "dataset": "'image-folder'",
        "training.validation": None,
        "training.epochs": "1",
        "training.batch_size": "8",
    }
    card = write_card(changes=changes | {"model.likelihood": "'discretised-logistic'"})
    data = ("--data", tmp_path / "photos")
    trained = vaebench("train", "--card", card, "--out", tmp_path / "out", *data)
    assert trained.exit_code == 0, trained.output
    options = ("--metric", "likelihood", "--set", "likelihood.samples=4", "--leaderboards", boards, "--json")
    run = vaebench("run", "--card", tmp_path / "out" / "mine.toml", *options, *data)
    assert run.exit_code == 0, run.output
    assert '"prepared": "size 8, crop centre, resize bilinear, channels 3"' in run.stdout.replace('\\"', '"')
    shown = vaebench("board", "show", "image-folder", "--leaderboards", boards)
    assert shown.exit_code == 0


def arrays(folder: Path, **values: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        np.save(folder / f"{name}.npy", value)
    return folder


X = np.random.default_rng(0).integers(0, 256, (30, 6, 5), np.uint8)


def test_arrays_of_every_layout_are_the_same_images(tmp_path: Path) -> None:
    forms = {"a": X, "b": X[:, None], "c": X[..., None], "d": X[:, None].astype(np.int64), "e": X.astype(">u2")}
    found = {}
    for name, x in forms.items():
        arrays(tmp_path / name / "tensor-file", anything=x)
        found[name] = load_dataset("tensor-file", tmp_path / name)
    save_file({"images": torch.from_numpy(X)}, tmp_path / "x.safetensors")
    found["f"] = load_dataset("tensor-file", tmp_path / "x.safetensors")
    np.save(tmp_path / "y.npy", X)
    found["g"] = load_dataset("tensor-file", tmp_path / "y.npy")
    assert len({each.fingerprint for each in found.values()}) == 1
    assert {each.space.shape for each in found.values()} == {(1, 6, 5)}
    assert found["a"].split("test").x.dtype == torch.uint8


def test_splits_and_labels_of_arrays(tmp_path: Path) -> None:
    y = np.arange(30) % 3
    arrays(tmp_path, train=X[:20], test=X[20:], train_labels=y[:20], **{"test-labels": y[20:]})
    data = load_dataset("tensor-file", tmp_path)
    assert data.split("train").x[:, 0].numpy().tolist() == X[:20].tolist()
    assert data.split("test").y is not None
    assert data.split("test").y.tolist() == y[20:].tolist()  # type: ignore[union-attr]
    whole = load_dataset("tensor-file", arrays(tmp_path / "whole", images=X, labels=y))
    for split in whole.splits.values():
        for x, label in zip(split.x, split.y if split.y is not None else (), strict=True):
            assert label == y[[x[0].tolist() == each.tolist() for each in X].index(True)]


def test_real_numbers_are_a_density(tmp_path: Path) -> None:
    arrays(tmp_path, images=X / 255)
    (tmp_path / "tensors.toml").write_text('measure = "density"\n')
    space = load_dataset("tensor-file", tmp_path).space
    assert (space.shape, space.levels, space.measure) == ((1, 6, 5), None, "density")


@pytest.mark.parametrize(
    ("values", "table", "says"),
    [
        (
            {"images": X / 255},
            "",
            r"real numbers, between 0 and 1, not integers 0\.\.255: save its pixels as uint8, or",
        ),
        ({"images": X.astype(int) * 2}, "", r"lies in \[\d, \d+\], outside 0\.\.255; say levels"),
        ({"images": X}, "levels = 16", r"lies in \[0, 255\], outside 0\.\.15"),
        ({"images": X.reshape(30, 30)}, "", r"is of shape \(30, 30\), not \(N, H, W\)"),
        ({"images": X.reshape(10, 3, 30, 1)}, "", r'say layout = "NCHW" or "NHWC" in tensors\.toml'),
        ({"images": X.reshape(30, 5, 3, 2)}, "", r'say layout = "NCHW" or "NHWC"'),
        ({"images": X, "lables": X}, "", r"an array is called 'lables', not one of train"),
        ({"images": X, "test": X}, "", r"holds 'images' and splits beside them"),
        ({"train": X}, "", r"holds no array 'test'"),
        ({"train": X, "test": X[:, :, :4]}, "", r"images of several shapes, \(1, 6, 4\) and \(1, 6, 5\)"),
        ({"images": X, "labels": np.arange(29)}, "", r"labels are .* of shape \(29,\), not integers of shape \(30,\)"),
        ({"images": np.array([object()] * 3)}, "", r"images\.npy is not a whole \.npy file"),
        ({"images": np.array(["a"] * 3)}, "", r"it holds <U1"),
        ({"images": X[:0]}, "", r"images"),
        ({"images": X[:1]}, "", r"of 1 images none is in the split 'train'"),
        ({"images": np.full((9, 4, 4), np.nan)}, 'measure = "density"', r"must be finite"),
    ],
)
def test_what_is_wrong_with_an_array_is_one_line(values: dict[str, Any], table: str, says: str, tmp_path: Path) -> None:
    arrays(tmp_path, **values)
    (tmp_path / "tensors.toml").write_text(table)
    with pytest.raises(DataError, match=says) as error:
        load_dataset("tensor-file", tmp_path)
    assert "\n" not in str(error.value)


def test_damaged_arrays(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.save(content, X)
    for name, part in (("a.npy", content.getvalue()[:200]), ("b.npy", b""), ("c.safetensors", b"\x08\0\0\0\0\0\0\0{")):
        (tmp_path / name).write_bytes(part)
        with pytest.raises(DataError, match=rf"{name} is not a whole"):
            load_dataset("tensor-file", tmp_path / name)
    (tmp_path / "d.pt").touch()
    with pytest.raises(DataError, match=r"d\.pt does not end in \.npy or \.safetensors"):
        load_dataset("tensor-file", tmp_path / "d.pt")
