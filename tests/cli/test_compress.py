"""vaebench compress and decompress: there and back, one line for every bad file, nothing lost."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from vaebench.cli.main import main
from vaebench.core import registry as plugins
from vaebench.core.data import Source
from vaebench.evaluation import compression


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    source = plugins.load("datasets", "digits")
    assert isinstance(source, Source)
    return source.load(Path()).split("test").x[:20].numpy().astype(np.uint8)


@pytest.fixture
def file(tmp_path: Path, images: np.ndarray) -> Path:
    np.save(tmp_path / "a.npy", images)
    return tmp_path / "a.npy"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def compress(file: Path, *more: object, model: str = "vae") -> Result:
    return call("compress", "--model", model, "--dataset", "digits", file, *more)


def test_there_and_back(file: Path, images: np.ndarray, tmp_path: Path) -> None:
    before = file.read_bytes()
    result = compress(file)
    assert result.exit_code == 0, result.output
    made = tmp_path / "a.npy.code"
    assert (
        f"20 images, {len(before)} bytes -> {made}, {made.stat().st_size} bytes, decoded and compared" in result.output
    )
    assert made.stat().st_size < len(before)
    again = tmp_path / "b.npy"
    result = call("decompress", made, "--out", again)
    assert result.exit_code == 0, result.output
    assert np.array_equal(np.load(again), images)
    assert again.read_bytes() == file.read_bytes() == before
    moved = made.rename(tmp_path / "c.code")
    assert call("decompress", moved).exit_code == 0
    assert np.array_equal(np.load(tmp_path / "c", allow_pickle=False), images)


def test_the_size_is_the_sum_of_its_parts(file: Path, tmp_path: Path) -> None:
    output = compress(file).output
    size = (tmp_path / "a.npy.code").stat().st_size
    rate, lent, frame = (
        float(part.split()[0]) for part in output.replace(", and ", ": ").replace(", ", ": ").split(": ")[-3:]
    )
    assert size == pytest.approx(rate * 20 * 64 / 8 + lent + frame, abs=3)
    header, _ = compression.read_header((tmp_path / "a.npy.code").read_bytes(), "it")
    assert (header.model, header.dataset, header.count, header.shape) == ("vae", "digits", 20, (1, 8, 8))
    assert header.torch
    assert header.processor


def test_one_image_alone_is_a_file_of_one(tmp_path: Path, images: np.ndarray) -> None:
    np.save(tmp_path / "one.npy", images[0])
    assert compress(tmp_path / "one.npy").exit_code == 0
    assert call("decompress", tmp_path / "one.npy.code", "--out", tmp_path / "back.npy").exit_code == 0
    assert np.array_equal(np.load(tmp_path / "back.npy"), images[:1])


def bad(kind: str, file: Path, images: np.ndarray) -> None:
    """Make of `file` something else."""
    match kind:
        case "float":
            np.save(file, images.astype(np.float32))
        case "shape":
            np.save(file, images[:, :, :7])
        case "levels":
            np.save(file, images + 10)
        case "empty":
            np.save(file, images[:0])
        case "truncated":
            file.write_bytes(file.read_bytes()[:-5])
        case "longer":
            file.write_bytes(file.read_bytes() + b"x")
        case "pickle":
            np.save(file, np.array([{}, {}], dtype=object), allow_pickle=True)
        case "text":
            file.write_text("hello")
        case "huge":
            np.lib.format.write_array_header_1_0(
                file.open("wb"), {"descr": "|u1", "fortran_order": False, "shape": (10**15, 1, 8, 8)}
            )
        case "absent":
            file.unlink()
        case "pipe":
            file.unlink()
            os.mkfifo(file)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("float", "holds float32, and images are uint8 levels 0..16"),
        ("shape", "has shape (20, 1, 7, 8); this model's images are (N, 1, 8, 8)"),
        ("levels", "outside the 17 levels 0..16"),
        ("empty", "holds no image"),
        ("pipe", "it is not a regular file"),
        ("truncated", "is truncated, or longer than its header says"),
        ("longer", "is truncated, or longer than its header says"),
        ("pickle", "is not an .npy file of images: it holds object"),
        ("text", "is not an .npy file of images"),
        ("huge", "is truncated, or longer than its header says"),
        ("absent", "cannot read"),
    ],
)
def test_what_is_no_file_of_images_is_one_line(kind: str, says: str, file: Path, images: np.ndarray) -> None:
    bad(kind, file, images)
    result = compress(file)
    assert result.exit_code == 3
    assert says in result.output
    assert result.output.count("\n") == 1
    assert not file.with_name("a.npy.code").exists()


def test_nothing_is_written_over(file: Path, tmp_path: Path) -> None:
    assert compress(file).exit_code == 0
    made = tmp_path / "a.npy.code"
    before = made.read_bytes(), file.read_bytes()
    for result in (compress(file), compress(file, "--out", file), call("decompress", made)):
        assert result.exit_code == 2
        assert "is there already; name another file by --out" in result.output
    assert (made.read_bytes(), file.read_bytes()) == before


def test_a_damaged_file_is_told_from_a_foreign_one(file: Path, tmp_path: Path) -> None:
    assert compress(file).exit_code == 0
    whole, out = (tmp_path / "a.npy.code").read_bytes(), tmp_path / "out.npy"
    flipped = bytearray(whole)
    for place in (20, 300, len(whole) // 2, len(whole) - 1):
        flipped[place] ^= 1
        (tmp_path / "bad").write_bytes(flipped)
        flipped[place] ^= 1
        result = call("decompress", tmp_path / "bad", "--out", out)
        assert result.exit_code == 3
        assert "is damaged or truncated" in result.output
    for content, says in (
        (whole[:-4], "is damaged or truncated"),
        (whole[:18], "is damaged or truncated"),
        (b"", "is not a file that vaebench compress has written"),
        (file.read_bytes(), "is not a file that vaebench compress has written"),
    ):
        (tmp_path / "bad").write_bytes(content)
        result = call("decompress", tmp_path / "bad", "--out", out)
        assert result.exit_code == 3
        assert says in result.output
    assert not out.exists()


def forged(whole: bytes, **changes: object) -> bytes:
    """The file with another header, and the checksum that fits it."""
    import hashlib

    start = len(compression.MAGIC) + 4
    size = int.from_bytes(whole[start - 4 : start], "little")
    header = {**json.loads(whole[start : start + size]), **changes}
    about = json.dumps(header).encode()
    body = compression.MAGIC + len(about).to_bytes(4, "little") + about + whole[start + size : -32]
    return body + hashlib.sha256(body).digest()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"bins": 99}, "has a header that cannot be"),
        ({"count": 0}, "has a header that cannot be"),
        ({"count": "many"}, "has a header that cannot be"),
        ({"shape": "x"}, "has a header that cannot be"),
        ({"extra": 1}, "has a header that cannot be read"),
        ({"weights": "0" * 64}, "was written by digits/vae with weights 000000000000, not"),
        ({"shape": [1, 4, 4]}, "holds images of shape (1, 4, 4), not (1, 8, 8)"),
        ({"count": 10**6}, "does not come back with torch"),
        ({"count": 19}, "does not come back with torch"),
        ({"content": "0" * 64}, "does not come back with torch"),
        ({"bins": 11}, "does not come back with torch"),
        ({"model": "../../vae"}, "unknown model"),
    ],
)
def test_a_header_is_not_believed(changes: dict[str, object], says: str, file: Path, tmp_path: Path) -> None:
    assert compress(file).exit_code == 0
    (tmp_path / "bad").write_bytes(forged((tmp_path / "a.npy.code").read_bytes(), **changes))
    result = call("decompress", tmp_path / "bad", "--out", tmp_path / "out.npy")
    assert result.exit_code in (2, 3)
    assert says in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "out.npy").exists()


@pytest.mark.parametrize("ends", [b"\0\0\0\0", b"\0" * 8, b"\1\0\0\0", b""])
def test_words_that_no_code_ends_in_are_one_line(ends: bytes, file: Path, tmp_path: Path) -> None:
    """The last word of a code is never 0: the coder's library refuses one that is."""
    import hashlib

    assert compress(file).exit_code == 0
    body = (tmp_path / "a.npy.code").read_bytes()[: -32 - len(ends)] + ends
    body = body if ends else body[:-4]
    (tmp_path / "bad").write_bytes(body + hashlib.sha256(body).digest())
    result = call("decompress", tmp_path / "bad", "--out", tmp_path / "out.npy")
    assert result.exit_code == 3
    assert "does not come back with torch" in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "out.npy").exists()


