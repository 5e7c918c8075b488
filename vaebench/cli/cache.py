"""vaebench cache."""

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import click

from vaebench.cli.common import as_json_option
from vaebench.core import files

UNITS = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
KINDS = ("journal", "statistics", "weights", "checks")


class _Part(NamedTuple):
    """A part of the cache: what it holds, its files, and the bytes that it is kept to, if it is."""

    holds: str
    folder: Path
    found: list[tuple[Path, os.stat_result]]
    limit: int | None = None

    @property
    def size(self) -> int:
        return sum(status.st_size for _, status in self.found)

    @property
    def oldest(self) -> str | None:
        times = [status.st_mtime for _, status in self.found]
        return datetime.fromtimestamp(min(times), UTC).isoformat(timespec="seconds") if times else None


def _part(kind: str) -> _Part:
    from vaebench.evaluation.journal import LIMIT, Journal

    root = files.cache()
    if kind == "journal":
        return _Part("finished blocks of runs", root / kind, list(Journal(root / kind).blocks()), LIMIT)
    if kind == "statistics":
        return _Part("what fid and fd-domain know of references", root / "moments", list(files.under(root / "moments")))
    if kind == "checks":
        return _Part("promises that models kept", root / kind, list(files.under(root / kind)))
    return _Part("weights that were downloaded", root / kind, list(files.under(root / kind)))


def _bytes(ctx: click.Context, param: click.Parameter, value: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kMGT]B|)", value)
    if found is None:
        raise click.BadParameter(f"{value!r} should be bytes, or a number with kB, MB, GB or TB, as 500MB", ctx, param)
    return int(float(found[1]) * UNITS[found[2]])


@click.group("cache")
def cache() -> None:
    """Look at and empty the cache, which holds nothing that cannot be had again."""


@cache.command("ls")
@as_json_option
def cache_ls(as_json: bool) -> None:
    """What the cache holds: of each kind the number of files, bytes, the oldest, and its limit.

    The journal is brought to its limit at the end of each run; what was used longest ago goes first.
    """
    from rich.filesize import decimal

    from vaebench.cli import tables as terminal

    parts = {kind: _part(kind) for kind in KINDS}
    if as_json:
        records = [
            {"kind": kind, "holds": part.holds, "path": str(part.folder), "files": len(part.found), "bytes": part.size,
             "oldest": part.oldest, "limit": part.limit}
            for kind, part in parts.items()
        ]  # fmt: skip
        terminal.print_json(records)
        return
    rows = [
        (
            kind,
            part.holds,
            str(len(part.found)),
            decimal(part.size),
            part.oldest or "",
            decimal(part.limit) if part.limit else "",
        )
        for kind, part in parts.items()
    ]
    terminal.print_table(("kind", "holds", ">files", ">size", "oldest", ">limit"), rows, str(files.cache()))


@cache.command("clear")
@click.argument("kind", required=False, type=click.Choice(KINDS))
@click.option("--limit", metavar="SIZE", default="0", callback=_bytes,
              help="Leave so much of each kind, what was used last: 500MB, 2GB.")  # fmt: skip
@as_json_option
def cache_clear(kind: str | None, limit: int, as_json: bool) -> None:
    """Remove a kind of file, or all; datasets stay. Nothing is asked, for all can be computed or fetched again.

    A run that is going on goes on, but what it had finished is computed again if it is then interrupted; a download
    that is going on fails, and starts again with the next run.
    """
    from rich.filesize import decimal

    from vaebench.cli import tables as terminal

    freed = {each: files.prune(_part(each).found, limit) for each in ([kind] if kind else KINDS)}
    left = {each: _part(each).size for each in freed}
    if as_json:
        terminal.print_json([{"kind": each, "freed": freed[each], "left": left[each]} for each in freed])
    else:
        rows = [(each, decimal(freed[each]), decimal(left[each])) for each in freed]
        terminal.print_table(("kind", ">freed", ">left"), rows)
