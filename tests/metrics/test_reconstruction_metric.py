"""The reconstruction metric: closed forms, scikit-image's own values, which columns exist, faults that fail it."""

import math
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from pixels import Fault, Pixels, pictures
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from vaebench.core.data import Batch, Dataset, Space, Split, eight_bit
from vaebench.core.metric import Measurement
from vaebench.core.model import LatentVariableModel
from vaebench.distributions.noise import keyed
from vaebench.metrics.reconstruction import Reconstruction, reconstruct
from vaebench.metrics.shared.passes import displayed
from vaebench.models.adapters.points import Options as PointsOptions
from vaebench.models.adapters.points import Points

Measure = Callable[..., dict[str, Measurement]]
Zoo = Callable[[str], LatentVariableModel]
GREY, COLOUR = Space((1, 12, 12), 256, "pmf"), Space((3, 8, 8), 256, "pmf")
MOST = 10 * math.log10(12 * 255**2)


@pytest.mark.parametrize("space", [GREY, COLOUR, Space((1, 8, 8), 17, "pmf"), Space((1, 8, 8), 2, "pmf")])
def test_a_lossless_model_has_no_error(space: Space, measure: Measure) -> None:
    found = measure(Reconstruction(), Pixels(space), pictures(space))
    assert found["mse"].value == 0
    assert found["psnr"].value == pytest.approx(MOST)
    assert found["ssim"].value == pytest.approx(1)
    assert {m.n for m in found.values()} == {40}


@pytest.mark.parametrize("shift", [1, 20])
def test_a_shift_of_levels_is_known(shift: int, measure: Measure) -> None:
    found = measure(Reconstruction(), Pixels(GREY, shift=shift), pictures(GREY, high=230))
    assert found["mse"].value == pytest.approx((shift / 255) ** 2)
    assert found["psnr"].value == pytest.approx(20 * math.log10(255 / shift))
    assert found["mse"].stderr == pytest.approx(0, abs=1e-9)
    assert found["ssim"].value < 1


def test_the_error_of_a_draw_is_its_variance_and_the_roundings(measure: Measure) -> None:
    """z = x + 6 e in levels, rounded: (36 + 1/12) / 255^2."""
    found = measure(Reconstruction(draws=20), Pixels(GREY, 2 * math.log(6)), pictures(GREY, low=60, high=190))["mse"]
    assert found.stderr
    assert abs(found.value - (36 + 1 / 12) / 255**2) < 4 * found.stderr
    assert found.stderr < 0.02 * found.value


def test_levels_are_brought_to_the_unit_interval(measure: Measure) -> None:
    """One level of 17 is 1/16; of 8-bit values, 15.9375 rounded to 15 or 16."""
    space = Space((1, 8, 8), 17, "pmf")
    found = measure(Reconstruction(), Pixels(space, shift=1), pictures(space, high=16))
    assert found["mse"].value == pytest.approx(1 / 16**2, rel=0.01)


def test_values_are_scikit_images(zoo: Zoo, digits: Dataset) -> None:
    model, split = zoo("vae"), digits.split("test").part(torch.arange(25), "some")
    batch, seed = split.take(torch.arange(25)), 5
    with torch.no_grad():
        found = reconstruct(batch, seed, model=model)
        with keyed(seed, batch.example):
            shown = displayed(model.likelihood(model.posterior(batch.x).rsample(1)), "mean", model.space)[0]
    target = eight_bit(batch.x, model.space)
    for i, (one, two) in enumerate(zip(target[:, 0].numpy(), shown[:, 0].numpy(), strict=True)):
        assert float(found["mse"][i]) == pytest.approx(mean_squared_error(one / 255, two / 255), rel=1e-9)
        assert float(found["psnr"][i]) == pytest.approx(peak_signal_noise_ratio(one, two, data_range=255), rel=1e-6)
        index = structural_similarity(one, two, win_size=7, data_range=255, use_sample_covariance=False)
        assert float(found["ssim"][i]) == pytest.approx(index, rel=1e-9)
    psnr = -10 * found["mse"].log10()
    torch.testing.assert_close(found["psnr"], psnr)


