"""vaebench compress and decompress: images as bits of a model, exactly."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vaebench.cli.common import dataset_option, find_card, find_weights, model_option, options
from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.errors import DataError, UserError

if TYPE_CHECKING:
    from vaebench.core.model import LatentVariableModel
    from vaebench.models.card import Card

SUFFIX = ".code"
_out_option = click.option("--out", type=click.Path(path_type=Path), help="The file to write; it must not exist yet.")
_card_option = click.option("--card", type=click.Path(path_type=Path), help="A card of your own, instead of --model.")


def _loaded(card: "Card") -> "tuple[LatentVariableModel, str]":
    """The model of a card, and the SHA-256 of its weights."""
    from vaebench.models import loading

    weights = find_weights(card)
    model = loading.build_model(card, plugins.space_of(card.dataset))
    loading.load_weights(model, weights)
    return model.eval().requires_grad_(False), files.sha256(weights)


def _fresh(out: Path) -> Path:
    """`out`, which is not there. Raises UserError if it is, or could not be written."""
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} is there already; name another file by --out")
    files.check_writable(out.parent)
    return out


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@options(model_option, dataset_option, _card_option)
@click.option("--bins", type=click.IntRange(1, 16), default=12, show_default=True,
              help="Bins of each latent dimension, as a power of two.")  # fmt: skip
@options(_out_option)
def compress(
    file: Path, model: str | None, dataset: str | None, card: Path | None, bins: int, out: Path | None
) -> None:
    """Compress the images of FILE (.npy, uint8, of the dataset's shape) by a model, exactly.

    What was written is decoded and compared before success is said; FILE stays as it is. Needs the extra `codes`. The
    same torch on the same kind of processor gives the images back.
    """
    out = _fresh(out or file.with_name(file.name + SUFFIX))
    found = find_card(model, dataset, card)
    from vaebench.evaluation import compression

    built, weights = _loaded(found)
    if built.space.levels is None:
        raise UserError(f"{found.id}: a density has no code length: only integers are coded")
    images = compression.read_images(file, built.space)
    made = compression.compress(images, built, found.dataset, found.name, weights, bins)
    files.write_atomic(out, made.content)
    if compression.read_header(out.read_bytes(), str(out))[0].count != len(images):
        raise DataError(f"{out} is not what was written")
    size, before = len(made.content), file.stat().st_size
    click.echo(
        f"{len(images)} images, {before} bytes -> {out}, {size} bytes, decoded and compared: "
        f"{made.images / images.numel():.4f} bits a dimension, and {made.initial // 8} bytes to begin with, "
        f"{made.frame // 8} of header and checksum"
    )


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@options(model_option, dataset_option, _card_option, _out_option)
def decompress(file: Path, model: str | None, dataset: str | None, card: Path | None, out: Path | None) -> None:
    """Give back the images of FILE, which `vaebench compress` has written, as .npy; the model is the one it names.

    --card is for a model that is not of the zoo.
    """
    out = _fresh(out or (file.with_suffix("") if file.suffix == SUFFIX else file.with_name(file.name + ".npy")))
    import numpy as np

    from vaebench.evaluation import compression

    try:
        files.check_plain(file)
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error
    header, _ = compression.read_header(content, str(file))
    if card is None:
        model, dataset = model or header.model, dataset or header.dataset
    built, weights = _loaded(find_card(model, dataset, card))
    images = compression.decompress(content, built, weights, str(file))
    np.save(buffer := io.BytesIO(), images.numpy())
    files.write_atomic(out, buffer.getvalue())
    click.echo(
        f"{len(images)} images -> {out}, {len(buffer.getvalue())} bytes: those that were compressed, bit for bit"
    )
