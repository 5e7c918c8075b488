"""vaebench data."""

from pathlib import Path

import click

from vaebench.cli.common import as_json_option, complete, data_option, options
from vaebench.core import registry as plugins
from vaebench.core.errors import DataError
from vaebench.core.registry import load_dataset


@click.group("data")
def data() -> None:
    """Look at and fetch datasets."""


@data.command("ls")
@options(data_option, as_json_option)
def data_ls(data: Path | None, as_json: bool) -> None:
    """Which datasets are there, and whether their content is the pinned one.

    `bundled` ones come with vaebench: they are made, and held against the pin, when they are used.
    """
    from vaebench.cli import tables as terminal
    from vaebench.core.data import Source

    rows, told = [], dict[str, tuple[str, str, str]]()
    for name in plugins.names("datasets"):
        source = plugins.load("datasets", name)
        if isinstance(source, Source) and source.twin_of in told:  # of the same files, read in another way
            rows.append((name, *told[source.twin_of]))
            continue
        if isinstance(source, Source) and source.bundled and source.fingerprint is not None:
            told[name] = ("bundled", "", source.fingerprint[:12])
            rows.append((name, *told[name]))
            continue
        try:
            found = load_dataset(name, data, download=False)
            sizes = ", ".join(f"{split} {len(part)}" for split, part in found.splits.items())
            rows.append((name, "here", sizes, found.fingerprint[:12]))
        except DataError as error:
            state = "absent" if isinstance(error.__cause__, FileNotFoundError) else "damaged"
            rows.append((name, state, "" if state == "absent" else str(error), ""))
        told[name] = rows[-1][1:]
    headings = ("name", "state", "splits", "fingerprint")
    if as_json:
        terminal.print_json([dict(zip(headings, row, strict=True)) for row in rows])
    else:
        terminal.print_table(headings, rows)


@data.command("get")
@click.argument("name", shell_complete=complete(lambda: plugins.names("datasets")))
@data_option
def data_get(name: str, data: Path | None) -> None:
    """Download a dataset where it is absent, and check its content."""
    found = load_dataset(name, data)
    click.echo(f"{name}: {', '.join(f'{s} {len(p)}' for s, p in found.splits.items())}, {found.fingerprint}", err=True)
