"""Pictures are no larger than they need to be, and what is in them stays."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from vaebench.metrics.shared.packed import packed, plotted


@pytest.mark.parametrize(("colours", "mode"), [(1, "L"), (3, "RGB")])
def test_a_picture_keeps_its_pixels_and_a_grey_one_takes_one_channel(colours: int, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, colours), dtype=np.uint8)
    pixels = np.broadcast_to(pixels, (40, 50, 3)).copy()
    with Image.open(io.BytesIO(packed(Image.fromarray(pixels)))) as image:
        assert image.mode == mode
        assert np.array_equal(np.asarray(image.convert("RGB")), pixels)


def test_a_plot_is_within_a_few_levels_of_what_was_drawn_in_under_half_the_bytes() -> None:
    figure = Figure(figsize=(4, 3), dpi=100)
    axes = figure.subplots()
    for seed, colour in enumerate(("tab:blue", "crimson")):
        x, y = np.random.default_rng(seed).normal(size=(2, 2000))
        axes.scatter(x, y, s=4, c=colour, alpha=0.3)
    figure.savefig(buffer := io.BytesIO(), format="png")
    content = plotted(figure)
    assert len(content) < len(buffer.getvalue()) / 2
    with Image.open(buffer) as drawn, Image.open(io.BytesIO(content)) as kept:
        off = np.asarray(drawn.convert("RGB"), dtype=int) - np.asarray(kept.convert("RGB"), dtype=int)
    assert abs(off).mean() < 2
