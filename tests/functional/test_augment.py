"""Moves of images against torch's rotations, flips and shifts, and against torchvision's where it is installed."""

import pytest
import torch
from torch import Tensor

from vaebench.functional.augment import affine, jitter, rigid


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


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_levels_are_moved_and_never_mixed(dtype: torch.dtype) -> None:
    x = images(12, 12).to(dtype)
    found = affine(x, *parameters(len(x)))
    assert found.dtype == dtype
    assert set(found.unique().tolist()) <= {0.0, *x.unique().tolist()}
    inside = found[:, :, 4:8, 4:8]  # comes from within x: each pixel one of x's, each image's its own
    assert all(
        (inside[i, c] == x[i, c].unsqueeze(-1).unsqueeze(-1)).any(0).any(0).all() for i in range(3) for c in (0, 1)
    )


def parameters(count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    u = torch.rand(count, 4, generator=generator) * 2 - 1
    return 30 * u[:, 0], (0.1 * u[:, 1:3] * 12).round() / 12, 1 + 0.25 * u[:, 3], torch.ones(count, 2)


def test_moves_are_those_of_torchvision() -> None:
    vision = pytest.importorskip("torchvision.transforms.v2.functional")
    x = torch.randint(0, 256, (40, 3, 12, 12), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    degrees, shift, scale, flip = parameters(40)
    found = affine(x, degrees, shift, scale, flip)
    theirs = [
        vision.affine(image, -float(d), [round(12 * float(t)) for t in s], float(f), [0.0, 0.0])
        for image, d, s, f in zip(x, degrees, shift, scale, strict=True)
    ]
    assert float((found == torch.stack(theirs)).float().mean()) > 0.998  # ties of the nearest neighbour


def test_jitter_is_torchvisions() -> None:
    vision = pytest.importorskip("torchvision.transforms.v2.functional")
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(30, 3, 7, 9, generator=generator)
    x[0], x[1, 0] = 0.5, 1.0  # grey has no hue
    u = torch.rand(30, 3, generator=generator) * 2 - 1
    found = jitter(x, 1 + 0.2 * u[:, 0], 1 + 0.5 * u[:, 1], 0.2 * u[:, 2])
    for image, (b, c, h), ours in zip(x, u.tolist(), found, strict=True):
        theirs = vision.adjust_brightness(image, 1 + 0.2 * b)
        theirs = vision.adjust_hue(vision.adjust_contrast(theirs, 1 + 0.5 * c), 0.2 * h)
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)
    grey = jitter(x[:, :1], 1 + 0.2 * u[:, 0], 1 + 0.5 * u[:, 1], 0.2 * u[:, 2])
    theirs = vision.adjust_contrast(
        vision.adjust_brightness(x[4, :1], float(1 + 0.2 * u[4, 0])), float(1 + 0.5 * u[4, 1])
    )
    torch.testing.assert_close(grey[4], theirs, atol=1e-5, rtol=0)


def test_jitter_by_nothing_is_nothing() -> None:
    x = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(jitter(x, torch.ones(5), torch.ones(5), torch.zeros(5)), x)
    torch.testing.assert_close(jitter(x, torch.ones(5), torch.ones(5), torch.full((5,), 1 / 3)), x.roll(1, 1))


def test_a_rigid_map_turns_about_the_vertical_and_scales() -> None:
    x = torch.tensor([[[1.0, 2.0, 0.0], [0.0, -1.0, 1.0]]]).expand(3, -1, -1)
    found = rigid(x, torch.tensor([0.0, 90.0, 180.0]), torch.tensor([1.0, 2.0, 0.5]))
    expected = [
        [[1, 2, 0], [0, -1, 1]],
        [[0, 4, -2], [2, -2, 0]],
        [[-0.5, 1, 0], [0, -0.5, -0.5]],
    ]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-6)
    turned = rigid(x, torch.tensor([10.0, 77.0, 300.0]), torch.ones(3))
    torch.testing.assert_close(torch.cdist(turned, turned), torch.cdist(x, x))
