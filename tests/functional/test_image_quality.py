"""PSNR by its formula and its end; SSIM against its definition written out, closed forms, laws."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vaebench.functional.image_quality import psnr, ssim


def images(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def written_out(x: Tensor, y: Tensor, window: Tensor) -> Tensor:
    """Wang et al. 2004, equations 13 to 17, one window at a time: (B,)."""
    c, d = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    side = len(window)

    def mean(value: Tensor) -> Tensor:
        patches = value.double().unfold(2, side, 1).unfold(3, side, 1)
        return (patches * window).sum((-1, -2))

    x, y = x.double(), y.double()
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    index = (2 * mx * my + c) * (2 * cov + d) / ((mx**2 + my**2 + c) * (vx + vy + d))
    return index.flatten(1).mean(1)


def gaussian_window() -> Tensor:
    line = torch.exp(-0.5 * ((torch.arange(11, dtype=torch.float64) - 5) / 1.5) ** 2)
    return torch.outer(line, line) / line.sum() ** 2


@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (2, 3, 16, 20), (2, 1, 11, 40)])
def test_ssim_is_its_definition(shape: tuple[int, ...]) -> None:
    x = images(*shape)
    y = (0.7 * x + 0.3 * images(*shape, seed=1)).to(torch.uint8)
    torch.testing.assert_close(ssim(x, y), written_out(x, y, gaussian_window()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(3, 1, 8, 8), (2, 3, 7, 7), (2, 1, 10, 40)])
def test_small_images_have_the_uniform_window(shape: tuple[int, ...]) -> None:
    x, y = images(*shape), images(*shape, seed=1)
    window = torch.full((7, 7), 1 / 49, dtype=torch.float64)
    torch.testing.assert_close(ssim(x, y), written_out(x, y, window), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("side", [8, 16])
def test_laws_of_ssim(side: int) -> None:
    x, y = images(5, 3, side, side), images(5, 3, side, side, seed=1)
    torch.testing.assert_close(ssim(x, x), torch.ones(5, dtype=torch.float64))
    assert torch.equal(ssim(x, y), ssim(y, x))
    assert (ssim(x, y) < 0.5).all()
    assert (ssim(x, 255 - x) < 0).all()
    channels = torch.stack([ssim(x[:, c : c + 1], y[:, c : c + 1]) for c in range(3)])
    torch.testing.assert_close(ssim(x, y), channels.mean(0))
    torch.testing.assert_close(ssim(x.mT.contiguous(), y.mT.contiguous()), ssim(x, y))


@pytest.mark.parametrize("side", [8, 16])
@pytest.mark.parametrize(("a", "b"), [(0, 255), (100, 120), (7, 7)])
def test_ssim_of_two_plain_images_compares_their_brightness(side: int, a: int, b: int) -> None:
    c = (0.01 * 255) ** 2
    x, y = (torch.full((1, 1, side, side), level, dtype=torch.uint8) for level in (a, b))
    assert float(ssim(x, y)) == pytest.approx((2 * a * b + c) / (a**2 + b**2 + c), rel=1e-9)


def test_ssim_falls_with_noise_and_with_blur() -> None:
    x = F.interpolate(images(1, 1, 8, 8).float(), size=(64, 64), mode="bilinear").round()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    found = [float(ssim(x.byte(), (x + s * noise).round().clamp(0, 255).byte())) for s in (0, 4, 16, 64)]
    assert found == sorted(found, reverse=True)
    blurred = [float(ssim(x.byte(), F.avg_pool2d(x, k, 1, k // 2).round().byte())) for k in (1, 5, 15)]
    assert blurred == sorted(blurred, reverse=True)


@pytest.mark.parametrize("shape", [(1, 1, 6, 28), (1, 1, 28, 6)])
def test_images_too_small_for_any_window_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="SSIM needs images of at least 7 x 7, not"):
        ssim(images(*shape), images(*shape))


def test_psnr_is_its_formula_and_has_an_end() -> None:
    levels = torch.tensor([1.0, 5, 50, 255])
    expected = torch.tensor([20 * math.log10(255 / level) for level in levels.tolist()])
    torch.testing.assert_close(psnr((levels / 255) ** 2), expected)
    most = 10 * math.log10(12 * 255**2)
    assert most == pytest.approx(58.92, abs=0.005)
    for mse in (0.0, 1e-9, 1 / (12 * 255**2)):
        assert float(psnr(torch.tensor(mse, dtype=torch.float64))) == pytest.approx(most)
