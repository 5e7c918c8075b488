"""Small files in the official formats, written as their publishers write them."""

import gzip
import hashlib
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import CIFAR10, SVHN, CelebA

Array = NDArray[np.uint8]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def idx_bytes(array: Array) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def md5() -> Callable[[Path], str]:
    return md5_of


@pytest.fixture
def write_idx() -> Callable[[Path, Array], None]:
    def write(path: Path, array: Array) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = idx_bytes(array)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)

    return write


@pytest.fixture
def mnist_files(rng: np.random.Generator) -> dict[str, Array]:
    """What the four IDX files of MNIST and Fashion-MNIST hold, by name: 6 images to train, 4 to test."""
    sizes = {"train": 6, "t10k": 4}
    images = {f"{p}-images-idx3-ubyte": rng.integers(0, 256, (n, 28, 28), np.uint8) for p, n in sizes.items()}
    labels = {f"{p}-labels-idx1-ubyte": rng.integers(0, 10, n, np.uint8) for p, n in sizes.items()}
    return images | labels


@pytest.fixture
def write_cifar(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], dict[str, Array]]:
    """Writes the batches of CIFAR-10, three images in each, and makes their MD5 sums the official ones."""

    def write(root: Path) -> dict[str, Array]:
        folder = root / "cifar-10-batches-py"
        folder.mkdir(parents=True)
        x = {file: rng.integers(0, 256, (3, 3 * 32 * 32), np.uint8) for file, _ in CIFAR10.train_list}
        x |= {file: rng.integers(0, 256, (3, 3 * 32 * 32), np.uint8) for file, _ in CIFAR10.test_list}
        for file, data in x.items():
            (folder / file).write_bytes(pickle.dumps({"data": data, "labels": [7, 8, 9]}, protocol=2))
        (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}, protocol=2))
        for name in ("train_list", "test_list"):
            monkeypatch.setattr(CIFAR10, name, [[file, md5_of(folder / file)] for file, _ in getattr(CIFAR10, name)])
        monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5_of(folder / "batches.meta")})
        return x

    return write


@pytest.fixture
def write_svhn(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], dict[str, Array]]:
    """Writes SVHN's two `.mat` files, labels 1..10 where 10 is the digit 0, and makes their MD5 sums official."""
    from scipy.io import savemat

    def write(root: Path) -> dict[str, Array]:
        root.mkdir(parents=True, exist_ok=True)
        x, official = {}, dict(SVHN.split_list)
        for split, size in (("train", 5), ("test", 3)):
            address, file, _ = SVHN.split_list[split]
            x[split] = rng.integers(0, 256, (32, 32, 3, size), np.uint8)
            savemat(root / file, {"X": x[split], "y": np.array([[10], [1], [2], [3], [4]][:size], np.uint8)})
            official[split] = [address, file, md5_of(root / file)]
        monkeypatch.setattr(SVHN, "split_list", official)
        return x

    return write


@pytest.fixture
def write_celeba(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Writes 4, 2 and 3 aligned faces and CelebA's partition file, whose MD5 sum becomes the official one."""

    def write(root: Path) -> None:
        faces, partition = root / "celeba/img_align_celeba", root / "celeba/list_eval_partition.txt"
        faces.mkdir(parents=True)
        rows = [(f"{number:06}.jpg", part) for number, part in enumerate((0, 0, 0, 0, 1, 1, 2, 2, 2), start=1)]
        for name, _ in rows:
            Image.fromarray(rng.integers(0, 256, (218, 178, 3), np.uint8)).save(faces / name, quality=95)
        partition.write_text("".join(f"{name} {part}\n" for name, part in rows))
        official = [(i, md5_of(partition) if file == partition.name else m, file) for i, m, file in CelebA.file_list]
        monkeypatch.setattr(CelebA, "file_list", official)

    return write


@pytest.fixture
def drawings(rng: np.random.Generator) -> dict[str, Array]:
    """Omniglot drawings (105, 105), 1 = ink, by official name: two characters to train, one to test."""
    folders = ("images_background/Latin/character02/0002", "images_background/Greek/character01/0001")
    names = [f"{folder}_{k:02}.png" for folder in (*folders, "images_evaluation/ULOG/character01/0965") for k in (1, 2)]
    return {name: rng.integers(0, 2, (105, 105), np.uint8) for name in names}


@pytest.fixture
def write_pngs() -> Callable[[Path, dict[str, Array]], None]:
    def write(folder: Path, drawings: dict[str, Array]) -> None:
        for name, ink in drawings.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(255 * (1 - ink)).convert("1").save(folder / name)

    return write


@pytest.fixture
def write_npz() -> Callable[[Path, dict[str, Array]], None]:
    def write(path: Path, drawings: dict[str, Array]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        bits = np.packbits(np.stack(list(drawings.values())).reshape(len(drawings), -1), axis=1)
        np.savez(path, ink_bits=bits, path=np.array([name.encode() for name in drawings]))

    return write


@pytest.fixture
def write_amat(rng: np.random.Generator) -> Callable[[Path], dict[str, Array]]:
    def write(folder: Path) -> dict[str, Array]:
        folder.mkdir(parents=True)
        x = {
            split: rng.integers(0, 2, (size, 784), np.uint8)
            for split, size in (("train", 4), ("valid", 3), ("test", 2))
        }
        for split, rows in x.items():
            lines = "".join(" ".join(map(str, row)) + "\n" for row in rows.tolist())
            (folder / f"binarized_mnist_{split}.amat").write_text(lines)
        return x

    return write


@pytest.fixture
def refused() -> str:
    """An address of this machine at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which its files can be downloaded from this machine."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
