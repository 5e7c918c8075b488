"""Laws that every dataset plug-in keeps, and the content that the project has pinned."""

import ast
import importlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import vaebench.datasets
from vaebench.core.data import Dataset, Source, Space, Split, fingerprint
from vaebench.datasets import furniture, shapenet_points

FOLDER = Path(vaebench.datasets.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
TWINS = [name for name in NAMES if name.endswith(("_dequantised", "_centred"))]  # of the files of others
DATA = os.environ.get("VAEBENCH_DATA")


def plugin(module: str) -> Source:
    source = importlib.import_module(f"vaebench.datasets.{module}").plugin
    assert isinstance(source, Source)
    return source


SOURCES = {module: plugin(module) for module in NAMES}
BUNDLED = [module for module, source in SOURCES.items() if source.bundled]
PINNED = [
    module
    for module, source in SOURCES.items()
    if source.fingerprint
    and not source.bundled
    and source.space is not None
    and source.space.is_image
    and module not in TWINS
]
OWN = {"image_folder", "tensor_file"}
"""Whatever a user has: their files say what space they are of."""


def test_every_dataset_of_the_protocol_has_a_file() -> None:
    expected = (
        "celeba64 cifar10 digits emnist_letters fashion_mnist mnist mnist_grey mnist_static notmnist omniglot svhn"
    )
    rendered = {
        "digits_contaminated",
        "mnist_emnist",
        "fashion_mnist_32",
        "sprites",
        "three_dots",
        "two_dots",
        "two_moons",
    }
    rendered |= {"mnist_small", "cifar10_64", *(f"gaussian_toy_{dims}" for dims in (25, 51, 101, 201))}
    clouds = {"shapes", "furniture", "modelnet40", "shapenet_points"}
    assert set(NAMES) - set(TWINS) == {*expected.split(), *rendered, *clouds, *OWN}


@pytest.mark.parametrize("module", NAMES)
def test_a_plugin_is_complete(module: str) -> None:
    source = SOURCES[module]
    assert source.name == module.replace("_", "-")
    assert source.origin.strip()
    assert source.licence.strip()
    assert (source.space is None) == (module in OWN)
    assert source.space is None or len(source.space.shape) == 3 or source.space.measure == "density"
    assert source.fingerprint is None or len(bytes.fromhex(source.fingerprint)) == 32


@pytest.mark.parametrize("module", NAMES)
def test_the_docstring_is_one_line_and_readable_without_an_import(module: str) -> None:
    docstring = ast.get_docstring(ast.parse((FOLDER / f"{module}.py").read_text()))
    assert docstring
    assert "\n" not in docstring
    assert docstring.endswith(".")
    assert len(docstring) < 120


NOWHERE = {"furniture": ", ".join(furniture.FILES), "shapenet_points": shapenet_points.FOLDER}  # no server has them


@pytest.mark.parametrize("module", [name for name in NAMES if name not in BUNDLED])
def test_absent_files_are_one_clear_error(module: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=module.split("_")[0]) as error:
        SOURCES[module].load(tmp_path)
    message = str(error.value)
    assert "\n" not in message
    assert str(tmp_path) in message
    if module not in {"notmnist", *OWN}:
        name = SOURCES[module].name.removesuffix("-dequantised").removesuffix("-centred").removesuffix("-64")
        start, _, remedy = message.partition("; ")
        assert start == f"{name} is not under {tmp_path}"
        assert remedy.endswith(f"; put there by hand: {NOWHERE[module]}" if module in NOWHERE
                               else f"run: vaebench data get {name} --data {tmp_path}")  # fmt: skip
    assert not list(tmp_path.iterdir())


LARGE = {"shapes", "sprites", "three_dots"}  # which seconds are needed to render


@pytest.mark.parametrize(
    "module", [pytest.param(each, marks=pytest.mark.slow) if each in LARGE else each for each in BUNDLED]
)
def test_a_bundled_dataset_is_the_pinned_one(module: str, tmp_path: Path) -> None:
    data = SOURCES[module].load(tmp_path / "absent")
    assert data.fingerprint == SOURCES[module].fingerprint
    assert SOURCES[module].read(tmp_path, True)["test"].x.equal(data.split("test").x)


def test_digits_are_split_by_class() -> None:
    splits = SOURCES["digits"].read(Path(), False)
    train, test = splits["train"], splits["test"]
    assert (len(train), len(test)) == (1437, 360)
    assert train.y is not None
    assert test.y is not None
    assert int(torch.cat([train.x, test.x]).max()) == 16
    expected = torch.cat([train.y, test.y]).bincount() / 5
    assert (test.y.bincount() - expected).abs().max() < 1


def test_foreign_digits_carry_a_label_of_their_own() -> None:
    digits, splits = (SOURCES[name].read(Path(), False) for name in ("digits", "digits_contaminated"))
    train = splits["train"]
    assert train.y is not None
    assert (len(train), int((train.y == -1).sum())) == (1509, 72)
    assert train.x[:1437].equal(digits["train"].x)
    assert splits["test"].x.equal(digits["test"].x)
    inverted, turned, noise = train.x[1437:].split(24)
    known = {tuple(x.flatten().tolist()) for x in digits["train"].x}
    assert all(tuple(x.flatten().tolist()) in known for x in 16 - inverted)
    assert all(tuple(x.flatten().tolist()) in known for x in turned.rot90(-1, (2, 3)))
    assert not any(tuple(x.flatten().tolist()) in known for x in (*inverted, *turned))
    assert sorted(set(noise.flatten().tolist())) == list(range(17))
    assert abs(float(noise.double().mean()) - 8) < 4 * 4.9 / noise.numel() ** 0.5


def test_two_moons_lie_where_they_should() -> None:
    splits = SOURCES["two_moons"].read(Path(), False)
    assert {name: tuple(split.x.shape) for name, split in splits.items()} == {"train": (10_000, 2), "test": (2_000, 2)}
    for split in splits.values():
        assert split.x.dtype == torch.float32
        assert split.y is not None
        assert set(split.y.tolist()) == {0, 1}
        centre = torch.tensor([[0.0, 0.0], [1.0, 0.5]])[split.y]
        radius = (split.x - centre).norm(dim=1)
        assert abs(float(radius.mean()) - 1) < 0.02
        assert abs(float(radius.std()) - 0.1) < 0.01


APART = {
    "three_dots": [[0, 0, 63, 0, 20, 50], [63, 63, 5, 60, 31, 7]],
    "two_dots": [[0, 0, 31, 20], [31, 31, 2, 5]],
}


@pytest.mark.parametrize(
    ("module", "side", "radius", "step"), [("three_dots", 64, 5.12, 256), ("two_dots", 32, 5.12, 210)]
)
def test_dots_lie_where_their_factors_say(module: str, side: int, radius: float, step: int) -> None:
    truth = SOURCES[module].ground_truth
    assert truth is not None
    apart = torch.tensor(APART[module])
    dots = apart.shape[1] // 2
    ink = 1 - truth.render(apart).double()[:, 0] / 255  # (2, side, side)
    disc = 3.141592653589793 * radius**2
    assert ink.sum((1, 2)).tolist() == pytest.approx([dots * disc] * 2, rel=2e-3)
    for dot in range(dots):
        place = apart[:, 2 * dot : 2 * dot + 2]
        ink = 1 - truth.render(place.repeat(1, dots)).double()[:, 0] / 255  # all discs at one place: one disc
        assert ink.sum((1, 2)).tolist() == pytest.approx([disc] * 2, rel=2e-3)
        centre = torch.arange(side) + 0.5
        x, y = (ink.sum(1) * centre).sum(1) / ink.sum((1, 2)), (ink.sum(2) * centre).sum(1) / ink.sum((1, 2))
        expected = radius + place * step / 300
        assert torch.stack([x, y], 1).tolist() == [pytest.approx(row, abs=0.01) for row in expected.tolist()]
    near = apart[:1].clone()
    near[:, 2:4] = near[:, :2] + 3
    assert 1 < float((255 - truth.render(near).double()).sum() / 255 / disc) < dots


def test_small_mnist_is_a_part_of_mnist(tmp_path: Path, write_idx: Callable[[Path, NDArray[np.uint8]], None]) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 130), ("t10k", 7)):
        images, labels = rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count, np.uint8)
        write_idx(tmp_path / "MNIST" / "raw" / f"{part}-images-idx3-ubyte", images)
        write_idx(tmp_path / "MNIST" / "raw" / f"{part}-labels-idx1-ubyte", labels)
    splits, whole = SOURCES["mnist_small"].read(tmp_path, False), SOURCES["mnist"].read(tmp_path, False)
    for name, index in {"train": [0, 60, 120], "valid": [30, 90], "test": range(7)}.items():
        assert splits[name].x.equal(whole["test" if name == "test" else "train"].x[list(index)])
        assert splits[name].reading == whole["train"].reading


