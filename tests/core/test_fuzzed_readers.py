"""No reader of a foreign file ends in anything but what it reads, or one line: whatever is done to the file.

`python -m pytest -m slow --log-cli-level=INFO tests/core/test_fuzzed_readers.py` damages a file of each kind for a
minute, and says how many. A seed that has found a fault is kept in `KEPT`.
"""

import argparse
import hashlib
import logging
import pickle
import random
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from board_rows import row
from scipy.io import savemat
from torchvision.datasets import CIFAR10, SVHN

from vaebench.boards import per_example, published, store
from vaebench.core.errors import UserError
from vaebench.core.registry import load, load_dataset
from vaebench.datasets import mnist_static, omniglot
from vaebench.models import card as cards
from vaebench.models import formats, safetensors_header
from vaebench.models.formats.nvae import ARGUMENTS
from vaebench.models.networks.dcgan import Decoder, Encoder
from vaebench.models.networks.nvae import Architecture, Network

SECONDS = 60.0
QUICK = 60  # damaged files of each kind in every run of the tests
SLOW = 5.0  # seconds that a single damaged file may take
KEPT: dict[str, tuple[int, ...]] = {"card": (662, 977)}
"""Seeds that have found a fault, by reader."""
EXTREMES = (
    b"\0" * 8,
    b"\xff" * 8,
    b"\x7f" + b"\xff" * 7,
    b"\xff" * 7 + b"\x7f",
    b"\0\0\0\x80",
    b"9" * 20,
    b"-1",
    b"1e999",
    b"nan",
)


def damaged(whole: bytes, seed: int) -> bytes:
    """`whole` with one to four changes, which `seed` chooses."""
    rng, content = random.Random(seed), bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        size = len(content)
        near = min(size, 4096) if rng.random() < 0.7 else size  # heads say more than bodies
        place = size - rng.randrange(near) - 1 if near and rng.random() < 0.3 else rng.randrange(near or 1)
        match rng.randrange(7):
            case 0 if size:
                content[place] ^= 1 << rng.randrange(8)
            case 1 if size:
                content[place] = rng.randrange(256)
            case 2:
                content[place : place + 8] = rng.choice(EXTREMES)
            case 3:
                del content[place : place + rng.randint(1, 64)]
            case 4:
                start = rng.randrange(size or 1)
                content[place:place] = content[start : start + rng.randint(1, 64)] * rng.choice((1, 2, 500))
            case 5:
                del content[place:]
            case 6:
                opening = rng.choice((b"[", b"{", b"(", b"a.", b"\x80", b'{"a":', b"["))
                content[place:place] = opening * rng.choice((1, 50, 5000))
    return bytes(content)


@dataclass(frozen=True)
class Reader:
    """`write` puts a file that is in order below a folder, and gives its path; `read` reads it."""

    write: Callable[[Path, pytest.FixtureRequest], Path]
    read: Callable[[Path, Path], object]


def write_card(folder: Path, request: pytest.FixtureRequest) -> Path:
    card = cards.find("dpvae", "digits")
    assert card.path is not None
    path = folder / "dpvae.toml"
    path.write_bytes(card.path.read_bytes())
    return path


def write_mnist(folder: Path, request: pytest.FixtureRequest) -> Path:
    raw, rng = folder / "MNIST/raw", np.random.default_rng(0)
    raw.mkdir(parents=True)
    for part, size in (("train", 6), ("t10k", 4)):
        for kind, x in (("images-idx3", rng.integers(0, 256, (size, 28, 28))), ("labels-idx1", np.arange(size))):
            head = bytes((0, 0, 8, x.ndim)) + b"".join(n.to_bytes(4, "big") for n in x.shape)
            (raw / f"{part}-{kind}-ubyte").write_bytes(head + x.astype(np.uint8).tobytes())
    return raw / "t10k-images-idx3-ubyte"


def write_amat(folder: Path, request: pytest.FixtureRequest) -> Path:
    (folder / mnist_static.FOLDER).mkdir()
    for split in mnist_static.SHA1:
        path = folder / mnist_static.FOLDER / f"binarized_mnist_{split}.amat"
        path.write_text((" ".join("01" * 392) + "\n") * 3)
    return path


