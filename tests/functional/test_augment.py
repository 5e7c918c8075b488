"""Affine maps of images against torch's rotations, flips and shifts; rounding that keeps the mean."""

import pytest
import torch
from torch import Tensor

from vaebench.functional.augment import affine, stochastic_round


def images(height: int = 6, width: int = 6) -> Tensor:
    return torch.randint(0, 17, (3, 2, height, width), generator=torch.Generator().manual_seed(0)).float()


def moved(
    x: Tensor,
    degrees: float = 0,
    shift: tuple[float, float] = (0, 0),
    scale: float = 1,
    flip: tuple[float, float] = (1, 1),
) -> Tensor:
    n = len(x)
    one, two = torch.full((n,), float(degrees)), torch.full((n,), float(scale))
    return affine(x, one, torch.tensor(shift).float().expand(n, 2), two, torch.tensor(flip).float().expand(n, 2))


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("size", [(6, 6), (5, 8)])
def test_maps_that_move_whole_pixels(size: tuple[int, int]) -> None:
    x = images(*size)
    height, width = size
    close(moved(x), x)
    close(moved(x, degrees=180), x.flip(-1, -2))
    close(moved(x, flip=(-1, 1)), x.flip(-1))
    close(moved(x, flip=(1, -1)), x.flip(-2))
    right = torch.zeros_like(x)
    right[..., 2:] = x[..., :-2]
    close(moved(x, shift=(2 / width, 0)), right)
    down = torch.zeros_like(x)
    down[..., 1:, :] = x[..., :-1, :]
    close(moved(x, shift=(0, 1 / height)), down)


def test_quarter_turns_are_anticlockwise_and_of_pixels_not_of_the_frame() -> None:
    x = images()
    close(moved(x, degrees=90), x.rot90(1, (-2, -1)))
    wide = torch.zeros(1, 1, 6, 10)
    wide[..., 2:8] = images()[:1, :1]
    turned = torch.zeros_like(wide)
    turned[..., 2:8] = images()[:1, :1].rot90(1, (-2, -1))
    close(moved(wide, degrees=90), turned)


def test_order_flip_then_turn_then_shift() -> None:
    x = images()
    expected = torch.zeros_like(x)
    expected[..., 1:] = x.flip(-1).rot90(1, (-2, -1))[..., :-1]
    close(moved(x, degrees=90, shift=(1 / 6, 0), flip=(-1, 1)), expected)


@pytest.mark.parametrize("scale", [0.8, 1.25])
def test_scale_is_of_lengths(scale: float) -> None:
    disc = ((torch.arange(64.0) - 31.5).square()[:, None] + (torch.arange(64.0) - 31.5).square() < 15**2).float()
    area = moved(disc[None, None], scale=scale).sum() / disc.sum()
    assert float(area) == pytest.approx(scale**2, rel=0.02)


def test_each_image_has_its_own_map() -> None:
    x = images()
    found = affine(x, torch.tensor([0.0, 90, 180]), torch.zeros(3, 2), torch.ones(3), torch.ones(3, 2))
    close(found, torch.stack([x[0], x[1].rot90(1, (-2, -1)), x[2].flip(-1, -2)]))


def test_rounding_keeps_the_mean_and_the_range() -> None:
    value = torch.tensor([0.0, 0.2, 0.9, 7.5, 16.0])
    u = torch.rand(40_000, 5, generator=torch.Generator().manual_seed(0))
    found = stochastic_round(value, u, 17)
    assert found.dtype == torch.uint8
    torch.testing.assert_close(found.double().mean(0), value.double(), atol=0.012, rtol=0)
    assert ((found - value).abs() < 1).all()
    extreme = stochastic_round(torch.tensor([255.0, -1e-6]), torch.tensor([1 - 2.0**-24, 2.0**-24]), 256)
    assert extreme.tolist() == [255, 0]