def test_another_models_file_names_the_model(file: Path, tmp_path: Path) -> None:
    assert compress(file).exit_code == 0
    result = call("decompress", tmp_path / "a.npy.code", "--model", "iwae", "--out", tmp_path / "out.npy")
    assert result.exit_code == 3
    assert "was written by digits/vae with weights" in result.output


@pytest.mark.parametrize(
    ("model", "more", "says"),
    [
        ("dpvae", (), "digits/dpvae: needs a q(z|x) that factorises"),
        ("vae", ("--bins", 2), "its posterior is too narrow for 2**2 bins; set bins to at least"),
    ],
)
def test_what_cannot_be_coded_is_one_line(model: str, more: tuple[object, ...], says: str, file: Path) -> None:
    result = compress(file, *more, model=model)
    assert result.exit_code == 2
    assert says in result.output
    assert not file.with_name("a.npy.code").exists()


def test_a_machine_that_computes_otherwise_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vaebench.metrics.shared.bits_back import BitsBack

    group, calls = BitsBack._group, [0]

    def drifting(self: BitsBack, *arguments: object) -> object:
        calls[0] += 1
        found = group(self, *arguments)  # type: ignore[arg-type]
        if calls[0] % 4 == 0:
            found.mean[0] += 0.5
        return found

    monkeypatch.setattr(BitsBack, "_group", drifting)
    result = compress(file)
    assert result.exit_code == 3
    assert "does not come back" in result.output
    assert not file.with_name("a.npy.code").exists()
