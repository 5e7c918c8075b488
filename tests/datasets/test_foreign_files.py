"""What is called an image, an archive or a table is looked at before it is opened, and opened as that alone."""

import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image, ImageFile

from vaebench.core.data import Source, Space, Split
from vaebench.core.errors import DataError
from vaebench.core.registry import load_dataset
from vaebench.datasets import celeba64, cifar10, mnist, mnist_static, omniglot, svhn

Array = NDArray[np.uint8]
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 105 105\n%%EndComments\nshowpage\n%%EOF\n"


def fails(source: Source, root: Path, match: str) -> None:
    with pytest.raises(ValueError, match=match) as error:
        replace(source, fingerprint=None).load(root)
    assert "\n" not in str(error.value)


@pytest.fixture
def drawing(tmp_path: Path, drawings: dict[str, Array], write_pngs: Callable[[Path, dict[str, Array]], None]) -> Path:
    """The first of Omniglot's drawings under `tmp_path`."""
    write_pngs(tmp_path / "omniglot-py", drawings)
    return tmp_path / "omniglot-py" / min(drawings)  # which is read first


@pytest.fixture
def face(tmp_path: Path, write_celeba: Callable[[Path], None]) -> Path:
    """One of CelebA's faces under `tmp_path`."""
    write_celeba(tmp_path)
    return tmp_path / celeba64.FACES / "000002.jpg"


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, whoever decodes an image or starts an interpreter of PostScript fails the test."""

    def decode(*_: object) -> None:
        pytest.fail("a foreign image was decoded")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", decode)
    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)


def png(width: int, height: int) -> bytes:
    """A PNG file that says this of its size, and holds no pixel."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["EPS", "BMP", "GIF", "JPEG", "PPM", "TIFF"])
def test_a_drawing_of_another_format_is_never_decoded(
    form: str, tmp_path: Path, drawing: Path, request: pytest.FixtureRequest
) -> None:
    if form == "EPS":
        drawing.write_bytes(EPS)
    else:
        Image.new("L", (105, 105)).save(drawing, form)
    request.getfixturevalue("undecoded")
    fails(omniglot.plugin, tmp_path, "is not a whole PNG file")


@pytest.mark.parametrize("form", ["EPS", "BMP", "GIF", "PNG", "TIFF"])
def test_a_face_of_another_format_is_never_decoded(
    form: str, tmp_path: Path, face: Path, request: pytest.FixtureRequest
) -> None:
    if form == "EPS":
        face.write_bytes(EPS)
    else:
        Image.new("L", celeba64.SIZE).save(face, form)
    for other in face.parent.iterdir():  # which would be decoded first
        other.write_bytes(face.read_bytes())
    request.getfixturevalue("undecoded")
    fails(celeba64.plugin, tmp_path, "is not a whole JPEG file")


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize(("width", "height"), [(104, 105), (1, 1), (12_000, 12_000), (2**31 - 1, 2**31 - 1)])
def test_a_size_is_refused_before_decoding(width: int, height: int, tmp_path: Path, drawing: Path) -> None:
    drawing.write_bytes(png(width, height))
    fails(omniglot.plugin, tmp_path, f"is {width}x{height}, not 105x105|is not a whole PNG file")


def test_a_large_image_file_is_not_opened(tmp_path: Path, drawing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.truncate(drawing, 2**40)
    monkeypatch.delattr(Image, "open")
    fails(omniglot.plugin, tmp_path, f"has {2**40} bytes, more than")


def test_an_archive_is_measured_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / omniglot.PACKED
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("ink_bits.npy", "w") as member:
        for _ in range(omniglot.MOST // 2**24 + 1):
            member.write(bytes(2**24))
    assert path.stat().st_size < 2**20
    fails(omniglot.plugin, tmp_path, f"unpacks to .* bytes, more than {omniglot.MOST}")


def mnist_files(root: Path, request: pytest.FixtureRequest) -> Path:
    write = request.getfixturevalue("write_idx")
    for file, array in request.getfixturevalue("mnist_files").items():
        write(root / "MNIST/raw" / file, array)
    return root / "MNIST/raw/t10k-images-idx3-ubyte"


def amat_files(root: Path, request: pytest.FixtureRequest) -> Path:
    request.getfixturevalue("write_amat")(root / mnist_static.FOLDER)
    return root / mnist_static.FOLDER / "binarized_mnist_valid.amat"


def cifar_files(root: Path, request: pytest.FixtureRequest) -> Path:
    request.getfixturevalue("write_cifar")(root)
    return root / "cifar-10-batches-py/data_batch_3"


def svhn_files(root: Path, request: pytest.FixtureRequest) -> Path:
    request.getfixturevalue("write_svhn")(root)
    return root / "test_32x32.mat"


def npz_file(root: Path, request: pytest.FixtureRequest) -> Path:
    request.getfixturevalue("write_npz")(root / omniglot.PACKED, request.getfixturevalue("drawings"))
    return root / omniglot.PACKED


READERS = [
    (mnist.plugin, mnist_files),
    (mnist_static.plugin, amat_files),
    (cifar10.plugin, cifar_files),
    (svhn.plugin, svhn_files),
    (omniglot.plugin, npz_file),
]


@pytest.mark.parametrize(("source", "write"), READERS, ids=[source.name for source, _ in READERS])
def test_what_is_no_regular_file_or_too_large_is_not_read(
    source: Source,
    write: Callable[[Path, pytest.FixtureRequest], Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    file = write(tmp_path, request)
    os.truncate(file, 2**40)
    fails(source, tmp_path, f"{file.name} has {2**40} bytes, more than")
    file.unlink()
    os.mkfifo(file)  # reading it would wait for ever
    fails(source, tmp_path, f"{file.name} is not a regular file")


def test_whatever_a_reader_raises_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (RecursionError, MemoryError, NotImplementedError, OverflowError, TypeError, RuntimeError, KeyError):

        def read(root: Path, download: bool, error: type[Exception] = error) -> dict[str, Split]:
            raise error("first\nsecond")

        source = Source("broken", Space((2,), None, "density"), read, origin="", licence="")
        monkeypatch.setattr("vaebench.core.registry.load", lambda kind, name, source=source: source)
        with pytest.raises(DataError, match=r"^dataset 'broken' cannot be read: .+$") as told:
            load_dataset("broken", None)
        assert "\n" not in str(told.value)
