"""What `board show` prints across boards: every dataset, one task, one model."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from vaebench.boards import headline, published, tasks
from vaebench.boards.headline import Cell
from vaebench.boards.marks import unmarked
from vaebench.boards.overlay import Boards
from vaebench.boards.published import INCOMPARABLE
from vaebench.boards.tasks import Result, Table, Task
from vaebench.boards.text import protocol_of
from vaebench.cli import tables as terminal
from vaebench.cli.board import board_rows
from vaebench.cli.common import open_boards, tell_boards
from vaebench.cli.streams import plain
from vaebench.core.errors import UserError, unknown
from vaebench.core.names import YOURS


class Listed(NamedTuple):
    """A result, and where it stands."""

    dataset: str
    task: Task
    result: Result


def across(
    leaderboards: Path | None, dataset: str | None, task: str | None, model: str | None, everything: bool, as_json: bool
) -> None:
    """The results of a task or of a model, on one dataset or on all; of neither: which boards there are."""
    chosen = None if task is None else tasks.find(task)
    boards = open_boards(leaderboards) if dataset is None else board_rows(leaderboards, dataset, published=True)[0]
    if model is not None:
        show_model(boards, model, dataset, chosen, everything, as_json)
    elif chosen is not None:
        show_task(boards, chosen, dataset, everything, as_json)
    else:
        show_index(boards, as_json)
    if dataset is None:
        tell_boards(leaderboards, boards)


def show_index(boards: Boards, as_json: bool) -> None:
    """A line for each dataset: how many models, which is best by the first measure; then those with others' alone."""
    found, others = [], sorted(set(published.datasets()) - set(boards.datasets()))
    for dataset in boards.datasets():
        table = headline.of_rows(dataset, boards.read(dataset), boards.comparer())
        cells = [(line.name, line.cells[0]) for line in table.lines]
        ranked = ((name, cell) for name, cell in cells if cell is not None and cell.rank is not None)
        found.append((dataset, table, *next(ranked, ("", None))))
    if as_json:
        records = [
            {"dataset": dataset, "models": len(table.lines), "measure": table.columns[0].key, "best": best or None,
             "value": cell and cell.row.value, "stderr": cell and cell.row.stderr}
            for dataset, table, best, cell in found
        ]  # fmt: skip
        terminal.print_json([*records, *({"dataset": dataset, "models": 0} for dataset in others)])
        return
    letters: dict[str, str] = {}
    lines = [
        (dataset, str(len(table.lines)), best or "-", table.columns[0].measure.name, terminal.told(cell, letters))
        for dataset, table, best, cell in found
    ]
    if lines:
        terminal.print_table(("dataset", ">models", "best", "by", ">value ± standard error"), lines)
    _say(terminal.marks(letters) if lines else f"Nothing is measured in {boards}.")
    _say(f"Published results alone: {', '.join(others)}." if others else "")
    _say("`vaebench board show DATASET` has every model; `--task TASK` and `--model MODEL` go across datasets.")


def show_task(boards: Boards, task: Task, dataset: str | None, everything: bool, as_json: bool) -> None:
    """One task: on one dataset a line a model, on all those that may be the best; or every result there is."""
    everything = everything or as_json
    found = _tables(boards, dataset, task, everything)
    if not any(table.measured for table in found) and not everything:  # of measures that lead there is none
        everything = True
        found = _tables(boards, dataset, task, everything)
    measured = [each for table in found for each in _of(table, lambda _: True)]
    others = [each for table in found for each in _of(table, lambda _: True, others=True)]
    if not measured and not others:
        where = f"the board of {dataset!r} has" if dataset else "the boards have"
        known = sorted({each.task.slug for each in _tables(boards, dataset, None, everything=False)})
        raise UserError(f"{where} no result of {task.slug}; there are results of: {', '.join(known) or 'none'}")
    if as_json:
        terminal.print_json([_record(each) for each in (*measured, *others)])
    elif dataset is not None and not everything and measured:
        terminal.print_headline(
            headline.of_rows(dataset, boards.read(dataset), boards.comparer(), (task.name, task.measures))
        )
        print_others(others, ("metric",))
    elif everything or dataset is not None:
        _print(_title(task, dataset), measured, others, with_dataset=dataset is None, with_model=True)
    else:
        _print(_title(task, None), list(_best(measured)), list(_best(others)), with_dataset=True, with_model=True)
        _say("Those that may be the best; with a DATASET every model, and with --all every metric and protocol.")


