"""Pictures as PNG files, no larger than what is in them needs."""

import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image


def packed(image: Image.Image) -> bytes:
    """The PNG of an RGB `image`, of one channel where all three are equal: pixel by pixel the same."""
    pixels = np.asarray(image)
    if (pixels == pixels[..., :1]).all():
        image = Image.fromarray(pixels[..., 0])
    image.save(buffer := io.BytesIO(), format="PNG", optimize=True)
    return buffer.getvalue()


def plotted(figure: Figure) -> bytes:
    """The PNG of a plot, in the 256 colours that are nearest to its own."""
    figure.savefig(buffer := io.BytesIO(), format="png")
    with Image.open(buffer) as image:
        plain = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    plain.save(buffer := io.BytesIO(), format="PNG", optimize=True)
    return buffer.getvalue()