def write_npz(folder: Path, request: pytest.FixtureRequest) -> Path:
    path = folder / omniglot.PACKED
    path.parent.mkdir()
    names = [f"{part}/A/c/000{k}_01.png".encode() for part in omniglot.FOLDERS.values() for k in (1, 2)]
    np.savez_compressed(path, ink_bits=np.zeros((4, 1379), np.uint8), path=np.array(names))
    return path


def write_mat(folder: Path, request: pytest.FixtureRequest) -> Path:
    """Each stays behind the gate of its MD5: SciPy's reader of damaged MATLAB files ends in a segmentation fault."""
    official = dict(SVHN.split_list)
    for split, compressed in (("train", False), ("test", True)):
        address, file, _ = official[split]
        x, y = np.zeros((32, 32, 3, 4), np.uint8), np.ones((4, 1), np.uint8)
        savemat(folder / file, {"X": x, "y": y}, do_compression=compressed)
        official[split] = [address, file, hashlib.md5((folder / file).read_bytes()).hexdigest()]
    request.getfixturevalue("monkeypatch").setattr(SVHN, "split_list", official)
    return folder / "test_32x32.mat"


def write_cifar(folder: Path, request: pytest.FixtureRequest) -> Path:
    """Pickles: each stays behind the gate of its MD5, and none that is damaged is opened."""
    patch, place = request.getfixturevalue("monkeypatch"), folder / CIFAR10.base_folder
    place.mkdir()
    sums = {}
    for file, _ in [*CIFAR10.train_list, *CIFAR10.test_list, ("batches.meta", "")]:
        content = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1], "label_names": list("abcdefghij")}
        (place / file).write_bytes(pickle.dumps(content, protocol=2))
        sums[file] = hashlib.md5((place / file).read_bytes()).hexdigest()
    for name in ("train_list", "test_list"):
        patch.setattr(CIFAR10, name, [[file, sums[file]] for file, _ in getattr(CIFAR10, name)])
    patch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": sums["batches.meta"]})
    return place / "data_batch_1"


def write_safetensors(folder: Path, request: pytest.FixtureRequest) -> Path:
    path = folder / "w.safetensors"
    path.write_bytes(cards.find("dpvae", "digits").weights_path().read_bytes())
    return path


def write_nvae(folder: Path, request: pytest.FixtureRequest) -> Path:
    values = {"channels": 4, "decoder_channels": 4, "scales": 2, "groups": 1, "adaptive": False, "min_groups": 1,
              "latent": 2, "blocks": 1, "pre_cells": 1, "post_cells": 1, "encoder_cells": 1, "decoder_cells": 1,
              "flows": 0, "squeeze_excitation": True, "residual": True}  # fmt: skip
    args = {theirs: values[ours] for ours, theirs in ARGUMENTS.items()}
    args |= {"dataset": "cifar10", "num_postprocess_blocks": 1, "num_x_bits": 8, "num_mixture_dec": 10}
    state = Network(Architecture(**values), 3, 32, 100).state_dict()
    content = {"state_dict": state, "args": argparse.Namespace(**args, arch_instance="res_mbconv"), "epoch": 1}
    torch.save(content, folder / "checkpoint.pt", _use_new_zipfile_serialization=False)
    return folder / "checkpoint.pt"


def write_regret(folder: Path, request: pytest.FixtureRequest) -> Path:
    for name, network in (("netE_pixel.pth", Encoder(3, 5, 2)), ("netG_pixel.pth", Decoder(3, 5, 2))):
        torch.save(network.state_dict(), folder / name)
    return folder / "netE_pixel.pth"


def write_board(folder: Path, request: pytest.FixtureRequest) -> Path:
    store.write(folder, [row(), row(column="elbo", curve=((0.0, 1.0), (2.0, 3.0), "x", "y"))])
    return folder / "digits" / "vae.parquet"


VALUED = row(n=360, value=84.5)