def test_the_content_is_the_same_in_any_order_and_no_other() -> None:
    splits = SOURCES["digits"].read(Path(), False)
    train = splits["train"]
    assert train.y is not None
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    pixel, label = train.x.clone(), train.y.clone()
    pixel[5, 0, 3, 3] ^= 1
    label[5] += 1

    def content(changed: Split) -> str:
        return fingerprint({**splits, "train": changed})

    assert content(train.part(order, "train")) == SOURCES["digits"].fingerprint
    assert content(replace(train, x=pixel)) != SOURCES["digits"].fingerprint
    assert content(replace(train, y=label)) != SOURCES["digits"].fingerprint
    assert content(replace(train, y=train.y[order])) != SOURCES["digits"].fingerprint


FACTS = {  # split: size, mean in [0, 1], first labels; from the sets' own pages and papers
    "mnist": {"train": (60_000, 0.13066, [5, 0, 4, 1, 9]), "test": (10_000, 0.13251, [7, 2, 1, 0, 4])},
    "mnist_grey": {"train": (60_000, 0.13066, [5, 0, 4, 1, 9]), "test": (10_000, 0.13251, [7, 2, 1, 0, 4])},
    "mnist_small": {
        "train": (1000, 0.12422, [5, 4, 2, 2, 8]),
        "valid": (1000, 0.12355, [3, 6, 4, 0, 1]),
        "test": (10_000, 0.13251, [7, 2, 1, 0, 4]),
    },
    "mnist_static": {
        "train": (50_000, 0.13056, None),
        "valid": (10_000, 0.13113, None),
        "test": (10_000, 0.13251, None),
    },
    "fashion_mnist": {"train": (60_000, 0.28604, [9, 0, 0, 3, 0]), "test": (10_000, 0.28685, [9, 2, 1, 1, 6])},
    "fashion_mnist_32": {
        "train": (60_000, 0.28556, [9, 0, 0, 3, 0]),
        "test": (10_000, 0.28637, [9, 2, 1, 1, 6]),
    },
    "cifar10": {"train": (50_000, 0.47336, [6, 9, 9, 4, 1]), "test": (10_000, 0.47659, [3, 8, 8, 0, 6])},
    "cifar10_64": {"train": (50_000, 0.47428, [6, 9, 9, 4, 1]), "test": (10_000, 0.47750, [3, 8, 8, 0, 6])},
    "omniglot": {"train": (19_280, 0.07794, [708] * 5), "test": (13_180, 0.08428, [964] * 5)},
    "notmnist": {"test": (10_000, 0.42662, [3, 5, 9, 2, 7])},
    "mnist_emnist": {"train": (61_000, 0.13133, [5, 0, 4, 1, 9]), "test": (10_000, 0.13251, [7, 2, 1, 0, 4])},
    "emnist_letters": {"test": (20_800, 0.17217, [1, 1, 1, 1, 1])},
}


