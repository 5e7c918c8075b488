"""Draws README's picture: MNIST test images beside prior samples of the zoo's models.

python .github/picture.py --data DIR
"""

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vaebench.core import registry as plugins
from vaebench.core.data import Source
from vaebench.distributions.noise import keyed
from vaebench.models import card, loading

ROWS, COLUMNS, SCALE, GAP, HEAD = 4, 8, 2, 24, 30


def samples(name: str, source: Source, count: int) -> Tensor:
    """Decoder means of `count` draws from the prior, (count, 28, 28) in [0, 1]."""
    found = card.find(name, source.name)
    model = loading.build_model(found, source.space).eval()
    loading.load_weights(model, found.weights_path())
    with torch.no_grad(), keyed(0, torch.arange(count)):
        return model.likelihood(model.prior(count).rsample(1)).mean[0, :, 0]


def grid(images: Tensor) -> Image.Image:
    """ROWS x COLUMNS dark-on-light images, enlarged."""
    tiles = images.reshape(ROWS, COLUMNS, 28, 28).transpose(1, 2).reshape(ROWS * 28, COLUMNS * 28)
    ink = Image.fromarray((255 - 255 * tiles).byte().numpy())
    return ink.resize((ink.width * SCALE, ink.height * SCALE), Image.Resampling.NEAREST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    source = plugins.load("datasets", "mnist")
    assert isinstance(source, Source)
    data = source.load(parser.parse_args().data)
    count = ROWS * COLUMNS
    panels = {
        "MNIST test images": data.split("test").x[:count, 0] / 255,
        "mnist/vae, prior samples": samples("vae", source, count),
        "mnist/dpvae, prior samples": samples("dpvae", source, count),
    }
    width, height = COLUMNS * 28 * SCALE, ROWS * 28 * SCALE
    picture = Image.new("L", (3 * width + 4 * GAP, height + HEAD + GAP), 255)
    draw = ImageDraw.Draw(picture)
    for i, (title, images) in enumerate(panels.items()):
        left = GAP + i * (width + GAP)
        draw.text((left, 6), title, fill=0, font=ImageFont.load_default(18))
        picture.paste(grid(images), (left, HEAD))
    picture.save(Path(__file__).with_name("samples.png"), optimize=True)


if __name__ == "__main__":
    main()