def _title(task: Task, dataset: str | None) -> str:
    return f"{task.name} on {dataset}: {task.says}" if dataset else f"{task.name}: {task.says}"


def show_own(boards: Boards, dataset: str, model: str) -> None:
    """Where one's own model stands: its line of the headline, and the results that lead its tasks.

    By its own protocols where it has none by those that the board leads with.
    """
    table = headline.of_rows(dataset, boards.read(dataset), boards.comparer())
    if any(line.cells[0] is not None for line in table.lines if line.model == model and line.yours):
        terminal.print_headline(table, only=model)
    measures = headline.shipped()[1].values()
    names = {(measure.metric, measure.column): measure.name for measure in measures if not measure.facet}

    def mine(result: Result) -> bool:
        return result.row.model == model and YOURS in result.row.marks

    found = [each._replace(result=each.result._replace(row=unmarked(each.result.row, YOURS)))
             for part in _tables(boards, dataset, None, True) for each in _of(part, mine)]  # fmt: skip
    leading = {each.result.metric for each in found if each.result.leads}
    shown = [each for each in found if each.result.leads]
    for each in found:
        name = names.get((each.result.row.metric, each.result.row.column))
        if name is not None and name not in leading:
            shown.append(each._replace(result=each.result._replace(metric=name)))
    letters: dict[str, str] = {}
    order = [headline.shipped()[1][key].name for task in tasks.tasks() for key in task.measures]
    shown.sort(key=lambda each: order.index(each.result.metric))
    lines = list(_lines(shown, ("task", "metric"), letters, False))
    terminal.print_table(("task", "metric", ">rank", ">result"), lines, f"{model} among the models of {dataset}")
    if letters:
        _say(terminal.marks(letters, star=False))


def show_others(boards: Boards, dataset: str) -> None:
    """A board of others' results alone."""
    others = [each for table in _tables(boards, dataset, None, False) for each in _of(table, lambda _: True, True)]
    _say(f"Nothing is measured on {dataset} here: these are others' results alone.")
    print_others(others)


def show_model(
    boards: Boards, model: str, dataset: str | None, task: Task | None, everything: bool, as_json: bool
) -> None:
    """One model: each result that leads a task, or all there is, with its rank."""
    known = {row.model for name in _datasets(boards, dataset) for row in (*boards.read(name), *published.rows(name))}
    if model not in known:
        raise UserError(f"{boards}: {unknown('model', model, known)}")
    found = _tables(boards, dataset, task, everything or as_json)

    def of_it(result: Result) -> bool:
        return result.row.model == model and (everything or as_json or result.leads)

    measured = _in_order(each for table in found for each in _of(table, of_it))
    others = _in_order(each for table in found for each in _of(table, of_it, others=True))
    if as_json:
        terminal.print_json([_record(each) for each in (*measured, *others)])
        return
    if not measured and not others:
        raise UserError(f"{model} has no such result by the protocols that lead; see --all")
    _print(model, measured, others, with_dataset=True, with_model=False)


def _datasets(boards: Boards, dataset: str | None) -> list[str]:
    return [dataset] if dataset else sorted({*boards.datasets(), *published.datasets()})


def _tables(boards: Boards, dataset: str | None, task: Task | None, everything: bool) -> list[Table]:
    compare = boards.comparer()
    return [
        table
        for name in _datasets(boards, dataset)
        for table in tasks.of_rows(
            name, [*boards.read(name), *published.rows(name)], compare, only=task, leading=not everything
        )
    ]


def _of(table: Table, wanted: Callable[[Result], bool], others: bool = False) -> Iterator[Listed]:
    results = table.published if others else table.measured
    return (Listed(table.dataset, table.task, result) for result in results if wanted(result))


def _in_order(found: Iterable[Listed]) -> list[Listed]:
    """By task, and then as given: by dataset."""
    order = [task.slug for task in tasks.tasks()]
    return sorted(found, key=lambda each: order.index(each.task.slug))


