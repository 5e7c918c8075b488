"""Compressed lengths: lossless files, the shorter of two, and what is refused."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vaebench.functional.complexity import CODECS, compressed_bits, encode, input_complexity


def noise(colours: int, side: int, levels: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(side)
    return torch.randint(0, levels, (3, colours, side, side), generator=generator).to(torch.uint8)


@pytest.mark.parametrize("side", [1, 8, 28, 32, 64])
@pytest.mark.parametrize("colours", [1, 3])
def test_files_hold_the_image_and_the_shorter_counts(colours: int, side: int) -> None:
    x = noise(colours, side)
    x[1] //= 64
    lengths = []
    for image in x.movedim(1, -1).numpy():
        plane = image[..., 0] if colours == 1 else image
        files = [encode(plane, codec) for codec in CODECS]
        for file in files:
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(file))), plane)
        lengths.append(8 * min(map(len, files)))
    assert compressed_bits(x).tolist() == lengths


def test_noise_is_longer_than_its_entropy_and_a_constant_shorter_than_either() -> None:
    bits = compressed_bits(torch.cat([noise(1, 32), noise(1, 32, 2), torch.full((1, 1, 32, 32), 9).byte()]))
    assert bool((bits[:3] > 8 * 1024).all())
    assert bool((bits[3:6] > 1024).all())
    assert bool((bits[3:6] < 3 * 1024).all())
    assert float(bits[6]) < 1024


def test_smooth_images_are_jpeg_2000s() -> None:
    """A ramp with noise in its last bits: where PNG finds no repeats, the wavelets do better."""
    ramp = torch.arange(256)[:, None] / 2 + torch.arange(256) / 3 + 4 * torch.rand(256, 256)
    plane = ramp.clamp(0, 255).byte()
    lengths = {codec: len(encode(plane.numpy(), codec)) for codec in CODECS}
    assert lengths["JPEG2000"] < lengths["PNG"]
    assert float(compressed_bits(plane[None, None])) == 8 * lengths["JPEG2000"]


def test_the_score_is_in_bits() -> None:
    nll = torch.tensor([1024 * float(np.log(256))])  # a uniform model of 1024 numbers of 256 levels
    assert float(input_complexity(nll, torch.tensor([1000.0]))) == pytest.approx(8 * 1024 - 1000)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 1, 4, 4), "integer images of 1 or 3 colours, not torch.float32"),
        (torch.zeros(2, 2, 4, 4, dtype=torch.uint8), "of 1 or 3 colours"),
        (torch.zeros(2, 16, dtype=torch.uint8), "of 1 or 3 colours"),
        (torch.full((1, 1, 4, 4), 300), r"levels 0..255, not 300..300"),
    ],
)
def test_what_is_no_image_is_refused(x: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compressed_bits(x)
