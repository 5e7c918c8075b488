"""vaebench import."""

import dataclasses
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import click

from vaebench.cli.common import complete
from vaebench.core import registry as plugins

if TYPE_CHECKING:
    from vaebench.models.formats import Importer

_FILE = click.Path(path_type=Path)


class _Importers(click.Group):
    """A command for each importer; only the one that is asked for is loaded, and torch with it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return plugins.names("importers")

    def get_command(self, ctx: click.Context, name: str) -> click.Command:
        return _Command(name, help=plugins.summary("importers", name))


class _Command(click.Command):
    """The command of an importer, which is loaded when its arguments and options are asked for."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        if not self.params:
            from vaebench.models import formats

            assert self.name is not None
            importer = formats.load(self.name)
            self.params = [*_files(importer), *_options(importer), *_common(self.name)]
        return super().get_params(ctx)

    def invoke(self, ctx: click.Context) -> None:
        from vaebench.cli import tables as terminal
        from vaebench.models import formats

        assert self.name is not None
        importer, given = formats.load(self.name), dict(ctx.params)
        name, dataset, data, out, as_json = (given.pop(key) for key in ("name", "dataset", "data", "out", "as_json"))
        paths = [given.pop(f"file{i}") for i in range(len(importer.files))]
        options = importer.options and importer.options(**given)
        card = formats.convert(
            importer, paths, options, name=name, dataset=dataset, out=out, otherwise=self.name, data=data
        )
        assert card.weights is not None
        result = {"card": str(card.path), "weights": str(out / card.weights.file), "sha256": card.weights.sha256}
        result |= {key: str(value) for key, value in card.model.items()}
        if as_json:
            terminal.print_json(result)
        else:
            terminal.print_table(("", ""), list(result.items()))


def _files(importer: "Importer") -> list[click.Parameter]:
    return [click.Argument([f"file{i}"], type=_FILE, metavar=file) for i, file in enumerate(importer.files)]


def _options(importer: "Importer") -> list[click.Parameter]:
    """An option for each field of the importer's: of its type, its default and its help."""
    if importer.options is None:
        return []
    hints, made = get_type_hints(importer.options), list[click.Parameter]()
    for field in dataclasses.fields(importer.options):
        given: dict[str, Any] = {"required": True}
        if field.default is not dataclasses.MISSING:
            given = {"default": field.default, "show_default": field.default is not None}
        names, hint = [f"--{field.name.replace('_', '-')}", field.name], hints[field.name]
        about = field.metadata.get("help")
        made.append(click.Option(names, type=_type(hint), is_flag=hint is bool, help=about, **given))
    return made


def _type(hint: Any) -> Any:
    """The click type of a field that is a Literal of texts, a Path, str, int, float or bool, or one of them or None."""
    if get_origin(hint) is types.UnionType:
        (hint,) = (each for each in get_args(hint) if each is not types.NoneType)
    if get_origin(hint) is Literal:
        return click.Choice(get_args(hint))
    return _FILE if hint is Path else hint


def _common(importer: str) -> list[click.Parameter]:
    return [
        click.Option(["--name"], help=f"The model's name: that of the card.  [default: --card's, else {importer}]"),
        click.Option(["--dataset"], shell_complete=complete(lambda: plugins.names("datasets")),
                     help="The dataset of the card.  [default: the one that the files name]"),
        click.Option(["--data"], type=_FILE, help="Images of your own: their folder, zip or file."),
        click.Option(["--out"], type=_FILE, required=True, help="Folder for card and weights."),
        click.Option(["--json", "as_json"], is_flag=True, help="JSON on stdout instead of a table."),
    ]  # fmt: skip


@click.group("import", cls=_Importers)
def import_() -> None:
    """Turn a checkpoint of another project into a card with weights; no file is allowed to run code."""
