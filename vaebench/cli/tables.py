"""What a person at a terminal sees: tables on stdout, talk on stderr."""

import json
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vaebench.boards import headline
from vaebench.boards.classes import protocol, title
from vaebench.boards.headline import Cell, Headline
from vaebench.boards.marks import unmarked
from vaebench.boards.paired import Paired
from vaebench.boards.ranking import Group
from vaebench.boards.rows import Row
from vaebench.boards.text import cell, fields, number
from vaebench.boards.verification import Judgement
from vaebench.cli.streams import plain
from vaebench.core.names import YOURS

WIDTH = 170  # of tables that no terminal shows


class _Console(Console):
    """A console that leaves a broken pipe to `cli`."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _stdout() -> Console:
    return _Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH, highlight=False)


def encoding() -> str:
    """The encoding of stdout."""
    return _stdout().encoding


def stderr() -> Console:
    """Where talk goes."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """`value` on stdout as JSON."""
    click.echo(json.dumps(value, indent=2))


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None, leading: int | None = None
) -> None:
    """A table on stdout; headings that begin with `>` are of numbers and stand right.

    With `leading`, what is too wide goes on in further tables, each with the first `leading` columns, and no cell of
    theirs is broken.
    """
    console = _stdout()
    lines = [[plain(cell, console.encoding) for cell in row] for row in rows]
    names = [plain(heading.removeprefix(">"), console.encoding) for heading in headings]
    parts = [list(range(len(names)))]
    if leading is not None:
        widths = [
            max(map(cell_len, [*name.split(), *(line[column] for line in lines)])) for column, name in enumerate(names)
        ]
        names = [textwrap.fill(*named, break_long_words=False) for named in zip(names, widths, strict=True)]
        parts = list(_side_by_side(widths, leading, console.width))
    if title is not None:
        console.print(Text(plain(title, console.encoding), style="bold"))
    for columns in parts:
        table = Table()
        for column in columns:
            table.add_column(Text(names[column]), justify="right" if headings[column].startswith(">") else "left",
                             overflow="fold")  # fmt: skip
        for line in lines:
            table.add_row(*(Text(line[column]) for column in columns))
        console.print(table)


def _side_by_side(widths: Sequence[int], leading: int, width: int) -> Iterator[list[int]]:
    """The columns of each table: the first `leading`, and at least one of the others."""
    room = width - 1 - sum(each + 3 for each in widths[:leading])  # with a cell go two blanks and a line
    first = list(range(leading))
    columns, left = first.copy(), room
    for column in range(leading, len(widths)):
        if len(columns) > leading and widths[column] + 3 > left:
            yield columns
            columns, left = first.copy(), room
        columns.append(column)
        left -= widths[column] + 3
    yield columns


def print_rows(rows: Sequence[Row]) -> None:
    """The rows of one run: a line for each column, or one for a metric that was skipped or failed."""
    lines, told = [], set()
    for row in rows:
        if row.status != "ok":
            if row.metric not in told:
                lines.append((row.metric, "", f"{row.status}: {row.reason}", "", "", ""))
            told.add(row.metric)
            continue
        lines.append((row.metric, title(row), cell(row), row.unit, _direction(row.better), str(row.n or "")))
    head = f"{rows[0].model} on {rows[0].dataset}, seed {rows[0].seed}" if rows else None
    print_table(("metric", "column", ">value ± standard error", "unit", "better", ">n"), lines, head)


def _direction(better: str) -> str:
    return {"lower": "lower", "higher": "higher"}.get(better, "")


def print_group(group: Group) -> None:
    """One class of a board: ranked columns as "rank. value ± error"; a published one with sources, and why not."""
    published = group.origin == "published"
    kind = "published, not ranked" if published else group.origin
    told = [fields(part) for part in (group.facet, group.comparability) if part]
    head = " · ".join([group.dataset, f"{group.metric} v{group.metric_version}", kind, *told])
    rows = [row for line in group.lines for row in line.rows.values() if published and row.reason]
    head = "\n".join([head, *sorted({f"{row.column} is {row.reason}" for row in rows})])
    headings = ["model", *(() if published else (">seed",))]
    headings += [f">{c.name} [{c.unit}]" if c.unit else f">{c.name}" for c in group.columns]
    lines = []
    for line in group.lines:
        name, held = line.name, line.rows
        if all(YOURS in row.marks for row in held.values()):
            name, held = f"{name} ({YOURS})", {column: unmarked(row, YOURS) for column, row in held.items()}
        cells = [name, *(() if published else ("" if line.seed is None else str(line.seed),))]
        for column in group.columns:
            row, rank = held.get(column.name), line.ranks.get(column.name)
            value = "" if row is None else cell(row)
            cells.append(f"{rank}. {value}" if rank is not None else value)
        lines.append([*cells, line.source or ""] if published else cells)
    print_table([*headings, "source"] if published else headings, lines, head, leading=1 if published else 2)


def print_headline(table: Headline, only: str | None = None, remarks: Sequence[str] = ()) -> None:
    """A board at a glance: a line a model, what each column is, and what a person would say of it, with `remarks`.

    With `only` the lines of that model, without what the columns are.
    """
    shown = [i for i, column in enumerate(table.columns) if column.cells]
    columns = [table.columns[i] for i in shown]
    letters: dict[str, str] = {}
    lines = []
    for line in (line for line in table.lines if only in (None, line.model)):
        first = line.cells[0]
        rank = "" if first is None or first.rank is None else str(first.rank)
        name = f"{line.name} ({YOURS})" if line.yours else line.name
        aside = {YOURS} if line.yours else set[str]()
        lines.append([rank, name, *(told(line.cells[i], letters, aside) for i in shown)])
    sides = {"lower": " (lower)", "higher": " (higher)"}
    heads = [f">{column.measure.name}{sides.get(column.better, '')}" for column in columns]
    print_table([">rank", "model", *heads], lines, f"{table.dataset}: {table.kind}", leading=2)
    for text in (headline.sentence(table), *remarks, marks(letters), *(() if only else map(headline.legend, columns))):
        click.echo(plain(text, encoding()))


def marks(letters: Mapping[str, str], star: bool = True) -> str:
    """What the signs behind values stand for: "* may be the best, b bound loose"."""
    told = ["* may be the best"] if star else []
    return ", ".join([*told, *(f"{letter} {mark}" for mark, letter in sorted(letters.items()))])


def told(each: Cell | None, letters: dict[str, str], aside: Set[str] = frozenset()) -> str:
    """A cell with a star where its rank may be the first, and the first letter of each mark but those `aside`.

    The letters that it has go to `letters`.
    """
    if each is None or each.row.value is None:
        return "-"
    words = [*each.row.marks, *(["refuted"] if each.row.verified == "refuted" else [])]
    words = [mark for mark in words if mark not in aside]
    letters.update({mark: mark[0] for mark in words})
    star = "*" if each.rank is not None and each.rank.first == 1 else ""
    signs = "".join(sorted({*star, *(mark[0] for mark in words)}))
    return f"{number(each.row.value, each.row.stderr)} {signs}".rstrip()


def print_differences(found: Sequence[tuple[Row, Row, Paired]]) -> None:
    """Paired comparisons of two models: a line for each class."""
    first, second, _ = found[0]
    head = f"{first.model} minus {second.model} on {first.dataset}, {title(first)}: {first.better} is better"
    lines = []
    for a, b, pair in found:
        seeds = str(a.seed) if a.seed == b.seed else f"{a.seed}, {b.seed}"
        low, high = (number(bound, pair.stderr).partition(" ")[0] for bound in (pair.low, pair.high))
        comparison = pair.comparison(a.better)
        shown = comparison if comparison == "not separable" else f"{a.model} is {comparison}"
        difference = f"{number(pair.difference, pair.stderr)} {a.unit}"
        lines.append((fields(protocol(a)), seeds, difference, f"{low} to {high}", shown, str(pair.n)))
    print_table(("class", ">seed", ">difference ± standard error", ">95% interval", "comparison", ">n"), lines, head)


def print_judgements(judged: Sequence[Judgement], level: float) -> None:
    """Rows held against their re-evaluation."""
    first = judged[0]
    head = f"{first.row.model} on {first.row.dataset}: rows against seed {first.again.seed}, level {level:g}"
    lines = []
    for row, again, test, difference, stderr, p, verdict, note in judged:
        shown = [number(each.value, each.stderr) if each.value is not None else each.status for each in (row, again)]
        apart = "" if difference is None else number(difference, stderr)
        told = f"{verdict}: {note}" if note else verdict
        lines.append(
            (row.metric, title(row), str(row.seed), *shown, apart, test, "" if p is None else f"{p:.2g}", told)
        )
    headings = ("metric", "column", ">seed", ">row", ">again", ">difference ± its noise", "test", ">p", "verdict")
    print_table(headings, lines, head)


def print_reproduction(found: Sequence[tuple[Row, Row, str]], differs: Sequence[tuple[str, str, str]]) -> None:
    """Values computed again, and what differs in the environment."""
    row = found[0][0]
    lines = [
        (title(a), "" if a.value is None else repr(a.value), b.status if b.value is None else repr(b.value), agreement)
        for a, b, agreement in found
    ]
    head = f"{row.model} on {row.dataset}: {row.metric}, seed {row.seed}, {row.parameters}"
    print_table(("column", ">row", ">now", "agreement"), lines, head)
    if differs:
        print_table(("environment", "row", "now"), differs)
    else:
        stderr().print("the environment is the same")
