"""The import of Likelihood Regret's state dicts: what is kept, and that no bad file is believed or run."""

import pickle
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_files import likelihood_regret_pair
from safetensors.torch import load_file
from torch import Tensor

from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.data import Source, Space
from vaebench.core.errors import UserError
from vaebench.distributions.noise import keyed
from vaebench.models import card as cards
from vaebench.models import loading
from vaebench.models.formats import convert
from vaebench.models.formats.likelihood_regret import plugin
from vaebench.models.networks.dcgan import Decoder, Encoder

SPACE = Space((1, 32, 32), 256, "pmf")
State = dict[str, Tensor]


def nothing(root: Path, download: bool) -> dict[str, Any]:
    raise AssertionError("an import reads no images")


grey = Source("grey-32", SPACE, nothing, origin="nowhere", licence="none")


@pytest.fixture(autouse=True)
def _dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset of 32x32 grey images, from outside by entry point."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    points = {"grey-32": EntryPoint("grey-32", f"{Path(__file__).stem}:grey", "vaebench.datasets")}
    monkeypatch.setattr(plugins, "_entry_points", lambda kind: points if kind == "datasets" else {})


def states(seed: int = 0, colours: int = 1) -> tuple[State, State]:
    torch.manual_seed(seed)
    nets = Encoder(colours, 5, 2), Decoder(colours, 5, 2)
    for net in nets:
        for buffer in net.buffers():
            buffer.copy_(torch.rand(buffer.shape) + 3)
    return nets[0].state_dict(), nets[1].state_dict()


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """The two files of a small model."""
    paths = tmp_path / "netE_pixel.pth", tmp_path / "netG_pixel.pth"
    for path, state in zip(paths, states(), strict=True):
        torch.save(state, path)
    return paths


@pytest.fixture
def arguments(pair: tuple[Path, Path], tmp_path: Path) -> tuple[object, ...]:
    out = tmp_path / "out"
    return ("import", "likelihood-regret", *pair, "--name", "lr", "--dataset", "grey-32", "--out", out)


