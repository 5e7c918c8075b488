"""vaebench board claims."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vaebench.cli.common import as_json_option, boards_option, complete, open_boards, options, tell_boards
from vaebench.core import files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vaebench.boards.claims import Claim, Finding
    from vaebench.boards.claims_text import Filled


def _papers() -> list[str]:
    from vaebench.boards import claims

    return claims.read().papers()


@click.command()
@click.option("--paper", shell_complete=complete(_papers),
              help="One paper, such as dpvae: every comparison, and its table.")  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Every comparison, not only how many bear a claim out.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write the page of the boards, without your own rows, to this file instead: Markdown.",
)
@options(boards_option, as_json_option)
def claims(paper: str | None, everything: bool, out: Path | None, leaderboards: Path | None, as_json: bool) -> None:
    """Print what papers claim of their methods, and what the boards say of it.

    A claim is borne out by a pair of models where the 95% interval of their difference lies on its side of zero: over
    trainings where there are several, else example by example where both keep values, else from both standard errors.
    With --paper, also the rows and columns of that paper's table, measured here, and as the paper prints them.
    """
    from vaebench.boards import claims as claimed
    from vaebench.boards import claims_text as text
    from vaebench.cli import tables as terminal

    boards, found = open_boards(leaderboards), claimed.read()
    found = found if paper is None else claimed.of_paper(found, paper)
    tell_boards(leaderboards, boards)
    if out is not None:
        files.write_changed(out, text.page(found, replace(boards, own=None)).encode())
        click.echo(f"written to {out}", err=True)
        return
    findings = list(claimed.judge(found, boards))
    tables = [] if paper is None else [each for table in found.tables for each in text.filled(table, boards)]
    if as_json:
        record = {"claims": [text.record(each) for each in findings], "tables": [each.record() for each in tables]}
        terminal.print_json(record)
        return
    if paper is None and not everything:
        _print_counts(found.claims, findings)
    else:
        for claim in found.claims:
            _print_claim(
                [each for each in findings if each.claim is claim], claim.text, f"{claim.source}. {claim.note}"
            )
    for table in tables:
        _print_table(table)


def _print_counts(claimed: "Sequence[Claim]", findings: "Sequence[Finding]") -> None:
    from vaebench.boards.claims import decisive
    from vaebench.cli import tables as terminal

    lines = []
    for claim in claimed:
        counts = Counter(each.verdict.partition(":")[0] for each in decisive(findings) if each.claim is claim)
        told = (str(counts[verdict]) for verdict in ("borne out", "not separable", "not borne out"))
        lines.append((claim.paper, claim.text, *told))
    headings = ("paper", "claim", ">borne out", ">not separable", ">not borne out")
    terminal.print_table(headings, lines, "pairs of models and datasets that bear a claim out")
    click.echo("--paper PAPER shows every comparison, and the paper's table filled from these boards.")


def _print_claim(findings: "Sequence[Finding]", claim: str, source: str) -> None:
    from vaebench.boards import claims_text as text
    from vaebench.cli import tables as terminal

    lines = [
        (each.dataset, each.first.name, text.value(each.first), each.second.name, text.value(each.second),
         text.change(each), text.trained(each), each.verdict)
        for each in findings
    ]  # fmt: skip
    headings = ("dataset", "model", ">its value", "against", ">its value", ">difference [95%]", ">epochs", "verdict")
    if lines:
        terminal.print_table(headings, lines, claim, leading=2)
    else:
        click.echo(f"{claim}: no board has rows that can be compared")
    click.echo(f"{source.strip()}\n")


def _print_table(table: "Filled") -> None:
    from vaebench.cli import tables as terminal

    headings = ("method", *(f">{name}" for name in table.headings))
    if table.lines:
        lines = [[cell or "-" for cell in line] for line in table.lines]
        terminal.print_table(headings, lines, f"{table.table.title}, on {table.dataset}, measured here", leading=1)
        click.echo("".join(f"{legend}\n" for legend in table.legends), nl=False)
    if table.reported:
        lines = [[cell or "-" for cell in line] for line in table.reported]
        title = f"{table.table.title}, on {table.dataset}, as the paper prints it"
        terminal.print_table(headings, lines, title, leading=1)
