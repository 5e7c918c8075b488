"""The consistency metric: moves that move nothing, closed forms for known ones, columns that exist, errors."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from pixels import Pixels, pictures
from torch import Tensor
from weekly import weekly

from vaebench.core import augmentation
from vaebench.core.data import Batch, Binarised, Dataset, Space, Split, Subsampled
from vaebench.core.metric import Measurement, UnavailableError
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed
from vaebench.functional.divergence import kl_gaussian
from vaebench.functional.statistics import wilson
from vaebench.metrics.consistency import Consistency, compare
from vaebench.models.adapters.points import Options as PointsOptions
from vaebench.models.adapters.points import Points

Measure = Callable[..., dict[str, Measurement]]
Zoo = Callable[[str], LatentVariableModel]
Moved = Callable[[Callable[[Tensor], Tensor]], None]
SPACE = Space((1, 4, 6), 256, "pmf")
KL, AGREEMENT = (tuple(f"{kind}_{size}" for size in ("small", "large")) for kind in ("consistency", "agreement"))


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Moved:
    """`moved(map)`: every affine move is `map` of the images."""

    def plant(function: Callable[[Tensor], Tensor]) -> None:
        monkeypatch.setattr(augmentation, "affine", lambda x, *move: function(x))

    return plant


def labelled(dataset: Dataset, label: Callable[[Tensor], Tensor]) -> Dataset:
    splits = {name: dataclasses.replace(split, y=label(split.x)) for name, split in dataset.splits.items()}
    return dataclasses.replace(dataset, splits=splits)


def side(x: Tensor) -> Tensor:
    """Which of the left, the right and neither half is brighter: 0, 1, 2."""
    left, right = x.float()[..., :3].mean((1, 2, 3)), x.float()[..., 3:].mean((1, 2, 3))
    return torch.where(left == right, 2, (right > left).long())


def halves(count: int) -> Dataset:
    """Images bright on the left, on the right and on both sides, in turn."""
    x = torch.zeros(count, 1, 4, 6, dtype=torch.uint8)
    x[0::3, ..., :3] = x[1::3, ..., 3:] = x[2::3] = 200
    return labelled(Dataset("halves", SPACE, {name: Split(name, x) for name in ("train", "test")}, ""), side)


@pytest.mark.parametrize("name", weekly(["vae", "dpvae", "nvae", "hvae"], "dpvae", "hvae"))
def test_moves_that_move_nothing_change_nothing(
    name: str, measure: Measure, zoo: Zoo, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    for transform in ("affine-small", "affine-large"):
        monkeypatch.setitem(augmentation.RANGES, transform, (0.0, 0.0, 0.0))
    found = measure(Consistency(moves=2), zoo(name), digits)
    assert set(found) == {*(() if name == "hvae" else KL), *AGREEMENT}
    for column in found.keys() & set(KL):
        assert found[column].value == pytest.approx(0, abs=1e-3)  # a level rounds otherwise once in a million
    for column in AGREEMENT:
        assert found[column].value == 1
        low, _ = wilson(1.0, 720, 1.96)
        assert found[column].stderr == pytest.approx((1 - low) / 3.92)
        assert (found[column].low, found[column].high) == wilson(1.0, len(digits.split("test")))


@pytest.mark.parametrize("sigma", [1.0, 5.0])
def test_a_known_shift_has_a_closed_form(sigma: float, measure: Measure, moved: Moved) -> None:
    moved(lambda x: x + 3)
    found = measure(Consistency(), Pixels(SPACE, 2 * math.log(sigma)), pictures(SPACE, high=250))
    for column in KL:
        assert found[column].value == pytest.approx(0.5 * 24 * (3 / sigma) ** 2, rel=1e-5)
        assert found[column].stderr == pytest.approx(0, abs=1e-6)
        assert found[column].n == 40


def test_the_first_argument_is_the_moved_images(measure: Measure, moved: Moved) -> None:
    """Variances exp(0.1 mean(x)): of x + 10, e times as large."""
    moved(lambda x: x + 10)
    found = measure(Consistency(), Pixels(SPACE, 4.0, slope=0.1), pictures(SPACE, low=20, high=21))
    x = torch.tensor([20.0])
    wide, narrow = (24 * kl_gaussian(a, 4 + 0.1 * a, b, 4 + 0.1 * b) for a, b in ((x + 10, x), (x, x + 10)))
    assert found["consistency_small"].value == pytest.approx(float(wide), rel=1e-5)
    assert abs(float(wide) - float(narrow)) > 1


def test_agreement_is_the_part_whose_predicted_label_stays(measure: Measure, moved: Moved) -> None:
    moved(lambda x: x.flip(-1))
    found = measure(Consistency(moves=3), Pixels(SPACE), halves(60))
    for column in AGREEMENT:
        assert found[column].value == pytest.approx(1 / 3)  # bright on both sides
        assert found[column].stderr == pytest.approx((2 / 9 / 59) ** 0.5)  # of 60 images, not of 180 moves


def test_readings_of_the_training_images_are_in_the_error_of_an_agreement(measure: Measure, moved: Moved) -> None:
    """Few training images are binarised: which of their pixels are 1 decides what the classifier says of a flip."""
    moved(lambda x: x.flip(-1))
    space, generator = Space((1, 4, 6), 2, "pmf"), torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (240, 1, 4, 6), generator=generator).to(torch.uint8)
    few, many = Split("train", x[:40], side(x[:40]), Binarised()), Split("test", x[40:], side(x[40:]), Binarised())
    dataset = Dataset("few", space, {"train": few, "test": many}, "")
    found = [measure(Consistency(moves=20), Pixels(space), dataset, seed=seed)["agreement_small"] for seed in range(8)]
    pairs = [(each.value, each.stderr) for each in found]
    values, errors = (torch.tensor(each, dtype=torch.float64) for each in zip(*pairs, strict=True))
    least = float((values.mean() * (1 - values.mean()) / (20 * 200)).sqrt())
    assert values.std() > 2 * least
    assert float(errors.min()) > least
    assert float((errors**2).mean().sqrt() / values.std()) == pytest.approx(1.2, abs=0.6)  # images are drawn once


def test_an_agreement_need_not_be_right(measure: Measure, moved: Moved) -> None:
    moved(lambda x: x)
    dataset = halves(60)
    wrong = dataclasses.replace(dataset.split("test"), y=(side(dataset.split("test").x) + 1) % 3)
    splits = {"train": dataset.split("train"), "test": wrong}
    found = measure(Consistency(), Pixels(SPACE), dataclasses.replace(dataset, splits=splits))
    assert found["agreement_small"].value == 1


def test_foreign_examples_teach_the_probe_nothing(measure: Measure, moved: Moved) -> None:
    moved(lambda x: x.flip(-1))
    dataset = halves(60)
    train = dataset.split("train")
    assert train.y is not None
    y = torch.cat([train.y, torch.full((180,), -1)])  # taught, they would be the label of every image
    splits = {**dataset.splits, "train": Split("train", train.x.repeat(4, 1, 1, 1), y)}
    found = measure(Consistency(), Pixels(SPACE), dataclasses.replace(dataset, splits=splits))
    assert found == measure(Consistency(), Pixels(SPACE), dataset)


def test_columns_that_exist(measure: Measure, moved: Moved) -> None:
    moved(lambda x: x)
    plain, model = halves(30), Pixels(SPACE)
    without = {name: Split(name, split.x) for name, split in plain.splits.items()}
    one = {**plain.splits, "train": Split("train", plain.split("train").x, torch.zeros(30, dtype=torch.int64))}
    assert set(measure(Consistency(), model, plain)) == {*KL, *AGREEMENT}
    for splits in (without, one, {"test": without["test"]}):
        assert set(measure(Consistency(), model, dataclasses.replace(plain, splits=splits))) == set(KL)
    assert set(measure(Consistency(), Pixels(SPACE, other=True), plain)) == set(AGREEMENT)
    with pytest.raises(UnavailableError, match="needs a Gaussian q"):
        measure(Consistency(), Pixels(SPACE, other=True), dataclasses.replace(plain, splits=without))


def test_what_cannot_be_moved_has_a_reason(digits: Dataset) -> None:
    def reason(space: Space) -> str | None:
        return Consistency().unsupported(Pixels(space), dataclasses.replace(digits, space=space, name="mine"))

    assert reason(digits.space) is None
    assert reason(Space((2,), None, "density")) == (
        "only images of integers and clouds are transformed; mine holds real numbers of shape [2]"
    )
    assert reason(Space((8,), 2, "pmf")) == (
        "only images of integers and clouds are transformed; mine holds integers of shape [8]"
    )
    assert reason(Space((8, 3), None, "density")) is None
    assert Consistency("valid").unsupported(Pixels(SPACE), digits) == "digits has no split 'valid'"


@pytest.mark.parametrize("name", ["vae", "nvae"])
def test_values_are_the_divergence_of_both_posteriors(name: str, zoo: Zoo, digits: Dataset) -> None:
    model, index, seed = zoo(name), torch.arange(20), 7
    batch = digits.split("test").take(index)
    with torch.no_grad():
        found = compare(batch, seed, model=model, probes=())
        with keyed(seed, index):
            stored = Split("all", batch.x)
            small, large = (
                augmentation.transformed(stored, digits.space, transform)
                for transform in augmentation.transforms(digits.space)
            )
            expected = [model.posterior(x).kl(model.posterior(batch.x)) for x in (small, large)]
        part = compare(Batch(batch.x[13:], None, index[13:]), seed, model=model, probes=())
    assert set(found) == set(KL)
    for column, value in zip(KL, expected, strict=True):
        torch.testing.assert_close(found[column], value.double(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(part[column], found[column][13:], rtol=1e-3, atol=1e-3)  # each example's own move


def test_moves_are_fresh_averaged_and_kept(
    measure: Measure, kept: dict[str, bytes], tmp_path: Path, zoo: Zoo, digits: Dataset
) -> None:
    few, many = (measure(Consistency(moves=moves), zoo("vae"), digits) for moves in (1, 6))
    for name, found in many.items():
        one = few[name]
        assert found.n == one.n == 360
        assert found.stderr is not None
        assert one.stderr is not None
        assert 0 < found.stderr < one.stderr
        assert 0 < abs(found.value - one.value) < 4 * one.stderr
    (tmp_path / "values.parquet").write_bytes(kept.popitem()[1])
    table = pq.read_table(tmp_path / "values.parquet").to_pydict()
    assert set(table) == set(many)
    for name, values in table.items():
        assert sum(values) / 360 == pytest.approx(many[name].value, rel=1e-5)


def test_a_larger_move_moves_more_and_a_vague_posterior_less(measure: Measure, zoo: Zoo, digits: Dataset) -> None:
    vae, vague = (measure(Consistency(moves=1), zoo(name), digits) for name in ("vae", "beta-vae-h"))
    for found in (vae, vague):
        assert found["consistency_small"].value < found["consistency_large"].value
        assert found["agreement_small"].value > found["agreement_large"].value > 0.1
    assert vague["consistency_large"].value < vae["consistency_small"].value


def test_what_is_not_a_number_fails(measure: Measure, moved: Moved) -> None:
    moved(lambda x: x)
    with pytest.raises(ValueError, match="NaN or infinite"):
        measure(Consistency(), Pixels(SPACE, fault="nan"), halves(30))
    with pytest.raises(ValueError, match="40 of 40 examples have no finite value"):
        measure(Consistency(), Pixels(SPACE, math.nan), pictures(SPACE))


@pytest.mark.parametrize("field", ["moves", "inverse_penalty"])
def test_parameters_are_positive(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} = 0"):
        dataclasses.replace(Consistency(), **{field: 0})


def test_of_clouds_only_the_turn_the_scale_and_the_jitter_count(measure: Measure) -> None:
    torch.manual_seed(0)
    space = Space((32, 3), None, "density")
    x = torch.rand(60, 48, 3) - 0.5
    parts = {"train": x[:30], "test": x[30:]}
    y = torch.arange(30) % 3
    data = Dataset("clouds", space, {n: Split(n, part, y, Subsampled(32)) for n, part in parts.items()}, "f" * 64)
    model = Points(space, PointsOptions(latent=3, point=(16,), hidden=(16,), components=4)).eval()
    found = measure(Consistency(moves=2), model, data)
    assert set(found) == {*KL, "agreement_small", "agreement_large"}
    assert found["consistency_large"].value > 0