@pytest.mark.parametrize(
    ("space", "columns"),
    [
        (GREY, {"mse", "psnr", "ssim"}),
        (Space((1, 6, 9), 256, "pmf"), {"mse", "psnr"}),
        (Space((30,), 2, "pmf"), {"mse"}),
    ],
)
def test_columns_that_exist(space: Space, columns: set[str], measure: Measure) -> None:
    assert set(measure(Reconstruction(), Pixels(space), pictures(space))) == columns


def test_real_numbers_have_the_error_of_their_own_units(measure: Measure) -> None:
    space = Space((2,), None, "density")
    x = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0))
    dataset = Dataset("real", space, {"test": Split("test", x)}, "")
    found = measure(Reconstruction(draws=1), Pixels(space, math.log(0.49), shift=3.0), dataset)
    assert set(found) == {"mse"}
    assert found["mse"].stderr is not None
    assert abs(found["mse"].value - 9.49) < 4 * found["mse"].stderr


def test_a_binarised_split_is_read_afresh_and_compared_with_what_was_read(measure: Measure) -> None:
    space = Space((1, 8, 8), 2, "pmf")
    dataset = pictures(space, binarise=True)
    assert measure(Reconstruction(), Pixels(space), dataset)["mse"].value == 0
    split, model = dataset.split("test"), Pixels(space)
    with keyed(0, torch.arange(40)):
        first, second = split.take(torch.arange(40)), split.take(torch.arange(40))
    with torch.no_grad():
        sums = [reconstruct(batch, 0, model=model)["checksum"] for batch in (first, second)]
    assert (sums[0] != sums[1]).all()


def test_draws_are_averaged_and_each_examples_kept(
    measure: Measure, kept: dict[str, bytes], tmp_path: Path, zoo: Zoo, digits: Dataset
) -> None:
    few, many = (measure(Reconstruction(draws=draws), zoo("vae"), digits) for draws in (1, 8))
    for name, found in many.items():
        assert found.n == few[name].n == 360
        assert found.value != few[name].value
        one = few[name].stderr
        assert found.stderr
        assert one
        assert 0.7 * one < found.stderr < one  # draws of one image are averaged, not images
        assert abs(found.value - few[name].value) < 4 * found.stderr
    (tmp_path / "values.parquet").write_bytes(kept.popitem()[1])
    table = pq.read_table(tmp_path / "values.parquet").to_pydict()
    assert set(table) == {"mse", "psnr", "ssim"}
    for name, values in table.items():
        assert sum(values) / 360 == pytest.approx(many[name].value, rel=1e-5)


def test_an_examples_value_does_not_depend_on_its_batch(zoo: Zoo, digits: Dataset) -> None:
    model, index = zoo("vae"), torch.arange(30)
    batch = digits.split("test").take(index)
    with torch.no_grad():
        whole = reconstruct(batch, 3, model=model)
        part = reconstruct(Batch(batch.x[11:], None, index[11:]), 3, model=model)
    for name in ("mse", "psnr", "ssim"):
        torch.testing.assert_close(part[name], whole[name][11:], rtol=1e-3, atol=1e-6)


def test_a_better_model_reconstructs_better(measure: Measure, zoo: Zoo, digits: Dataset) -> None:
    found = [measure(Reconstruction(), zoo(name), digits) for name in ("nvae", "vae", "beta-vae-h")]
    for column, better in (("mse", 1), ("psnr", -1), ("ssim", -1)):
        values = [better * each[column].value for each in found]
        assert values == sorted(values)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("nan", "decoder mean is NaN or infinite"),
        ("bright", "decoder mean lies in"),
        ("constant", "all 120 reconstructions are the same example"),
    ],
)
def test_what_no_likelihood_agrees_with_fails(fault: Fault, reason: str, measure: Measure) -> None:
    with pytest.raises(ValueError, match=reason):
        measure(Reconstruction(), Pixels(GREY, fault=fault), pictures(GREY))


def test_draws_are_positive() -> None:
    with pytest.raises(ValueError, match="draws = 0 should be at least 1"):
        Reconstruction(draws=0)


def test_clouds_are_for_another_metric() -> None:
    space = Space((16, 3), None, "density")
    dataset = Dataset("clouds", space, {"test": Split("test", torch.zeros(4, 16, 3))}, "")
    model = Points(space, PointsOptions(2, (4,), (4,), components=2))
    assert Reconstruction().unsupported(model, dataset) == (
        "points of a cloud have no order to be compared in; see cloud-reconstruction"
    )