def test_every_pin_has_facts_to_be_compared_with() -> None:
    assert sorted(FACTS) == sorted(PINNED)


@pytest.mark.skipif(DATA is None, reason="VAEBENCH_DATA names no directory of downloaded datasets")
@pytest.mark.parametrize("module", PINNED)
def test_the_real_files_are_the_pinned_ones(module: str) -> None:
    source = SOURCES[module]
    try:
        data = source.load(Path(str(DATA)))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert data.fingerprint == source.fingerprint
    assert set(data.splits) == set(FACTS[module])
    top = 1 if module == "mnist_static" else 255
    for name, (size, mean, labels) in FACTS[module].items():
        split = data.split(name)
        assert len(split) == size
        assert split.x.dtype == torch.uint8
        assert int(split.x.sum()) / split.x.numel() / top == pytest.approx(mean, abs=6e-6)
        assert (None if split.y is None else split.y[:5].tolist()) == labels


def test_a_thinned_split_is_every_nth_example() -> None:
    dataset = SOURCES["digits"].load(Path())
    whole, tenth = dataset.split("test"), dataset.split("test[::10]")
    assert (tenth.name, len(tenth)) == ("test[::10]", 36)
    assert torch.equal(tenth.x, whole.x[::10])
    assert whole.y is not None
    assert tenth.y is not None
    assert torch.equal(tenth.y, whole.y[::10])
    assert dataset.has("train[::7]")