def _best(found: Iterable[Listed]) -> Iterator[Listed]:
    """Those that may be the first of each dataset and metric that has a better side, or the one that there is."""
    groups: dict[tuple[str, ...], list[Listed]] = {}
    for each in found:
        row = each.result.row
        if row.better != "none":
            groups.setdefault((each.dataset, each.result.metric, row.unit, row.facet), []).append(each)
    for members in groups.values():
        first = [each for each in members if each.result.rank is not None and each.result.rank.first == 1]
        yield from first or members[:1]


def _record(each: Listed) -> dict[str, object]:
    (record,) = tasks.records(Table(each.dataset, each.task, (each.result,), ()))
    return {"task": each.task.slug, "dataset": each.dataset, **record}


def _print(
    title: str, measured: Sequence[Listed], others: Sequence[Listed], *, with_dataset: bool, with_model: bool
) -> None:
    names = [*(["task"] if not with_model else []), *(["dataset"] if with_dataset else []), "metric"]
    letters: dict[str, str] = {}
    if measured:
        lines = list(_lines(measured, names, letters, with_model))
        terminal.print_table([*names, ">rank", *(["model"] if with_model else []), ">result"], lines, title)
        _say(terminal.marks(letters, star=False), *_legends(measured, with_protocol=not with_dataset))
    else:
        _say(f"{title.partition(':')[0]}: nothing is measured here.")
    print_others(others, names, with_model)


def print_others(others: Sequence[Listed], names: Sequence[str] = ("task", "metric"), with_model: bool = True) -> None:
    """What others have published, set apart, with the ranks that they report and why those are no more."""
    if not others:
        return
    sources: dict[str, dict[str, None]] = {}
    for each in others:
        sources.setdefault(each.result.row.source or "", {})
        if each.result.row.reason:
            sources[each.result.row.source or ""][each.result.row.reason.removeprefix(INCOMPARABLE)] = None
    lines = _lines(others, names, {}, with_model)
    cells = [
        [*line, f"[{1 + list(sources).index(each.result.row.source or '')}]"]
        for line, each in zip(lines, others, strict=True)
    ]
    headings = [*names, ">rank", *(["model"] if with_model else []), ">result", "source"]
    terminal.print_table(headings, cells, "published by others, ranked as reported")
    _say(tasks.APART)
    for n, (source, why) in enumerate(sources.items(), 1):
        _say(f"[{n}] {source}{f'; {INCOMPARABLE}' if why else ''}{'; '.join(why)}")


def _lines(
    found: Iterable[Listed], names: Sequence[str], letters: dict[str, str], with_model: bool
) -> Iterator[list[str]]:
    """Its cells for each result: those of `names` where they differ from the line before, rank, model, result."""
    before = [""] * len(names)
    for each in found:
        row, result = each.result.row, each.result
        unknown_unit = " (unit not stated)" if row.unit == "not stated" else ""
        place = {"task": each.task.name, "dataset": each.dataset, "metric": f"{result.metric}{unknown_unit}"}
        first = [place[name] for name in names]
        same = next((i for i in range(len(names)) if first[i] != before[i]), len(names))
        yours = {YOURS} if with_model and YOURS in row.marks else set[str]()
        model = [f"{result.name} ({YOURS})" if yours else result.name] if with_model else []
        unit = f" {row.unit}" if row.origin == "published" and row.unit not in ("", "not stated") else ""
        value = terminal.told(Cell(row, None), letters, yours) + unit
        yield [*[""] * same, *first[same:], str(result.rank or "-"), *model, value]
        before = first


def _legends(found: Sequence[Listed], with_protocol: bool) -> Iterator[str]:
    """What each leading metric is, and by which protocol, where that is one."""
    measures = {measure.name: measure for measure in headline.shipped()[1].values()}
    for name, row in {each.result.metric: each.result.row for each in reversed(found) if each.result.leads}.items():
        told = f"; {protocol_of(row)}" if with_protocol else ""
        unit = f"{row.unit}, " if row.unit else ""
        yield f"{name}: {measures[name].says}; {unit}{headline.SIDES[row.better]}{told}"


def _say(*texts: str) -> None:
    for text in filter(None, texts):
        click.echo(plain(text, terminal.encoding()))
