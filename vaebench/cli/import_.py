"""vaebench import."""

from pathlib import Path
from typing import Literal

import click

from vaebench.cli.common import as_json_option, complete, options
from vaebench.core import registry as plugins
from vaebench.models.card import Card

_FILE = click.Path(path_type=Path)


@click.group("import")
def import_() -> None:
    """Turn foreign checkpoints into a card with weights; no file is allowed to run code."""


@import_.command("likelihood-regret")
@click.argument("encoder", type=_FILE, metavar="netE_pixel.pth")
@click.argument("decoder", type=_FILE, metavar="netG_pixel.pth")
@click.option("--name", required=True, help="The model's name: that of the card.")
@click.option("--dataset", required=True, shell_complete=complete(lambda: plugins.names("datasets")),
              help="The dataset of the card: 32x32 images of 256 levels.")  # fmt: skip
@click.option("--out", type=_FILE, required=True, help="Folder for card and weights.")
@options(as_json_option)
def likelihood_regret(encoder: Path, decoder: Path, name: str, dataset: str, out: Path, as_json: bool) -> None:
    """The official Likelihood Regret state dicts, encoder then decoder."""
    from vaebench.core.data import Source
    from vaebench.models.formats.likelihood_regret import convert

    source = plugins.load("datasets", dataset)
    assert isinstance(source, Source)
    _print(convert(encoder, decoder, name=name, dataset=dataset, space=source.space, out=out), out, as_json)


@import_.command("nvae")
@click.argument("checkpoint", type=_FILE, metavar="checkpoint.pt")
@click.option("--name", default="nvae", show_default=True, help="The model's name: that of the card.")
@click.option("--dataset", shell_complete=complete(lambda: plugins.names("datasets")),
              help="The dataset of the card  [default: the checkpoint's own]")  # fmt: skip
@click.option("--tail", type=click.Choice(["strict", "nvae"]), default="strict", show_default=True,
              help="The logistic mixture's upper tail: proper, or as released, where 254 and 255 overlap.")  # fmt: skip
@click.option("--out", type=_FILE, required=True, help="Folder for card and weights.")
@options(as_json_option)
def nvae(
    checkpoint: Path, name: str, dataset: str | None, tail: Literal["strict", "nvae"], out: Path, as_json: bool
) -> None:
    """A checkpoint of the official NVAE code."""
    from vaebench.core.data import Source, Space
    from vaebench.models.formats.nvae import convert

    def space_of(name: str) -> Space:
        source = plugins.load("datasets", name)
        assert isinstance(source, Source)
        return source.space

    _print(convert(checkpoint, name=name, dataset=dataset, space_of=space_of, tail=tail, out=out), out, as_json)


def _print(card: Card, out: Path, as_json: bool) -> None:
    from vaebench.cli import tables as terminal

    assert card.weights is not None
    result = {"card": str(card.path), "weights": str(out / card.weights.file), "sha256": card.weights.sha256}
    result |= {key: str(value) for key, value in card.model.items()}
    if as_json:
        terminal.print_json(result)
    else:
        terminal.print_table(("", ""), list(result.items()))