def write_values(folder: Path, request: pytest.FixtureRequest) -> Path:
    path = per_example.path(folder, VALUED)
    path.parent.mkdir(parents=True)
    about = {field: getattr(VALUED, field) for field in per_example.ABOUT}
    path.write_bytes(per_example.encode({"nll": np.full(360, 84.5)}, about))
    return path


def write_published(folder: Path, request: pytest.FixtureRequest) -> Path:
    path = folder / "published.toml"
    path.write_bytes(published.FILE.read_bytes()[:6000].rpartition(b"[[table]]")[0])
    return path


def dataset(name: str) -> Callable[[Path, Path], object]:
    def read(folder: Path, path: Path) -> object:
        return load_dataset(name, folder, download=False)

    return read


def importer(name: str, *files: str) -> Callable[[Path, Path], object]:
    def read(folder: Path, path: Path) -> object:
        paths = [folder / file for file in files]
        out = folder / "out" / str(time.monotonic_ns())
        return formats.convert(formats.load(name), paths, name="m", out=out, dataset="cifar10")

    return read


READERS = {
    "card": Reader(write_card, lambda folder, path: cards.read(path, "digits")),
    "idx": Reader(write_mnist, dataset("mnist")),
    "amat": Reader(write_amat, dataset("mnist-static")),
    "npz": Reader(write_npz, dataset("omniglot")),
    "mat": Reader(write_mat, dataset("svhn")),
    "cifar": Reader(write_cifar, dataset("cifar10")),
    "safetensors": Reader(write_safetensors, lambda folder, path: safetensors_header.read(path)),
    "nvae": Reader(write_nvae, importer("nvae", "checkpoint.pt")),
    "likelihood-regret": Reader(write_regret, importer("likelihood-regret", "netE_pixel.pth", "netG_pixel.pth")),
    "board": Reader(write_board, lambda folder, path: store.read_file(path)),
    "values": Reader(write_values, lambda folder, path: per_example.read(folder, VALUED)),
    "published": Reader(write_published, lambda folder, path: published.read(path)),
}


@pytest.fixture(params=READERS)
def fuzz(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], str | None]:
    """`fuzz(seed)`: reads a damaged file; the line it is refused with, or None where it is read."""
    reader = READERS[request.param]
    path = reader.write(tmp_path, request)
    whole = path.read_bytes()
    names = {"mnist", "mnist-static", "omniglot", "svhn", "cifar10"}

    def unpinned(kind: str, name: str) -> object:
        found = load(kind, name)  # type: ignore[arg-type]
        return replace(found, fingerprint=None) if name in names else found  # type: ignore[type-var]

    monkeypatch.setattr("vaebench.core.registry.load", unpinned)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert reader.read(tmp_path, path) is not None, "what is whole is read"

    def run(seed: int) -> str | None:
        path.write_bytes(damaged(whole, seed))
        started = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reader.read(tmp_path, path)
            told = None
        except UserError as error:
            told = str(error)
            assert "\n" not in told, f"seed {seed}: {told!r}"
            assert len(told) < 3000, f"seed {seed}: {len(told)} characters"
        except Exception as error:
            raise AssertionError(f"seed {seed} of {request.param}: {type(error).__name__}: {error}") from error
        assert time.process_time() - started < SLOW, f"seed {seed} of {request.param} takes long"
        return told

    run.reader = request.param  # type: ignore[attr-defined]
    return run


def test_a_damaged_file_is_one_line(fuzz: Callable[[int], str | None]) -> None:
    seeds = (*range(QUICK), *KEPT.get(fuzz.reader, ()))  # type: ignore[attr-defined]
    assert any(fuzz(seed) is not None for seed in seeds)


@pytest.mark.slow
def test_a_minute_of_damage(fuzz: Callable[[int], str | None]) -> None:
    until, seed, refused = time.monotonic() + SECONDS, QUICK, 0
    while time.monotonic() < until:
        refused += fuzz(seed) is not None
        seed += 1
    logging.getLogger(__name__).info("%s: %d files, %d refused", fuzz.reader, seed - QUICK, refused)  # type: ignore[attr-defined]
    assert refused
