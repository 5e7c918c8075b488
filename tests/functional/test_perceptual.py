"""The perceptual distance by its definition, and laws; the colour shift in closed form."""

import pytest
import torch

from vaebench.functional.perceptual import colour_shift, lpips


def features(seed: int, batch: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, c, s, s, generator=generator, dtype=torch.float64) for c, s in ((4, 5), (6, 2))]


HEADS = [torch.rand(c, generator=torch.Generator().manual_seed(c), dtype=torch.float64) for c in (4, 6)]


def test_it_is_the_definition() -> None:
    f, g = features(0), features(1)
    expected = torch.zeros(3, dtype=torch.float64)
    for one, other, head in zip(f, g, HEADS, strict=True):
        for b in range(3):
            for h in range(one.shape[2]):
                for w in range(one.shape[3]):
                    u, v = one[b, :, h, w], other[b, :, h, w]
                    apart = u / u.norm() - v / v.norm()
                    expected[b] += (head * apart**2).sum() / one[0, 0].numel()
    assert torch.allclose(lpips(f, g, HEADS), expected, rtol=1e-9)


def test_its_laws() -> None:
    f, g = features(0), features(1)
    assert lpips(f, f, HEADS).tolist() == [0, 0, 0]
    assert torch.equal(lpips(f, g, HEADS), lpips(g, f, HEADS))
    assert torch.allclose(lpips([3 * each for each in f], g, HEADS), lpips(f, g, HEADS), rtol=1e-8)
    one = lpips([each[1:2] for each in f], [each[1:2] for each in g], HEADS)
    assert one.tolist() == pytest.approx(lpips(f, g, HEADS)[1:2].tolist(), rel=1e-12)


def test_a_shift_of_a_channel_is_found() -> None:
    x = torch.randint(20, 200, (5, 3, 6, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    moved = x + torch.tensor([7, 0, 256 - 12], dtype=torch.uint8).view(3, 1, 1)  # wraps to 12 less
    assert colour_shift(moved, x).tolist() == [pytest.approx([7, 0, -12])] * 5
