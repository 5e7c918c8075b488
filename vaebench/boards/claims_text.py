"""How claims are told: a page of Markdown, records, and a paper's table filled from a board. Imports no torch."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from vaebench.boards import headline, published
from vaebench.boards.claims import SEED, Claims, Finding, PaperTable, Side, judge
from vaebench.boards.classes import lowest_seeds
from vaebench.boards.overlay import Boards
from vaebench.boards.text import cell, number, rounded


def value(side: Side) -> str:
    """A side's value with its error and marks."""
    return cell(side.rows[0]) if len(side.rows) == 1 else number(side.value, side.stderr)


def change(finding: Finding) -> str:
    """The difference and its interval: "-0.5163 [-0.75, -0.28] paired"."""
    digits = max(0.0, (finding.high - finding.low) / 4)
    value, low, high = (number(each, digits).partition(" ")[0]
                        for each in (finding.difference, finding.low, finding.high))  # fmt: skip
    return f"{value} [{low}, {high}]{' paired' if finding.how == 'paired' else ''}"


def trained(finding: Finding) -> str:
    """How long the models were trained, as a part of the paper's epochs: "48%"; "-" where it is not known."""
    return "-" if finding.trained is None else f"{100 * finding.trained:.2g}%"


def record(finding: Finding) -> dict[str, Any]:
    """A finding as what `json.dumps` takes."""
    sides = {
        name: {"name": side.name, "models": [row.model for row in side.rows], "value": side.value,
               "stderr": side.stderr, "slack": side.slack, "n": side.rows[0].n,
               "marks": sorted({m for row in side.rows for m in row.marks})}
        for name, side in (("first", finding.first), ("second", finding.second))
    }  # fmt: skip
    claim = finding.claim
    return {
        "paper": claim.paper, "claim": claim.text, "source": claim.source, "metric": claim.metric,
        "column": claim.column, "better": claim.better, "dataset": finding.dataset, **sides,
        "difference": finding.difference, "low": finding.low, "high": finding.high, "how": finding.how,
        "verdict": finding.verdict, "trained": finding.trained,
    }  # fmt: skip


HEAD = """# Claims and measurements

What papers claim of their methods, and what the models of this zoo say: small nets, trained by one recipe each, once
or as often as it says, and evaluated here. Every figure in a table is a row of a board in this folder; this page is
written from them by `vaebench board claims --out leaderboards/CLAIMS.md`.

Behind a value, ± is one standard error: over test images, over three sets of samples for Fréchet distances, over
trainings where it says so. It says nothing of how far a bound is from the truth: one that has not converged is
marked, and "bounds loose" says that a difference is clear of the errors, but not larger than what the bounds may be
loose, as ranks have it. n is the number of examples or samples behind a value; Fréchet distances of few samples are
biased upwards, so compare them only at one n. The difference is the first less the second, of absolute values for
gaps, with Student's 95% interval: "paired" example by example, else from both standard errors with Welch's degrees of
freedom, or over trainings. An interval that is not over trainings says nothing of how another training would turn
out. Epochs are those of the two models, as a part of the paper's where it says how many. Nothing was tuned until it
looked right.
"""


def page(found: Claims, boards: Boards) -> str:
    """The whole page, in Markdown."""
    findings = list(judge(found, boards))
    lines = [HEAD]
    for claim in found.claims:
        said = f"{claim.source}. Column `{claim.column}` of `{claim.metric}`. {claim.note}".rstrip()
        lines += [f"## {claim.text}\n", f"{said}\n"]
        own = [each for each in findings if each.claim is claim]
        if own:
            lines.append("| dataset | n | first | its value | second | its value | difference, 95% | epochs | |")
            lines.append("|---" * 9 + "|")
        else:
            lines.append("No board has rows that can be compared.")
        for each in own:
            said = f"**{each.verdict}**" if each.verdict == "not borne out" else each.verdict
            first, second = each.first, each.second
            lines.append(
                f"| {each.dataset} | {first.rows[0].n} | {first.name} | {value(first)} | {second.name} "
                f"| {value(second)} | {change(each)} | {trained(each)} | {said} |"
            )
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


class Filled(NamedTuple):
    """A paper's table on one dataset: headings, a line a method; what stands in each column; the paper's own lines."""

    table: PaperTable
    dataset: str
    headings: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    legends: tuple[str, ...]
    reported: tuple[tuple[str, ...], ...]

    def record(self) -> dict[str, Any]:
        """As what `json.dumps` takes: a mapping for each line, with what is absent as None."""

        def lines(of: tuple[tuple[str, ...], ...]) -> list[dict[str, str | None]]:
            names = ("method", *self.headings)
            return [{name: cell or None for name, cell in zip(names, line, strict=True)} for line in of]

        return {"paper": self.table.paper, "title": self.table.title, "dataset": self.dataset,
                "measured": lines(self.lines), "columns": list(self.legends),
                "reported": lines(self.reported)}  # fmt: skip


def filled(table: PaperTable, boards: Boards) -> Iterator[Filled]:
    """The table on each of its datasets that the board has a method of, or that the paper reports.

    Where a model was trained several times, the mean of its trainings with the standard error over them.
    """
    measures = headline.shipped()[1]
    for dataset in table.datasets:
        rows = [row for row in lowest_seeds(boards.read(dataset)) if (row.origin, row.status) == ("measured", "ok")]
        names, columns = [], []
        for name, keys in table.columns.items():
            found = [headline.column_of(key, measures[key], rows, None) for key in keys]
            columns.append(next((each for each in found if each.cells), found[0]))
            told = columns[-1].measure.name
            names.append(name if name == told or not columns[-1].cells else f"{name}: {told}")
        lines = [(method, *(_trainings(column, method) for column in columns)) for method in table.methods]
        lines = [line for line in lines if any(line[1:])]
        theirs = [row for row in published.rows(dataset) if row.source == table.published]
        known = {(row.model, row.column): rounded(row)[0] for row in theirs}
        reported = [
            (method, *(_reported(known, method, [measures[key].column for key in keys])
                       for keys in table.columns.values()))
            for method in table.methods
        ]  # fmt: skip
        reported = [line for line in reported if any(line[1:])]
        if lines or reported:
            legends = [headline.legend(column) for column in columns if column.cells]
            yield Filled(table, dataset, tuple(names), tuple(lines), tuple(legends), tuple(reported))


def _trainings(column: headline.Column, method: str) -> str:
    cells = [each.row for whose, each in column.cells.items()
             if whose.model == method or ((same := SEED.fullmatch(whose.model)) and same[1] == method)]  # fmt: skip
    if len(cells) < 2:
        return cell(cells[0]) if cells else ""
    values = np.array([row.value for row in cells], dtype=np.float64)
    stderr = float(values.std(ddof=1)) / math.sqrt(len(values))
    marks = sorted({mark for row in cells for mark in row.marks})
    return f"{number(float(values.mean()), stderr)} ({', '.join([f'{len(values)} trainings', *marks])})"


def _reported(known: dict[tuple[str, str], float | None], method: str, columns: Sequence[str]) -> str:
    found = (known[method, column] for column in columns if (method, column) in known)
    return next((f"{value:.6g}" for value in found if value is not None), "")
