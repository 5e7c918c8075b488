"""Downloads, from a server on this machine: what is fetched, what goes to stdout (nothing), how failures read."""

import hashlib
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from torchvision.datasets import CIFAR10, EMNIST, MNIST, SVHN, FashionMNIST, Omniglot

from vaebench.core.data import Source
from vaebench.datasets import celeba64, cifar10, emnist_letters, fashion_mnist, mnist, mnist_static, omniglot, svhn

Array = NDArray[np.uint8]
Served = tuple[Path, str]
Md5 = Callable[[Path], str]


def fetched(source: Source, root: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """The fingerprint of what a download gives, which a second load without download gives too; stdout stays empty."""
    unpinned = replace(source, fingerprint=None)
    first = unpinned.load(root, download=True).fingerprint
    assert unpinned.load(root).fingerprint == first
    assert capfd.readouterr().out == ""
    return first


def fails(source: Source, root: Path, match: str) -> None:
    with pytest.raises(FileNotFoundError, match=match) as error:
        source.load(root, download=True)
    message = str(error.value)
    assert message.startswith(f"{source.name} could not be downloaded to {root}: ")
    assert "\n" not in message


@pytest.mark.parametrize(("source", "layout"), [(mnist.plugin, MNIST), (fashion_mnist.plugin, FashionMNIST)])
def test_mnist(
    source: Source,
    layout: type[MNIST],
    tmp_path: Path,
    served: Served,
    refused: str,
    mnist_files: dict[str, Array],
    write_idx: Callable[[Path, Array], None],
    md5: Md5,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, address = served
    monkeypatch.setattr(layout, "mirrors", [f"{refused}/"])
    fails(source, tmp_path / "data", "Error downloading train-images-idx3-ubyte.gz.*refused.*MNIST/raw/train-images")
    monkeypatch.setattr(layout, "mirrors", [f"{refused}/", f"{address}/"])
    for file, array in mnist_files.items():
        write_idx(folder / f"{file}.gz", array)
    fails(source, tmp_path / "data", "File not found or corrupted")
    monkeypatch.setattr(layout, "resources", [(file, md5(folder / file)) for file, _ in layout.resources])
    fetched(source, tmp_path / "data", capfd)
    (tmp_path / "data" / layout.__name__ / "raw/t10k-labels-idx1-ubyte").unlink()
    fetched(source, tmp_path / "data", capfd)


def test_emnist_letters(
    tmp_path: Path,
    served: Served,
    mnist_files: dict[str, Array],
    write_idx: Callable[[Path, Array], None],
    md5: Md5,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, address = served
    with zipfile.ZipFile(folder / "gzip.zip", "w") as archive:
        for file in (emnist_letters.IMAGES, emnist_letters.LABELS):
            kind = Path(file).name.removeprefix("emnist-letters-test-")
            write_idx(tmp_path / "file.gz", mnist_files[f"t10k-{kind}"])
            archive.write(tmp_path / "file.gz", f"gzip/{Path(file).name}.gz")
    monkeypatch.setattr(EMNIST, "url", f"{address}/gzip.zip")
    monkeypatch.setattr(EMNIST, "md5", md5(folder / "gzip.zip"))
    fetched(emnist_letters.plugin, tmp_path / "data", capfd)


def test_cifar10(
    tmp_path: Path,
    served: Served,
    write_cifar: Callable[[Path], dict[str, Array]],
    md5: Md5,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, address = served
    write_cifar(tmp_path / "made")
    with tarfile.open(folder / CIFAR10.filename, "w:gz") as archive:
        archive.add(tmp_path / "made" / CIFAR10.base_folder, CIFAR10.base_folder)
    monkeypatch.setattr(CIFAR10, "url", f"{address}/{CIFAR10.filename}")
    fails(cifar10.plugin, tmp_path / "data", "File not found or corrupted")
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(folder / CIFAR10.filename))
    fetched(cifar10.plugin, tmp_path / "data", capfd)
    (tmp_path / "data" / CIFAR10.base_folder / "batches.meta").unlink()
    fetched(cifar10.plugin, tmp_path / "data", capfd)


def test_svhn(
    tmp_path: Path,
    served: Served,
    write_svhn: Callable[[Path], dict[str, Array]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, address = served
    write_svhn(folder)
    local = {split: [f"{address}/{file}", file, md5] for split, (_, file, md5) in SVHN.split_list.items()}
    monkeypatch.setattr(SVHN, "split_list", local)
    fetched(svhn.plugin, tmp_path / "data", capfd)
    assert not (tmp_path / "data" / SVHN.split_list["extra"][1]).exists()


def test_omniglot(
    tmp_path: Path,
    served: Served,
    drawings: dict[str, Array],
    write_pngs: Callable[[Path, dict[str, Array]], None],
    md5: Md5,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, address = served
    write_pngs(tmp_path / "made", drawings)
    for name in Omniglot.zips_md5:
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            for drawing in drawings:
                if drawing.startswith(name):
                    archive.write(tmp_path / "made" / drawing, drawing)
    monkeypatch.setattr(Omniglot, "download_url_prefix", address)
    monkeypatch.setattr(Omniglot, "zips_md5", {name: md5(folder / f"{name}.zip") for name in Omniglot.zips_md5})
    fetched(omniglot.plugin, tmp_path / "data", capfd)
    (tmp_path / "data/omniglot-py/images_evaluation").rename(tmp_path / "moved")
    fetched(omniglot.plugin, tmp_path / "data", capfd)


def test_static_mnist(
    tmp_path: Path,
    served: Served,
    refused: str,
    write_amat: Callable[[Path], dict[str, Array]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, address = served
    monkeypatch.setattr(mnist_static, "ADDRESS", refused)
    fails(mnist_static.plugin, tmp_path / "data", "refused.*put there by hand: BinaryMNIST/binarized_mnist_train.amat")
    monkeypatch.setattr(mnist_static, "ADDRESS", f"{address}/files")
    write_amat(folder / "files")
    fails(mnist_static.plugin, tmp_path / "data", "has SHA-1 .*, not cf70514ec5f481e54ad3eb0e6c03c83326ff96f8")
    assert not (tmp_path / "data").exists()
    sums = {
        split: hashlib.sha1((folder / f"files/binarized_mnist_{split}.amat").read_bytes()).hexdigest()
        for split in mnist_static.SHA1
    }
    monkeypatch.setattr(mnist_static, "SHA1", sums)
    first = fetched(mnist_static.plugin, tmp_path / "data", capfd)
    (tmp_path / "data/BinaryMNIST/binarized_mnist_valid.amat").unlink()
    assert fetched(mnist_static.plugin, tmp_path / "data", capfd) == first


def test_celeba64_says_what_its_download_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gdown", None)
    fails(celeba64.plugin, tmp_path, "'gdown' is required")