def test_the_imported_card_loads_and_computes_the_same(
    vaebench: Callable[..., Any], arguments: tuple[object, ...], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    result = vaebench(*arguments)
    assert result.exit_code == 0, result.stderr
    card = cards.read(tmp_path / "out" / "lr.toml")
    assert (card.id, card.family, dict(card.model)) == ("grey-32/lr", "likelihood-regret", {"latent": 5, "width": 2})
    for path in pair:
        assert f"{path.name} (sha256 {files.sha256(path)})" in card.notes
    network = loading.build_model(card, SPACE)
    loading.load_weights(network, card.weights_path())
    network.eval()
    encoder, decoder = Encoder(1, 5, 2), Decoder(1, 5, 2)
    for net, state in zip((encoder, decoder), states(), strict=True):
        net.load_state_dict(state)
        net.eval()
    x = torch.randint(0, 256, (2, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), keyed(0, torch.arange(2)):
        latents = network.posterior(x).rsample(3)
        assert network.embed(x).equal(encoder(x)[:, :5])
        logits = decoder(latents[0]).double().log_softmax(2)
        expected = logits.gather(2, x.expand(3, 2, 1, 32, 32)).sum((2, 3, 4))
        torch.testing.assert_close(network.likelihood(latents).log_prob(x).double(), expected, rtol=1e-6, atol=0)


def test_old_files_strided_tensors_and_half_precision_are_read(pair: tuple[Path, Path], tmp_path: Path) -> None:
    encoder, decoder = states()
    torch.save(encoder, pair[0], _use_new_zipfile_serialization=False)
    spread = {name: t.to(memory_format=torch.channels_last) if t.ndim == 4 else t for name, t in decoder.items()}
    torch.save({name: t.half() if t.ndim == 4 else t for name, t in spread.items()}, pair[1])
    card = convert(plugin, pair, name="lr", dataset="grey-32", out=tmp_path / "out")
    found = load_file(card.weights_path())
    assert all(found[f"encoder.{name}"].equal(tensor) for name, tensor in encoder.items())
    name = "main.initial:5-8:convt.weight"
    assert found[f"decoder.{name}"].dtype == torch.float32
    torch.testing.assert_close(found[f"decoder.{name}"], decoder[name], rtol=1e-3, atol=1e-4)


def test_the_same_again_is_the_same_and_another_is_refused(
    vaebench: Callable[..., Any], refused: Callable[..., str], arguments: tuple[object, ...], pair: tuple[Path, Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    assert vaebench(*arguments).exit_code == 0
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert sorted(written) == ["lr.safetensors", "lr.toml"]
    assert vaebench(*arguments, "--json").exit_code == 0
    torch.save(states(seed=1)[0], pair[0])
    refused(2, arguments, "lr.safetensors exists and differs; choose another --name or --out")
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    (tmp_path / "out" / "lr.safetensors").unlink()
    refused(2, arguments, "lr.toml exists and differs")
    assert not (tmp_path / "out" / "lr.safetensors").exists()


def without(name: str) -> Callable[[State], None]:
    return lambda state: state.__delitem__(name)


def put(name: str, tensor: Tensor) -> Callable[[State], None]:
    return lambda state: state.update({name: tensor})


NORM = "main.pyramid:4:batchnorm"
FAULTS: list[tuple[int, Callable[[State], None], str]] = [
    (0, without("conv2.bias"), "netE_pixel.pth does not fit: missing conv2.bias"),
    (0, without("conv1.weight"), "lacks conv1.weight; give netE_pixel.pth (the encoder) first"),
    (0, without(f"{NORM}.num_batches_tracked"), f"missing {NORM}.num_batches_tracked"),
    (0, put("module.conv1.bias", torch.zeros(5)), "unknown module.conv1.bias"),
    (0, put("conv2.bias", torch.zeros(6)), "conv2.bias is [6] instead of [5]"),
    (0, put("conv1.weight", torch.zeros(5, 8)), "conv1.weight is [5, 8], not the weight of a convolution"),
    (0, put("conv1.weight", torch.zeros(5, 0, 4, 4)), "not the weight of a convolution"),
    (0, put("conv1.weight", torch.zeros(6, 8, 4, 4)), "conv1.bias is [5] instead of [6]"),
    (0, put("conv2.bias", torch.zeros(5, dtype=torch.int64)), "conv2.bias is torch.int64 instead of torch.float32"),
    (0, put(f"{NORM}.num_batches_tracked", torch.tensor(1.0)), "is torch.float32 instead of torch.int64"),
    (0, put("conv2.bias", torch.full((5,), float("nan"))), "NaN or infinity in conv2.bias"),
    (0, put("conv2.bias", torch.zeros(5).to_sparse()), "'conv2.bias' is Tensor, not a dense tensor"),
    (1, without("main.final:2-1:convt.weight"), "netG_pixel.pth does not fit: missing main.final:2-1:convt.weight"),
    (1, put(f"{NORM}.running_var", torch.tensor([1, 1, 1, float("inf")])), f"NaN or infinity in {NORM}.running_var"),
    (1, put("main.final:2-1:convt.weight", torch.zeros(2, 100, 4, 4)), "[2, 100, 4, 4] instead of [2, 256, 4, 4]"),
]


@pytest.mark.parametrize(("which", "fault", "message"), FAULTS)
def test_a_tensor_that_does_not_fit_is_named(
    which: int, fault: Callable[[State], None], message: str, refused: Callable[..., str],
    arguments: tuple[object, ...], pair: tuple[Path, Path], tmp_path: Path,
) -> None:  # fmt: skip
    state = dict(states()[which])
    fault(state)
    torch.save(state, pair[which])
    refused(3, arguments, message, pair[which])
    assert not (tmp_path / "out").exists()


def test_swapped_files_are_told(
    refused: Callable[..., str], pair: tuple[Path, Path], arguments: tuple[object, ...]
) -> None:
    swapped = (*arguments[:2], pair[1], pair[0], *arguments[4:])
    refused(3, swapped, "lacks main.input-conv.weight; give netE_pixel.pth (the encoder) first, then netG_pixel.pth")


def test_many_faults_are_counted(
    refused: Callable[..., str], pair: tuple[Path, Path], arguments: tuple[object, ...]
) -> None:
    torch.save({}, pair[1])
    refused(3, arguments, "missing main.final:2-1:convt.weight; missing main.initial:5-8:convt.weight", "more faults")


class Payload:
    """Unpickled, it would create the file `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["pickle", "zip", "old", "beside"])
@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_would_run_code_is_refused_and_not_run(
    kind: str, which: int, refused: Callable[..., str], pair: tuple[Path, Path], arguments: tuple[object, ...],
    tmp_path: Path,
) -> None:  # fmt: skip
    trap = Payload(tmp_path / "trap")
    if kind == "pickle":
        pair[which].write_bytes(pickle.dumps(trap))
    else:
        content = {**states()[which], "extra": trap} if kind == "beside" else trap
        torch.save(content, pair[which], _use_new_zipfile_serialization=kind != "old")
    refused(3, arguments, pair[which], "more than tensors, which could run code, and was not opened")
    assert not trap.path.exists()
    pickle.loads(pickle.dumps(trap))  # noqa: S301 (the trap is real)
    assert trap.path.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda data: data[: len(data) // 2], "is truncated or not a PyTorch state dict"),
        (lambda data: data[:3], "is truncated or not a PyTorch state dict"),
        (lambda _: b"", "is truncated or not a PyTorch state dict"),
        (lambda _: b"\n<!DOCTYPE html><html>Quota exceeded</html>", "is an HTML page (a download that failed?)"),
        (lambda _: b"not found", "is truncated or not a PyTorch state dict"),
    ],
    ids=["half", "three bytes", "empty", "html", "text"],
)
@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_file_is_one_line(
    content: Callable[[bytes], bytes], message: str, which: int, refused: Callable[..., str],
    pair: tuple[Path, Path], arguments: tuple[object, ...],
) -> None:  # fmt: skip
    pair[which].write_bytes(content(pair[which].read_bytes()))
    refused(3, arguments, pair[which], message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(2)], "holds a list, not a mapping of names to tensors"),
        (torch.zeros(2), "holds a Tensor, not a mapping"),
        ({"state_dict": {"conv1.bias": torch.zeros(2)}}, "'state_dict' is dict, not a dense tensor"),
        ({1: torch.zeros(2)}, "1 is Tensor, not a dense tensor"),
    ],
)
def test_other_contents_are_one_line(
    content: Any, message: str, refused: Callable[..., str], pair: tuple[Path, Path], arguments: tuple[object, ...]
) -> None:
    torch.save(content, pair[0])
    refused(3, arguments, pair[0], message)


def test_absent_files_and_folders_are_one_line(
    refused: Callable[..., str], pair: tuple[Path, Path], arguments: tuple[object, ...]
) -> None:
    pair[1].unlink()
    refused(3, arguments, f"cannot read {pair[1]}: No such file")
    pair[1].mkdir()
    refused(3, arguments, f"cannot read {pair[1]}: Is a directory")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--dataset", "grey-23", "unknown dataset 'grey-23'; did you mean 'grey-32'?"),
        (
            "--dataset",
            "fashion-mnist",
            "levels = 256, but 'fashion-mnist' has examples of shape (1, 28",
        ),
        ("--dataset", "cifar10", "'cifar10' has examples of shape (3, 32, 32)"),
        ("--name", "../up", "--name: model name '../up' should be of a-z"),
        ("--out", "{file}", "is not a folder; choose another folder"),
    ],
)
def test_what_cannot_be_written_is_refused(
    option: str, value: str, message: str, refused: Callable[..., str], pair: tuple[Path, Path],
    arguments: tuple[object, ...], tmp_path: Path,
) -> None:  # fmt: skip
    refused(2, (*arguments, option, value.format(file=pair[0])), message)
    assert not (tmp_path / "out").exists()


def test_colours_follow_from_the_shapes(pair: tuple[Path, Path], tmp_path: Path) -> None:
    for path, state in zip(pair, states(colours=3), strict=True):
        torch.save(state, path)
    assert convert(plugin, pair, name="lr", dataset="cifar10", out=tmp_path).model == {"latent": 5, "width": 2}
    with pytest.raises(UserError, match=r"the model is for examples of shape \(3, 32, 32\) with levels = 256, but"):
        convert(plugin, pair, name="other", dataset="grey-32", out=tmp_path)
    with pytest.raises(UserError, match=r"no dataset .* name one of examples of shape \(3, 32, 32\)"):
        convert(plugin, pair, name="other", out=tmp_path)


def test_the_releases_own_files_are_read(tmp_path: Path) -> None:
    card = convert(plugin, likelihood_regret_pair(tmp_path), name="lr", dataset="grey-32", out=tmp_path)
    assert card.model == {"latent": 100, "width": 32}
    assert len(load_file(card.weights_path())) == 41


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model."])
def test_what_wrappers_put_before_names_is_taken_off(
    prefix: str, pair: tuple[Path, Path], arguments: tuple[object, ...], vaebench: Callable[..., Any], tmp_path: Path
) -> None:
    for path, state in zip(pair, states(), strict=True):
        torch.save({prefix + name: tensor for name, tensor in state.items()}, path)
    assert vaebench(*arguments).exit_code == 0
    found = load_file(tmp_path / "out" / "lr.safetensors")
    encoder, decoder = states()
    wanted = {f"encoder.{n}": t for n, t in encoder.items()} | {f"decoder.{n}": t for n, t in decoder.items()}
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
