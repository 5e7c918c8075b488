"""Folders that other libraries save, each file of them damaged or swapped: one line, nothing is run or waited for."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vaebench.models.formats import pythae

Change = Callable[[Path], object]
CONFIG = {
    "name": "VAEConfig", "input_dim": [1, 28, 28], "latent_dim": 3, "reconstruction_loss": "bce",
    "uses_default_encoder": True, "uses_default_decoder": True,
}  # fmt: skip
RUNS = b"cos\nsystem\n(S'touch ran'\ntR."
FILES = {
    "pythae": ("model_config.json", "model.pt", "mnist"),
    "diffusers": ("config.json", "diffusion_pytorch_model.safetensors", "digits"),
}
"""Of each format: its options, its weights, and a dataset that it is of."""


@pytest.fixture(params=FILES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """A format, and a folder of it that imports."""
    place = tmp_path / "saved"
    if request.param == "diffusers":
        library = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'vaebench[dev]'")
        library.AutoencoderTiny(
            in_channels=1, out_channels=1, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
            num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), latent_channels=2,
        ).save_pretrained(place)  # fmt: skip
    else:
        place.mkdir()
        (place / "model_config.json").write_text(json.dumps(CONFIG))
        state = {name: torch.zeros(like.shape) for name, like in pythae._shapes(784, 3).items()}
        torch.save({"model_state_dict": state}, place / "model.pt")
    return request.param, place


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


ATTACKS: dict[str, Change] = {
    "fifo": fifo,
    "device": device,
    "directory": directory,
    "absent": Path.unlink,
    "sparse": lambda path: os.truncate(path, 2 * 2**40),
    "empty": lambda path: path.write_bytes(b""),
    "half": half,
    "runs": lambda path: path.write_bytes(RUNS),
    "deep": lambda path: path.write_bytes(b"[" * 100_000),
    "wide": lambda path: path.write_bytes(b'{"a":[' + b"1," * 10**6 + b"1]}"),
    "not a number": lambda path: path.write_bytes(b'{"name": NaN}'),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("which", [0, 1], ids=["options", "weights"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_hostile_file_is_one_line(
    attack: str, which: int, folder: tuple[str, Path], refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, place = folder
    monkeypatch.chdir(place.parent)
    ATTACKS[attack](place / FILES[kind][which])
    start = time.process_time()
    refused(3, ("import", kind, place, "--dataset", FILES[kind][2], "--out", place / "o"), "saved")
    assert time.process_time() - start < 5
    assert not (place / "o").exists()
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"latent_channels": 0}, {"latent_channels": -1}, {"latent_channels": "2"}, {"latent_channels": 1e308},
        {"encoder_block_out_channels": [8, 10**12]}, {"encoder_block_out_channels": [0, 0]}, {"act_fn": "exec"},
        {"num_encoder_blocks": [10**9, 1]}, {"num_encoder_blocks": [-1, 1]}, {"scaling_factor": float("nan")},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("folder", ["diffusers"], indirect=True)
def test_options_that_make_no_network(
    changes: dict[str, object], folder: tuple[str, Path], refused: Callable[..., str]
) -> None:
    _, place = folder
    path = place / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    refused(3, ("import", "diffusers", place, "--dataset", "digits", "--out", place / "o"), "config.json")
    assert not (place / "o").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"latent_dim": 0}, {"latent_dim": -1}, {"latent_dim": 2.0}, {"latent_dim": True}, {"latent_dim": 10**9},
        {"latent_dim": float("inf")}, {"input_dim": []}, {"input_dim": [1, 28, -28]}, {"input_dim": [10**18] * 3},
        {"input_dim": "784"}, {"name": ["VAEConfig"]}, {"reconstruction_loss": {}}, {"uses_default_encoder": 1},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("folder", ["pythae"], indirect=True)
def test_options_that_are_no_model_of_pythae(
    changes: dict[str, object], folder: tuple[str, Path], refused: Callable[..., str]
) -> None:
    _, place = folder
    (place / "model_config.json").write_text(json.dumps(CONFIG | changes))
    refused(3, ("import", "pythae", place, "--dataset", "mnist", "--out", place / "o"), "saved")
    assert not (place / "o").exists()


def test_the_folder_itself_is_read(folder: tuple[str, Path], vaebench: Callable[..., object]) -> None:
    kind, place = folder
    assert vaebench("import", kind, place, "--dataset", FILES[kind][2], "--out", place / "o").exit_code == 0  # type: ignore[attr-defined]
