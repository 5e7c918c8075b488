"""vaebench cite."""

import click

from vaebench.cli.common import complete
from vaebench.core import citations
from vaebench.core import registry as plugins
from vaebench.core.errors import UserError, unknown
from vaebench.models import card as cards


def _names() -> list[str]:
    return sorted({name for _, name in cards.ids()} | set(plugins.names("metrics")))


def _of_parts(card: cards.Card) -> str:
    """What the documentation of the card's family and objective says."""
    objective = plugins.documentation("objectives", card.objective["name"])
    return f"{plugins.documentation('adapters', card.family)}\n{objective}"


@click.command()
@click.argument("name", metavar="MODEL|METRIC", shell_complete=complete(_names))
def cite(name: str) -> None:
    """Print BibTeX of the papers behind a model of the zoo or a metric.

    They are those that the model's cards name, or where these name none, its family and objective; or those that the
    metric's documentation names. CITATION.cff cites vaebench itself.
    """
    if name in plugins.names("metrics"):
        text = plugins.documentation("metrics", name)
    elif found := [cards.find(model, dataset) for dataset, model in cards.ids() if model == name]:
        text = "\n".join(part for card in found for part in (card.summary, card.notes))
        if not citations.keys(text):
            text = "\n".join(map(_of_parts, found))
    else:
        raise unknown("model or metric", name, _names())
    if not (entries := citations.bibtex(text)):
        raise UserError(f"{name} names no paper; its documentation says where it comes from")
    click.echo("\n\n".join(entries))
