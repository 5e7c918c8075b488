"""Small files in the official formats come back as written; a bad file is one clear error that names it."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import CIFAR10, MNIST, SVHN
from torchvision.transforms import Resize

from vaebench.core.data import Dataset, Source, fingerprint
from vaebench.datasets import (
    celeba64,
    cifar10,
    emnist_letters,
    fashion_mnist,
    fashion_mnist_32,
    mnist,
    mnist_emnist,
    mnist_grey,
    mnist_static,
    notmnist,
    omniglot,
    svhn,
)

Array = NDArray[np.uint8]
WriteIdx = Callable[[Path, Array], None]
WriteDrawings = Callable[[Path, dict[str, Array]], None]
IDX = [(mnist.plugin, "MNIST"), (mnist_grey.plugin, "MNIST"), (fashion_mnist.plugin, "FashionMNIST")]


def load(source: Source, root: Path) -> Dataset:
    return replace(source, fingerprint=None).load(root)


def fails(source: Source, root: Path, file: str, match: str) -> None:
    """Assert that loading is one line that matches, names `file` under `root`, and says how to replace it."""
    with pytest.raises(ValueError, match=match) as error:
        load(source, root)
    message = str(error.value)
    assert "\n" not in message
    assert str(root / file) in message
    assert message.endswith(f"remove it and run: vaebench data get {source.name} --data {root}")


@pytest.mark.parametrize(("source", "folder"), IDX)
def test_idx_files(
    source: Source, folder: str, tmp_path: Path, mnist_files: dict[str, Array], write_idx: WriteIdx
) -> None:
    for file, array in mnist_files.items():
        write_idx(tmp_path / folder / "raw" / file, array)
    data = load(source, tmp_path)
    for split, part in (("train", "train"), ("test", "t10k")):
        found = data.split(split)
        assert found.x[:, 0].numpy().tolist() == mnist_files[f"{part}-images-idx3-ubyte"].tolist()
        assert found.y is not None
        assert found.y.dtype == torch.int64
        assert found.y.tolist() == mnist_files[f"{part}-labels-idx1-ubyte"].tolist()
        assert found.binarised == (source.name == "mnist")
        source.space.check(found.take(torch.arange(3)).x)


def test_resizing_is_torchvisions(tmp_path: Path, mnist_files: dict[str, Array], write_idx: WriteIdx) -> None:
    for file, array in mnist_files.items():
        write_idx(tmp_path / "FashionMNIST" / "raw" / file, array)
    found = load(fashion_mnist_32.plugin, tmp_path).split("test")
    images = [Resize((32, 32))(Image.fromarray(image)) for image in mnist_files["t10k-images-idx3-ubyte"]]
    assert found.x[:, 0].tolist() == [np.asarray(image).tolist() for image in images]
    assert found.y is not None


def test_the_pin_refuses_other_content(tmp_path: Path, mnist_files: dict[str, Array], write_idx: WriteIdx) -> None:
    for file, array in mnist_files.items():
        write_idx(tmp_path / "MNIST/raw" / file, array)
    with pytest.raises(ValueError, match=r"'mnist'.*has content"):
        mnist.plugin.load(tmp_path)


@pytest.mark.parametrize(("source", "folder"), IDX)
@pytest.mark.parametrize(
    ("file", "spoil", "match"),
    [
        ("train-images-idx3-ubyte", lambda b: b[:-1], "holds 4703 bytes, not the 4704 of 6x28x28"),
        ("train-images-idx3-ubyte", lambda b: b + b"0", "holds 4705 bytes, not the 4704 of 6x28x28"),
        ("t10k-images-idx3-ubyte", lambda b: b[:7], "is not an IDX file of unsigned bytes in 3 dim"),
        ("t10k-images-idx3-ubyte", lambda b: b"", "is not an IDX file of unsigned bytes in 3 dim"),
        (
            "t10k-labels-idx1-ubyte",
            lambda b: b"<html>not found</html>",
            "is not an IDX file of unsigned bytes in 1 dim",
        ),
        ("t10k-labels-idx1-ubyte", lambda b: b[:7] + b"\3" + b[8:-1], "holds 3 labels for 4 images"),
        ("train-images-idx3-ubyte", lambda b: b[:11] + b"\x0e" + b[12:15] + b"\x38" + b[16:], "images of 14x56"),
    ],
)
def test_bad_idx_files(
    source: Source,
    folder: str,
    file: str,
    spoil: Callable[[bytes], bytes],
    match: str,
    tmp_path: Path,
    mnist_files: dict[str, Array],
    write_idx: WriteIdx,
) -> None:
    raw = tmp_path / folder / "raw"
    for name, array in mnist_files.items():
        write_idx(raw / name, array)
    (raw / file).write_bytes(spoil((raw / file).read_bytes()))
    fails(source, tmp_path, f"{folder}/raw/{file}", match)


def test_one_absent_file_is_named(tmp_path: Path, mnist_files: dict[str, Array], write_idx: WriteIdx) -> None:
    for file, array in mnist_files.items():
        write_idx(tmp_path / "MNIST/raw" / file, array)
    (tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="mnist without MNIST/raw/t10k-labels-idx1-ubyte is under"):
        load(mnist.plugin, tmp_path)


NEAR = {
    "Kaggle's dots": ("MNIST/raw/{dots}", "", "there is MNIST/raw/train-images.idx3-ubyte, and MNIST/raw/train-"),
    "Kaggle's folders": (
        "{dots}/{dots}",
        "",
        "there is train-images.idx3-ubyte/train-images.idx3-ubyte, and MNIST/raw",
    ),
    "flat": (
        "{name}",
        "",
        "there is train-images-idx3-ubyte, and MNIST/raw/train-images-idx3-ubyte was expected; move",
    ),
    "flat and packed": (
        "{name}.gz",
        "",
        "there is train-images-idx3-ubyte.gz, and MNIST/raw/train-images-idx3-ubyte.gz was",
    ),
    "too deep": ("MNIST/raw/{name}", "MNIST", "it is one of its folders, and the files are under {root}; run with"),
    "deeper": ("MNIST/raw/{name}", "MNIST/raw", "it is one of its folders, and the files are under {root}; run with"),
    "deeper and packed": ("MNIST/raw/{name}.gz", "MNIST/raw", "the files are under {root}; run with --data {root}"),
    "too high": ("data/MNIST/raw/{name}", "", "the files are under {root}/data; run with --data {root}/data"),
}


@pytest.mark.parametrize("case", NEAR)
def test_near_misses_are_explained_and_nothing_is_fetched(
    case: str, tmp_path: Path, mnist_files: dict[str, Array], write_idx: WriteIdx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MNIST, "download", lambda self: pytest.fail("it was fetched"))
    place, given, says = NEAR[case]
    for name, array in mnist_files.items():
        write_idx(tmp_path / place.format(name=name, dots=name.replace("-idx", ".idx")), array)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileNotFoundError) as error:
        mnist.plugin.load(tmp_path / given, download=True)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"mnist is not under {tmp_path / given}: ")
    assert says.format(root=tmp_path) in message
    assert sorted(tmp_path.rglob("*")) == before


def test_files_of_a_sibling_are_no_near_miss(
    tmp_path: Path, mnist_files: dict[str, Array], write_idx: WriteIdx
) -> None:
    for name, array in mnist_files.items():
        write_idx(tmp_path / "FashionMNIST/raw" / name, array)
    with pytest.raises(FileNotFoundError, match=r"mnist is not under .*; run: vaebench data get mnist"):
        mnist.plugin.load(tmp_path)


def test_a_gz_is_read_however_it_was_compressed(
    tmp_path: Path, mnist_files: dict[str, Array], write_idx: WriteIdx
) -> None:
    for name, array in mnist_files.items():
        write_idx(tmp_path / "plain/MNIST/raw" / name, array)
        write_idx(tmp_path / "packed/MNIST/raw" / f"{name}.gz", array)
    plain, packed = (load(mnist.plugin, tmp_path / name) for name in ("plain", "packed"))
    assert plain.fingerprint == packed.fingerprint
    file = "MNIST/raw/train-images-idx3-ubyte.gz"
    whole = (tmp_path / "packed" / file).read_bytes()
    for content in (whole[:-9], b"", b"no gzip"):
        (tmp_path / "packed" / file).write_bytes(content)
        fails(mnist.plugin, tmp_path / "packed", file, "is not ")


def test_emnist_letters_are_turned_upright_once(
    tmp_path: Path,
    mnist_files: dict[str, Array],
    write_idx: WriteIdx,
    monkeypatch: pytest.MonkeyPatch,
    md5: Callable[[Path], str],
) -> None:
    upright = mnist_files["t10k-images-idx3-ubyte"]
    write_idx(tmp_path / emnist_letters.LABELS, np.array([1, 2, 25, 26], np.uint8))
    write_idx(tmp_path / emnist_letters.IMAGES, np.ascontiguousarray(upright.transpose(0, 2, 1)))
    official = load(emnist_letters.plugin, tmp_path)
    assert official.split("test").x[:, 0].numpy().tolist() == upright.tolist()
    assert official.split("test").y is not None
    assert set(official.splits) == {"test"}
    write_idx(tmp_path / emnist_letters.IMAGES, upright)
    assert load(emnist_letters.plugin, tmp_path).fingerprint != official.fingerprint
    monkeypatch.setattr(emnist_letters, "UPRIGHT_MD5", md5(tmp_path / emnist_letters.IMAGES))
    assert load(emnist_letters.plugin, tmp_path).fingerprint == official.fingerprint


def test_mnist_emnist_appends_letters_labelled_foreign(
    tmp_path: Path, mnist_files: dict[str, Array], write_idx: WriteIdx, rng: np.random.Generator
) -> None:
    for file, array in mnist_files.items():
        write_idx(tmp_path / "MNIST/raw" / file, array)
    with pytest.raises(FileNotFoundError, match=r"mnist-emnist is not under .*; run: vaebench data get mnist-emnist"):
        load(mnist_emnist.plugin, tmp_path)
    drawn = rng.integers(0, 256, (1200, 28, 28), np.uint8)
    write_idx(tmp_path / emnist_letters.IMAGES, drawn)
    write_idx(tmp_path / emnist_letters.LABELS, rng.integers(1, 27, 1200, np.uint8))
    found = load(mnist_emnist.plugin, tmp_path)
    train = found.split("train")
    assert train.y is not None
    assert train.binarised
    assert found.split("test").binarised
    assert train.y[:6].tolist() == mnist_files["train-labels-idx1-ubyte"].tolist()
    assert train.x[:6, 0].numpy().tolist() == mnist_files["train-images-idx3-ubyte"].tolist()
    assert train.y[6:].tolist() == [-1] * 1000
    letters = {x.tobytes() for x in train.x[6:, 0].numpy()}
    assert len(letters) == 1000
    assert letters <= {np.ascontiguousarray(x.T).tobytes() for x in drawn}


def test_notmnist(tmp_path: Path, mnist_files: dict[str, Array], write_idx: WriteIdx) -> None:
    with pytest.raises(FileNotFoundError, match=r"t10k-images-idx3-ubyte and has no download; take .* put it there"):
        notmnist.plugin.load(tmp_path, download=True)
    for file in (notmnist.IMAGES, notmnist.LABELS):
        write_idx(tmp_path / file, mnist_files[Path(file).name])
    found = load(notmnist.plugin, tmp_path).split("test")
    assert found.x[:, 0].numpy().tolist() == mnist_files["t10k-images-idx3-ubyte"].tolist()


def test_static_mnist(tmp_path: Path, write_amat: Callable[[Path], dict[str, Array]]) -> None:
    written = write_amat(tmp_path / "BinaryMNIST")
    data = load(mnist_static.plugin, tmp_path)
    assert list(data.splits) == ["train", "valid", "test"]
    for name, rows in written.items():
        assert data.split(name).y is None
        assert data.split(name).x.flatten(1).numpy().tolist() == rows.tolist()


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda b: b[:-5], "is not a whole number of lines of 784 pixels"),
        (lambda b: b"", "is not a whole number of lines of 784 pixels"),
        (lambda b: b"2" + b[1:], "is not lines of 784 digits 0 or 1"),
        (lambda b: b[2:] + b[:2], "is not lines of 784 digits 0 or 1"),
        (lambda b: b.replace(b" ", b","), "is not lines of 784 digits 0 or 1"),
    ],
)
def test_bad_static_mnist(
    spoil: Callable[[bytes], bytes], match: str, tmp_path: Path, write_amat: Callable[[Path], dict[str, Array]]
) -> None:
    write_amat(tmp_path / "BinaryMNIST")
    file = tmp_path / "BinaryMNIST/binarized_mnist_valid.amat"
    file.write_bytes(spoil(file.read_bytes()))
    fails(mnist_static.plugin, tmp_path, "BinaryMNIST/binarized_mnist_valid.amat", match)


def test_cifar10(tmp_path: Path, write_cifar: Callable[[Path], dict[str, Array]]) -> None:
    written = write_cifar(tmp_path)
    data = load(cifar10.plugin, tmp_path)
    train = np.concatenate([written[f"data_batch_{k}"] for k in range(1, 6)])
    assert data.split("train").x.flatten(1).numpy().tolist() == train.tolist()
    assert data.split("test").x.flatten(1).numpy().tolist() == written["test_batch"].tolist()
    assert data.split("test").y is not None
    assert data.split("train").y.tolist() == [7, 8, 9] * 5


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return pytest.fail, ("the foreign pickle was opened",)


@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_foreign_pickle_is_never_opened(
    file: str, tmp_path: Path, write_cifar: Callable[[Path], dict[str, Array]]
) -> None:
    write_cifar(tmp_path)
    (tmp_path / CIFAR10.base_folder / file).write_bytes(pickle.dumps(Bomb()))
    fails(cifar10.plugin, tmp_path, f"{CIFAR10.base_folder}/{file}", "is not the official file, whose MD5 is")


def test_svhn(tmp_path: Path, write_svhn: Callable[[Path], dict[str, Array]]) -> None:
    written = write_svhn(tmp_path)
    data = load(svhn.plugin, tmp_path)
    assert set(data.splits) == {"train", "test"}
    for name, x in written.items():
        assert data.split(name).x.numpy().tolist() == x.transpose(3, 2, 0, 1).tolist()
    assert data.split("train").y is not None
    assert data.split("train").y.tolist() == [0, 1, 2, 3, 4]
    (tmp_path / SVHN.split_list["test"][1]).write_bytes((tmp_path / "test_32x32.mat").read_bytes()[:-9])
    fails(svhn.plugin, tmp_path, "test_32x32.mat", "is not the official file, whose MD5 is")


def test_omniglot_is_the_same_by_both_routes(
    tmp_path: Path, drawings: dict[str, Array], write_pngs: WriteDrawings, write_npz: WriteDrawings
) -> None:
    write_pngs(tmp_path / "a/omniglot-py", drawings)
    write_npz(tmp_path / "b/omniglot/omniglot_105.npz", drawings)
    write_npz(tmp_path / "c/omniglot/omniglot_105.npz", dict(reversed(drawings.items())))
    a, b, c = (load(omniglot.plugin, tmp_path / route) for route in "abc")
    assert a.fingerprint == b.fingerprint == c.fingerprint
    for name, labels in (("train", [0, 0, 1, 1]), ("test", [964, 964])):
        for other in (b, c):
            assert other.split(name).x.equal(a.split(name).x)
            assert a.split(name).y is not None
            assert other.split(name).y.tolist() == labels == a.split(name).y.tolist()


def test_omniglot_is_averaged_over_areas(rng: np.random.Generator) -> None:
    ink = rng.integers(0, 2, (3, 105, 105), np.uint8)
    ink[0], ink[1] = 0, 1
    found = omniglot.reduce(ink)
    share = np.kron(ink, np.ones((1, 4, 4))).reshape(3, 28, 15, 28, 15).mean(axis=(2, 4))
    assert found.dtype == torch.uint8
    assert found[0].max() == 0
    assert found[1].min() == 255
    assert found[:, 0].numpy().tolist() == np.floor(share * 255 + 0.5).tolist()


def test_bad_omniglot_pack(tmp_path: Path, drawings: dict[str, Array], write_npz: WriteDrawings) -> None:
    path = tmp_path / omniglot.PACKED
    write_npz(path, drawings)
    whole = path.read_bytes()
    for content in (whole[:-40], whole[:3000], b"", b"hello", pickle.dumps([1])):
        path.write_bytes(content)
        fails(omniglot.plugin, tmp_path, omniglot.PACKED, "is not an npz file with ink_bits and path")
    np.savez(path, ink_bits=np.array([Bomb()], object), path=np.array([b"a"]))
    fails(omniglot.plugin, tmp_path, omniglot.PACKED, "is not an npz file with ink_bits and path")
    np.savez(path, other=np.zeros(3))
    fails(omniglot.plugin, tmp_path, omniglot.PACKED, "is not an npz file with ink_bits and path")
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    fails(omniglot.plugin, tmp_path, omniglot.PACKED, "is not an npz file with ink_bits and path")
    np.savez(path, ink_bits=np.zeros((2, 5), np.uint8), path=np.array([b"a", b"b"]))
    fails(omniglot.plugin, tmp_path, omniglot.PACKED, r"holds uint8 ink_bits \(2, 5\)")


def test_bad_omniglot_drawings(tmp_path: Path, drawings: dict[str, Array], write_pngs: WriteDrawings) -> None:
    write_pngs(tmp_path / "omniglot-py", drawings)
    name = next(iter(drawings))
    file = tmp_path / "omniglot-py" / name
    content = file.read_bytes()
    for spoilt in (content[: len(content) // 2], b"", b"GIF89a"):
        file.write_bytes(spoilt)
        fails(omniglot.plugin, tmp_path, f"omniglot-py/{name}", "is not a whole PNG file")
    Image.fromarray(np.full((105, 105), 7, np.uint8)).save(file)
    fails(omniglot.plugin, tmp_path, f"omniglot-py/{name}", "is not a black-and-white drawing of 105x105")
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(file)
    fails(omniglot.plugin, tmp_path, f"omniglot-py/{name}", "is 28x28, not 105x105")
    file.rename(file.with_name("drawing.png"))
    write_pngs(tmp_path / "omniglot-py" / name.split("/")[0], {"x/y/drawing.png": drawings[name]})
    file.with_name("drawing.png").unlink()
    with pytest.raises(
        ValueError, match=r"omniglot under .* holds images_background/x/y/drawing.png; remove it and run"
    ):
        load(omniglot.plugin, tmp_path)


def test_omniglot_without_a_set(tmp_path: Path, drawings: dict[str, Array], write_npz: WriteDrawings) -> None:
    write_npz(tmp_path / omniglot.PACKED, {name: ink for name, ink in drawings.items() if "background" in name})
    with pytest.raises(ValueError, match=r"omniglot under .* of both sets"):
        load(omniglot.plugin, tmp_path)


def test_celeba64(tmp_path: Path, write_celeba: Callable[[Path], None], capfd: pytest.CaptureFixture[str]) -> None:
    write_celeba(tmp_path)
    faces = tmp_path / celeba64.FACES
    data = load(celeba64.plugin, tmp_path)
    assert capfd.readouterr().out == ""
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 4, "valid": 2, "test": 3}
    with Image.open(faces / "000006.jpg") as image:
        small = image.crop((15, 40, 163, 188)).resize((64, 64), Image.Resampling.BILINEAR)
    assert data.split("valid").x[1].permute(1, 2, 0).numpy().tolist() == np.asarray(small).tolist()
    assert data.split("valid").y is None
    assert len(list((tmp_path / "celeba").glob("*.npy"))) == 3
    assert not list((tmp_path / "celeba").glob("*partial"))


def test_celeba64_is_cached_until_the_source_changes(
    tmp_path: Path, write_celeba: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_celeba(tmp_path)
    first = load(celeba64.plugin, tmp_path)
    caches = set((tmp_path / "celeba").glob("*.npy"))
    with monkeypatch.context() as patched:
        patched.delattr(celeba64, "_decode")
        assert load(celeba64.plugin, tmp_path).fingerprint == first.fingerprint
    face = tmp_path / celeba64.FACES / "000005.jpg"
    Image.fromarray(np.zeros((218, 178, 3), np.uint8)).save(face)
    second = load(celeba64.plugin, tmp_path)
    assert second.split("valid").x[0].max() == 0
    assert second.split("train").x.equal(first.split("train").x)
    assert len(caches - set((tmp_path / "celeba").glob("*.npy"))) == 1, "the stale cache is removed"
    stale = next(iter((tmp_path / "celeba").glob("celeba64-valid-*.npy")))
    for content in (stale.read_bytes()[:-1], b"", b"foreign"):
        stale.write_bytes(content)
        fails(celeba64.plugin, tmp_path, f"celeba/{stale.name}", "is not a whole npy file")


def test_celeba64_without_room_for_a_cache(
    tmp_path: Path,
    write_celeba: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_celeba(tmp_path)

    def full(path: Path, x: Array) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(celeba64, "_save", full)
        uncached = load(celeba64.plugin, tmp_path)
    assert "not cached" in caplog.text
    assert not list((tmp_path / "celeba").glob("*.npy"))
    assert load(celeba64.plugin, tmp_path).fingerprint == uncached.fingerprint == fingerprint(uncached.splits)


def test_celeba64_in_part(tmp_path: Path, write_celeba: Callable[[Path], None]) -> None:
    write_celeba(tmp_path)
    faces = tmp_path / celeba64.FACES
    for number in range(1, 5):
        (faces / f"{number:06}.jpg").unlink()
    assert set(load(celeba64.plugin, tmp_path).splits) == {"valid", "test"}
    (faces / "000008.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"celeba64: 1 of 3 images of test are not in .*, 000008.jpg first"):
        load(celeba64.plugin, tmp_path)
    for face in faces.iterdir():
        face.unlink()
    with pytest.raises(FileNotFoundError, match=r"celeba64: .* holds no image; run: vaebench data get celeba64"):
        load(celeba64.plugin, tmp_path)


def test_bad_celeba64(tmp_path: Path, write_celeba: Callable[[Path], None]) -> None:
    write_celeba(tmp_path)
    file = f"{celeba64.FACES}/000007.jpg"
    content = (tmp_path / file).read_bytes()
    for spoilt in (content[: len(content) // 2], b"", b"<html>"):
        (tmp_path / file).write_bytes(spoilt)
        fails(celeba64.plugin, tmp_path, file, "is not a whole JPEG file")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / file)
    fails(celeba64.plugin, tmp_path, file, "is 64x64, not 178x218")
    partition = tmp_path / celeba64.PARTITION
    partition.write_text("".join(partition.read_text().splitlines(keepends=True)[:-2]))
    fails(celeba64.plugin, tmp_path, celeba64.PARTITION, "is not the official file, whose MD5 is")