@pytest.mark.parametrize("name", ["valid[::2]", "test[::0]", "test[:5]", "test[::]", "[::2]"])
def test_no_other_slices(name: str) -> None:
    dataset = SOURCES["digits"].load(Path())
    assert not dataset.has(name)
    with pytest.raises(KeyError, match="has no split"):
        dataset.split(name)


def test_an_example_outside_the_space_is_named_by_dataset_split_and_index() -> None:
    density, grey = Space((2,), None, "density"), Space((1, 2, 2), 4, "pmf")
    x, levels = torch.zeros(40, 2), torch.zeros(30, 1, 2, 2, dtype=torch.uint8)
    splits = {"train": Split("train", x.clone()), "test": Split("test", x)}
    source = Source("moons-of-mine", density, lambda root, download: splits, "here", "CC0", bundled=True)
    assert len(source.load(Path()).split("test")) == 40
    x[17, 1], x[23, 0] = float("nan"), float("inf")
    with pytest.raises(ValueError, match=r"^dataset 'moons-of-mine', split 'test': .*; example 17 is not$"):
        source.load(Path())
    levels[5, 0, 1, 1] = 4
    with pytest.raises(ValueError, match=r"^dataset 'd', split 'test': examples lie in \[0, 4\], .* \(example 5\)"):
        Dataset("d", grey, {"test": Split("test", levels)}, "").check()
    density.check(torch.zeros(2, 3, 2))
    draws = torch.zeros(2, 3, 2)
    draws[1, 1, 0] = float("nan")
    with pytest.raises(ValueError, match="example 4 is not"):
        density.check(draws)


def test_examples_of_the_gaussian_problem_have_its_law() -> None:
    source = SOURCES["gaussian_toy_25"]
    assert source.law is not None
    delta, sigma = source.law.parameters["delta"], source.law.parameters["sigma"]
    average, log_spread = source.read(Path(), False)["train"].x.double().unbind(1)
    score = (average - delta) / (1 + sigma**2 / 10_000).sqrt()
    assert abs(float(score.square().mean()) - 1) < 4 * (2 / score.numel()) ** 0.5
    spread = (log_spread - 2 * sigma.log()) * (9999 / 2) ** 0.5
    assert abs(float(spread.mean())) < 4 / spread.numel() ** 0.5 + 0.01
    assert abs(float(spread.square().mean()) - 1) < 4 * (2 / spread.numel()) ** 0.5 + 0.01
