"""fid is torch-fidelity's; no file of weights runs code, and others than the released ones are named."""

import json
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_fidelity
from click.testing import Result
from PIL import Image
from torch import Tensor
from torch_fidelity import feature_extractor_inceptionv3 as theirs
from weekly import weekly

from vaebench.core import files, remote
from vaebench.core.data import Dataset, Space
from vaebench.core.errors import DataError
from vaebench.core.metric import UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.core.remote import Fetching
from vaebench.evaluation.entry import Entry, of_model
from vaebench.evaluation.progress import Silent
from vaebench.evaluation.resources import LocalResources
from vaebench.evaluation.run import MetricRun, NoResources, Settings
from vaebench.functional.frechet import frechet_distance, moments
from vaebench.metrics.fid import Fid
from vaebench.metrics.shared import inception
from vaebench.metrics.shared.passes import PriorSample, candidates
from vaebench.metrics.shared.sample_quality import stored

CPU = torch.device("cpu")
Zoo = Callable[[str], LatentVariableModel]


def _rows(result: Result) -> dict[str, dict[str, Any]]:
    return {row["column"]: row for row in json.loads(result.stdout)}


def release(path: Path) -> str:
    return files.sha256(path)[:8]


def images(seed: int, count: int, channels: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    return (255 * smooth ** (1 + seed)).to(torch.uint8)


def write(x: Tensor, folder: Path) -> Path:
    """The images (N, 1 or 3, H, W) as PNG files."""
    folder.mkdir()
    for number, image in enumerate(x):
        array = image.permute(1, 2, 0).squeeze(2).numpy()
        Image.fromarray(array).save(folder / f"{number:05d}.png")
    return folder


def reference(a: Path, b: Path, weights: Path, layer: str) -> float:
    """What torch-fidelity's own command computes from two folders."""
    found = torch_fidelity.calculate_metrics(
        input1=str(a), input2=str(b), fid=True, cuda=False, cache=False, verbose=False, save_cpu_ram=True,
        feature_extractor_weights_path=str(weights), feature_layer_fid=layer,
    )  # fmt: skip
    return float(found["frechet_inception_distance"])


@pytest.mark.parametrize(
    ("channels", "layer", "count"),
    weekly([(1, "64", 12), (3, "64", 12), (1, "2048", 40)], (1, "64", 12)),
)
def test_the_distance_is_torch_fidelitys_on_the_same_png_folders(
    channels: int, layer: str, count: int, weights: Path, tmp_path: Path
) -> None:
    a, b = images(0, count, channels, 28), images(1, count + 4, channels, 28)
    expected = reference(write(a, tmp_path / "a"), write(b, tmp_path / "b"), weights, layer)
    digest, extract = inception.load(weights, release(weights), CPU, layer)
    assert digest == files.sha256(weights)
    found = frechet_distance(*(moments(torch.cat([extract(part) for part in x.split(7)])) for x in (a, b)))
    assert expected > 0
    assert found == pytest.approx(expected, rel=1e-4)
    assert extract(a[:1]).shape == (1, int(layer))


@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
@pytest.mark.parametrize("layer", weekly(["192", "768"], "192"))
def test_features_are_torch_fidelitys_with_batch_norm_folded(
    layer: str, arithmetic: inception.Arithmetic, weights: Path, tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(1)
    content = torch.load(weights, weights_only=True)
    for name, tensor in content.items():
        if name.endswith(("bn.weight", "running_var")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("bn.bias", "running_mean")):
            tensor.normal_(0, 0.3, generator=generator)
    torch.save(content, path := tmp_path / "normalised.pth")
    network = theirs.FeatureExtractorInceptionV3("any", [layer], feature_extractor_weights_path=str(path))
    digest, extract = inception.load(path, release(path), CPU, layer, arithmetic)
    x = images(0, 2, 3, 28)[..., :20]
    expected, found = network(x)[0], extract(x)
    error = float((found - expected).norm() / expected.norm())
    assert not found.requires_grad
    if arithmetic == "float32":
        assert error < 1e-6
        assert digest == files.sha256(path)
    else:
        assert 1e-5 < error < 2e-2
        assert digest != files.sha256(path)


class Run:
    """A pickle that would leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.mark}",))


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path, weights: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "weights.pth"
    torch.save({**torch.load(weights, weights_only=True), "fc.bias": Run(mark)}, path)
    with pytest.raises(DataError, match=r"is not a file of tensors \(UnpicklingError\); nothing in it was run"):
        inception.load(path, release(path), CPU)
    assert not mark.exists()
    torch.load(path, weights_only=False)  # the trap works: this is what torch-fidelity would have done
    assert mark.exists()


def spoilt(how: str, content: dict[str, Tensor]) -> object:
    if how == "missing":
        return {name: tensor for name, tensor in content.items() if name != "fc.bias"}
    if how == "shape":
        return {**content, "fc.bias": torch.zeros(3)}
    return {"list": [1, 2, 3], "tensor": torch.zeros(1), "no mapping": 3}[how]


@pytest.mark.parametrize("how", ["missing", "shape", "list", "tensor", "no mapping"])
def test_other_tensors_are_refused(how: str, weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(spoilt(how, torch.load(weights, weights_only=True)), path)
    with pytest.raises(DataError, match="does not hold Inception's weights: "):
        inception.load(path, release(path), CPU)


def test_other_weights_than_the_released_are_named(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=rf"asked for: its sha256 begins with {release(weights)}, not 6726825d; .*--set"
    ):
        inception.load(weights, inception.RELEASE, CPU)
    with pytest.raises(DataError, match="cannot read"):
        inception.load(tmp_path / "absent", inception.RELEASE, CPU)
    assert inception.URL == theirs.URL_INCEPTION_V3
    assert Path(inception.URL).stem.endswith(f"-{inception.RELEASE}")
    assert re.fullmatch(r"6726825d[0-9a-f]{56}", inception.SHA256)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's folder of downloads, empty."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.delenv("VAEBENCH_INCEPTION", raising=False)
    return tmp_path / "hub" / "checkpoints"


def resources(choice: str | None) -> LocalResources:
    return LocalResources(
        Entry("any", Dataset("any", Space((1, 2, 2), 2, "pmf"), {}, ""), lambda: pytest.fail("asked for"), "", ""),
        Settings(inception=choice),
    )


def test_where_weights_come_from(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnavailableError, match="no Inception weights; give --inception-weights FILE, or 'download'"):
        resources(None).inception_weights()
    assert resources("mine.pth").inception_weights() == Path("mine.pth")
    ours = remote.kept(inception.SHA256)
    for path in (ours, hub / Path(inception.URL).name):  # torch-fidelity's comes first
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
        assert resources(None).inception_weights() == path
    assert resources("download").inception_weights() == path
    monkeypatch.setenv("VAEBENCH_INCEPTION", "named.pth")
    assert resources(None).inception_weights() == Path("named.pth")


def test_they_are_downloaded_once(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def obtain(url: str, sha256: str, *, progress: Fetching | None) -> Path:
        asked.append((url, sha256, progress))
        if len(asked) > 1:
            raise DataError("no route to host")
        return Path("fetched")

    monkeypatch.setattr(remote, "obtain", obtain)
    assert resources("download").inception_weights() == Path("fetched")
    ((url, sha256, _),) = asked
    assert (url, sha256) == (inception.URL, inception.SHA256)
    with pytest.raises(UnavailableError, match="no route to host"):
        resources("download").inception_weights()


def test_without_weights_fid_is_skipped_at_once(
    vaebench: Callable[..., Result], boards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VAEBENCH_INCEPTION", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    command = ("run", "--model", "vae", "--dataset", "digits", "--metric", "fid", "--leaderboards", boards, "--json")
    result = vaebench(*command)
    assert result.exit_code == 0
    assert {(row["status"], row["reason"]) for row in _rows(result).values()} == {
        ("skipped", "no Inception weights; give --inception-weights FILE, or 'download' (95 MB)")
    }
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    monkeypatch.setenv("VAEBENCH_INCEPTION", str(tmp_path / "weights.pth"))
    assert "is not the Inception network asked for" in _rows(vaebench(*command))[""]["reason"]
    absent = vaebench(*command, "--inception-weights", tmp_path / "absent.pth")
    assert (absent.exit_code, absent.stdout) == (2, "")
    assert (
        absent.stderr
        == f"vaebench: --inception-weights {tmp_path / 'absent.pth'} is not a file; name the weights, or 'download'\n"
    )
    with pytest.raises(Exception, match="the Inception network is not at hand"):
        NoResources().inception_weights()


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["64", "2048"])
def test_fid_is_torch_fidelitys_of_the_same_png_folders(
    layer: str, weights: Path, zoo: Zoo, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole metric: its reference, and its samples, written as PNG and handed to torch-fidelity's command."""
    monkeypatch.setattr(inception, "load", partial(inception.load, layer=layer))
    release = files.sha256(weights)[:8]
    metric = Fid(samples=24, candidates=48, repeats=1, limit=30, release=release)
    splits = {"train": digits.split("train").part(torch.arange(30), "train"), "test": digits.split("test")}
    small, model = Dataset("digits", digits.space, splits, "few"), zoo("vae")
    entry, around = of_model(model, small, "vae"), resources(str(weights))
    running = MetricRun(entry, "fid", metric, Settings(), Silent(), around)
    found = {m.column: m.value for m in metric.measure(model, small, running)}
    x = running.shared(PriorSample("sample"), candidates(torch.arange(24)))["x"]
    folders = write(x, tmp_path / "samples"), write(stored(splits["train"], small), tmp_path / "reference")
    assert found["fid"] == pytest.approx(reference(*folders, weights, layer), rel=1e-4)
    assert set(found) == {column.name for column in Fid.columns}
