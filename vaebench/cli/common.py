"""Options and look-ups that several verbs share."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.errors import UserError, unknown
from vaebench.models import card as cards
from vaebench.models import code
from vaebench.models.card import Card

if TYPE_CHECKING:
    from vaebench.boards.overlay import Boards
    from vaebench.evaluation.executor import Executor

Function = TypeVar("Function", bound=Callable[..., Any])


def complete(values: Callable[[], list[str]]) -> Any:
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        return [value for value in values() if value.startswith(incomplete)]

    return complete


def options(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    def apply(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


as_json_option = click.option("--json", "as_json", is_flag=True, help="JSON on stdout instead of a table.")
data_option = click.option(
    "--data", type=click.Path(path_type=Path), default=None,
    help="Folder of datasets, as torchvision lays it out.  [default: $VAEBENCH_DATA, else a cache]",
)  # fmt: skip
model_option = click.option("--model", shell_complete=complete(lambda: sorted({n for _, n in cards.ids()})))
dataset_option = click.option("--dataset", shell_complete=complete(lambda: plugins.names("datasets")))
boards_option = click.option(
    "--leaderboards", type=click.Path(path_type=Path), default=None,
    help="Folder of leaderboards to read, alone.  [default: the shipped ones, and over them, marked yours, your own of "
    "$VAEBENCH_RESULTS, else results]",
)  # fmt: skip
own_boards_option = click.option(
    "--leaderboards", type=click.Path(path_type=Path), default=None,
    help="Folder of leaderboards to write.  [default: your own, $VAEBENCH_RESULTS, else results]",
)  # fmt: skip
SEED = click.IntRange(min=0, max=2**63 - 1)  # what a row can hold
metric_option = click.option(
    "--metric", "metrics", multiple=True, metavar="METRIC", shell_complete=complete(lambda: plugins.names("metrics")),
    help="Only this metric; can be given again.",
)  # fmt: skip
weights_option = click.option(
    "--weights", "--checkpoint", "weights", type=click.Path(path_type=Path),
    help="Weights (safetensors) instead of the card's.",
)  # fmt: skip
max_draws_option = click.option(
    "--max-draws", type=click.IntRange(1, 10**9), help="Draws decoded at once: memory only, no result."
)


def _use_zoo(ctx: click.Context, param: click.Parameter, folder: Path | None) -> None:
    if folder is not None:
        ctx.with_resource(files.zoo_at(folder))


zoo_option = click.option(
    "--zoo", type=click.Path(path_type=Path, exists=True, file_okay=False), expose_value=False, callback=_use_zoo,
    help="Folder of the zoo's weights that are not installed.  [default: $VAEBENCH_ZOO, else ./model_zoo]",
)  # fmt: skip


def _allow_code(ctx: click.Context, param: click.Parameter, yes: bool) -> None:
    if yes:
        ctx.with_resource(code.allowed())


allow_code_option = click.option(
    "--allow-code", is_flag=True, expose_value=False, callback=_allow_code,
    help="Run the file of code that a card of the family module names: read it first.",
)  # fmt: skip
device_option = click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1.")


def find_card(model: str | None, dataset: str | None, card: Path | None) -> Card:
    if (model is None) == (card is None):
        raise UserError("give one of --model NAME (of the zoo) and --card FILE.toml (your own)")
    if card is not None:
        return cards.read(card, dataset)
    if dataset is None:
        raise UserError(f"--model {model} needs --dataset; it is one of {', '.join(plugins.names('datasets'))}")
    return cards.named(str(model), dataset)


def find_weights(card: Card) -> Path:
    """The card's weights file, fetched, with a bar, where they are elsewhere."""
    from vaebench.cli import bar as progress

    with progress.Bar() as bar:
        return card.weights_path(bar.fetch)


def find_cards(models: Sequence[str], datasets: Sequence[str], card: Path | None) -> list[Card]:
    """The one card of a file, or the zoo's that names and patterns choose, in which commas separate.

    Raises UserError for a pair of names that has no card, and for a pattern that chooses none.
    """
    if card is not None or not models or not datasets:
        if len(datasets) > 1:
            raise UserError(f"--card {card} is of one model; give one --dataset")
        return [find_card(next(iter(models), None), next(iter(datasets), None), card)]
    models, datasets = (",".join(texts).split(",") for texts in (models, datasets))
    found, useful = dict[str, Card](), set[str]()
    for model in models:
        for dataset in datasets:
            if _is_pattern(model) or _is_pattern(dataset):
                chosen = [(d, m) for d, m in cards.ids() if fnmatchcase(d, dataset) and fnmatchcase(m, model)]
                fitting = [cards.find(m, d) for d, m in chosen]
            else:
                fitting = [find_card(model, dataset, None)]
            found |= {each.id: each for each in fitting}
            useful |= {model, dataset} if fitting else set()
    _check_known("dataset", datasets, plugins.names("datasets"))
    _check_known("model", models, {name for _, name in cards.ids()})
    for text in (*models, *datasets):
        if text not in useful:
            raise UserError(f"{text!r}: no card of --model {','.join(models)} is for --dataset {','.join(datasets)}")
    return list(found.values())


def _is_pattern(text: str) -> bool:
    return any(sign in text for sign in "*?[")


def _check_known(kind: str, texts: Sequence[str], names: Collection[str]) -> None:
    for text in texts:
        if not any(fnmatchcase(name, text) for name in names):
            raise unknown(kind, text, names)


def open_boards(leaderboards: Path | None) -> "Boards":
    """The boards that --leaderboards names, else the shipped ones with one's own over them.

    Where the folder that is named is absent, the shipped ones alone: `tell_boards` says so.
    """
    from vaebench.boards import overlay

    shipped = files.shipped_boards()
    if leaderboards is not None and not leaderboards.is_dir() and shipped.is_dir():
        return overlay.Boards(shipped)
    return overlay.opened(leaderboards)


def tell_boards(leaderboards: Path | None, boards: "Boards") -> None:
    """Say on stderr that `boards` are not of the folder that was asked for."""
    if leaderboards is not None and boards.folder != leaderboards:
        click.echo(f"there is no folder {leaderboards}: this is the board that vaebench ships", err=True)


def executor_of(workers: int | None, cluster: str | None) -> "AbstractContextManager[Executor | None]":
    """What --workers or --cluster ask for; None is this process."""
    if workers is not None and cluster is not None:
        raise UserError("give one of --workers (processes of this machine) and --cluster (of a scheduler)")
    if workers is None and cluster is None:
        return nullcontext()
    from vaebench.evaluation import cluster as clusters

    return clusters.connect(cluster) if cluster is not None else clusters.local(workers or 1)
