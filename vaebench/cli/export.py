"""vaebench export."""

from pathlib import Path

import click

from vaebench.cli.board import board_rows, class_option
from vaebench.cli.common import as_json_option, boards_option, complete, metric_option, options
from vaebench.core import registry as plugins
from vaebench.core.errors import UserError, unknown
from vaebench.core.names import YOURS
from vaebench.models import card as cards


@click.command()
@click.argument("model", shell_complete=complete(lambda: sorted({name for _, name in cards.ids()})))
@click.argument("dataset", shell_complete=complete(lambda: plugins.names("datasets")))
@click.option("--format", "form", type=click.Choice(["model-index", "jsonl"]), default="model-index", show_default=True,
              help="YAML for a Hugging Face model card, or a line of JSON for each row.")  # fmt: skip
@options(metric_option, class_option, boards_option, as_json_option)
def export(
    model: str, dataset: str, form: str, metrics: tuple[str, ...], protocol: tuple[str, ...], leaderboards: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Print a model's rows in another format: what its card on Hugging Face states, or JSON Lines.

    model-index holds the measured values that are not refuted; jsonl every measured row as it is. With --json, either
    is one JSON document.
    """
    from vaebench.boards import export as formats
    from vaebench.boards import marks, selection
    from vaebench.cli import tables as terminal

    _, every = board_rows(leaderboards, dataset)
    rows = [marks.unmarked(row, YOURS) for row in every if row.model == model and row.origin == "measured"]
    if not rows:
        raise UserError(f"the board of {dataset!r}: {unknown('model', model, {row.model for row in every})}")
    rows = selection.of_metrics(rows, metrics, f"{model} on {dataset}")
    for text in protocol:
        rows = selection.of_class(dataset, rows, text)
    if form == "jsonl":
        if as_json:
            terminal.print_json(formats.to_json(rows))
        else:
            click.echo(formats.json_lines(rows), nl=False)
        return
    rows = [row for row in rows if row.status == "ok" and row.verified != "refuted"]
    if not rows:
        raise UserError(f"{model} on {dataset} has no value to export; see vaebench board show {dataset}")
    content = formats.card_data(rows)
    if as_json:
        terminal.print_json(content.to_dict())
    else:
        click.echo(content.to_yaml())
