"""vaebench ls."""

import click

from vaebench.cli.common import as_json_option
from vaebench.core import registry as plugins
from vaebench.models import card as cards
from vaebench.models.card import Card


@click.command("ls")
@click.argument("kind", type=click.Choice(["models", *plugins.FOLDERS]))
@as_json_option
def ls(kind: str, as_json: bool) -> None:
    """List what there is: models of the zoo, or the plug-ins of a kind."""
    from vaebench.cli import tables as terminal

    if kind == "models":
        headings = ("dataset", "model", "summary", "weights")
        found = [cards.find(name, dataset) for dataset, name in cards.ids()]
        rows = [(c.dataset, c.name, c.summary, _weights(c)) for c in found]
    else:
        headings = ("name", "summary")  # type: ignore[assignment]
        rows = [(name, plugins.summary(kind, name)) for name in plugins.names(kind)]  # type: ignore[arg-type, misc]
    if as_json:
        terminal.print_json([dict(zip(headings, row, strict=True)) for row in rows])
    else:
        terminal.print_table(headings, rows)


def _weights(card: Card) -> str:
    """Whether there are weights: "here", at a "url", "elsewhere" (as in a clone's model_zoo), or "none"."""
    if card.weights is None:
        return "none"
    return "here" if card.weights_here() else "url" if card.weights.url else "elsewhere"
