"""Leaderboards as a folder of static pages that opens from disk, with no network. Imports no torch.

index.html, datasets/<dataset>.html, models/<dataset>/<model>.html, pictures/ and two files of style and script. Equal
leaderboards give equal bytes. Text and pictures may come from strangers: text is escaped, no name of theirs becomes a
path but those of models and datasets (`rows.check_name`), and a policy in every page forbids scripts and connections.
"""

import json
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vaebench.boards import per_example, published
from vaebench.boards import store as leaderboards
from vaebench.boards.classes import title
from vaebench.boards.paired import comparer
from vaebench.boards.site import artefacts, plots, sheets
from vaebench.boards.site.artefacts import Figure
from vaebench.boards.site.sheets import PROVENANCE, Line, Sheet
from vaebench.boards.text import number
from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core.errors import UserError
from vaebench.models import card as cards

HERE = Path(__file__).parent
MARK = ".vaebench-site"  # the file that says that a folder is one of ours
OURS = ("datasets/*.html", "models/*/*.html", "pictures/*")
Report = Callable[[int, int, str], None]
"""Called with the models done, the models there are, and the one in hand."""


class Board(NamedTuple):
    """One dataset: its name and line of description, and its sheets, measured and published."""

    dataset: str
    summary: str
    measured: list[Sheet]
    published: list[Sheet]

    @property
    def models(self) -> list[str]:
        """Those with a page: the measured ones."""
        return sorted({line.model for sheet in self.measured for line in sheet.lines})


def write(root: Path, out: Path, report: Report) -> int:
    """Write the pages of the leaderboards under `root` into `out`, and remove those of earlier ones; their number.

    UserError where `out` cannot be written or holds anything that is not such a site; DataError for a damaged file.
    """
    files.check_writable(out)
    if not (out / MARK).is_file() and out.is_dir() and any(path.name[0] != "." for path in out.iterdir()):
        raise UserError(f"{out} holds files that vaebench board html did not write; choose a new or empty folder")
    files.write_changed(out / MARK, b"Written by vaebench board html, which removes pages here that are out of date.\n")
    written = set()
    for name, content in pages(root, report):
        files.write_changed(out / name, content)
        written.add(out / name)
    for stale in {path for pattern in OURS for path in out.glob(pattern)} - written:
        stale.unlink()
    return sum(path.suffix == ".html" for path in written)


def pages(root: Path, report: Report) -> Iterator[tuple[str, bytes]]:
    """Every file of the site, as its path and content; the index last, so that its links lead somewhere."""
    for static in sorted((HERE / "static").iterdir()):
        yield static.name, static.read_bytes()
    names = sorted({*leaderboards.datasets(root), *published.datasets()})
    boards = [_board(root, name) for name in names]
    total, done = sum(len(each.models) for each in boards), 0
    for each in boards:
        for model in each.models:
            report(done, total, f"{each.dataset}/{model}")
            yield from _model(root, each, model)
            done += 1
        yield from _dataset(each)
    yield "index.html", _render("index.html", "", boards=boards, champions=sheets.champions)
    report(done, total, "done")


def _board(root: Path, dataset: str) -> Board:
    compare = comparer(partial(per_example.read, root))
    found = sheets.of_rows(leaderboards.read(root, dataset) + published.rows(dataset), compare)
    parts = [[sheet for sheet in found if (sheet.group.origin == "measured") == mine] for mine in (True, False)]
    return Board(dataset, _summary("datasets", dataset), *parts)


def _dataset(board: Board) -> Iterator[tuple[str, bytes]]:
    drawn = [plots.of_sheet(sheet) for sheet in board.measured]
    for figure in (figure for figures in drawn for figure in figures):
        yield from figure.files()
    content = _render("dataset.html", "../", board=board, measured=list(zip(board.measured, drawn, strict=True)))
    yield f"datasets/{board.dataset}.html", content


def _model(root: Path, board: Board, model: str) -> Iterator[tuple[str, bytes]]:
    kept = artefacts.pictures(root / board.dataset / model)
    if scores := artefacts.scores(root / board.dataset / model):
        kept.setdefault("regret", []).extend(plots.histograms(scores, board.dataset))
    parts: dict[str, list[tuple[Sheet, Line, list[Figure]]]] = {metric: [] for metric in kept}
    for sheet in board.measured:
        for line in (line for line in sheet.lines if line.model == model):
            parts.setdefault(sheet.group.metric, []).append((sheet, line, plots.of_line(line)))
    drawn = [figure for entries in parts.values() for _, _, figures in entries for figure in figures]
    for figure in (*drawn, *(figure for figures in kept.values() for figure in figures)):
        yield from figure.files()
    others = [sheet for sheet in board.published if any(line.model == model for line in sheet.lines)]
    card = cards.find(model, board.dataset) if (board.dataset, model) in cards.ids() else None
    weights = {row.weights_sha256 for entries in parts.values() for _, line, _ in entries for row in line.rows}
    content = _render(
        "model.html",
        "../../",
        board=board,
        model=model,
        card=card,
        facts=None if card is None else artefacts.facts(card),
        stale=card is not None and card.weights is not None and weights != {card.weights.sha256},
        parts=sorted(parts.items()),
        kept=kept,
        published=others,
    )
    yield f"models/{board.dataset}/{model}.html", content


@cache
def _summary(kind: plugins.Kind, name: str) -> str:
    """What `vaebench ls` says of a plug-in; nothing of one that is not installed."""
    return plugins.summary(kind, name) if name in plugins.names(kind) else ""


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda row: number(row.value, row.stderr, row.low, row.high)
    environment.filters["title"] = title
    environment.filters["json"] = lambda value: value if isinstance(value, str) else json.dumps(value)
    environment.filters["provenance"] = lambda row: [
        (name.replace("_", " "), value) for name in PROVENANCE if (value := getattr(row, name)) is not None
    ]
    environment.globals["metric_summary"] = lambda name: _summary("metrics", name)
    return environment


def _render(template: str, base: str, **values: Any) -> bytes:
    """A page; `base` leads from it to the site's root."""
    return _environment().get_template(template).render(base=base, **values).encode()
