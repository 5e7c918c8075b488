"""Leaderboards as a folder of static pages that opens from disk, with no network. Imports no torch.

index.html, datasets/<dataset>.html, models/<model>.html, models/<dataset>/<model>.html, pictures/, data/ and files of
style and script. Equal leaderboards give equal bytes. Text and pictures may come from strangers: text is escaped, no
name of theirs becomes a path but those of models and datasets (`rows.check_name`), and a policy in every page forbids
scripts and connections.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vaebench.boards import headline as headlines
from vaebench.boards import published, remarks
from vaebench.boards.headline import Headline
from vaebench.boards.overlay import Boards
from vaebench.boards.site import across, artefacts, charts, downloads, matrix, render, sections, sheets, strips
from vaebench.boards.site.artefacts import Figure
from vaebench.boards.site.sections import Section
from vaebench.boards.site.sheets import Line, Sheet
from vaebench.core import files
from vaebench.core.errors import UserError
from vaebench.models import card as cards

MARK = ".vaebench-site"  # the file that says that a folder is one of ours
OURS = (
    "datasets/*.html", "models/*.html", "models/*/*.html", "pictures/*", "data/*.csv", "data/*/*.csv", "data/*.parquet",
    "style.css",
)  # fmt: skip

Report = Callable[[int, int, str], None]
"""Called with the models done, the models there are, and the one in hand."""


class Board(NamedTuple):
    """One dataset: its name and line of description, its headline, its sections, and its sheets.

    `remarks` are sentences on the headline, `strips` thumbnails of samples by model, `data` files to take away.
    """

    dataset: str
    summary: str
    headline: Headline
    remarks: list[str]
    sections: list[Section]
    measured: list[Sheet]
    published: list[Sheet]
    strips: dict[str, Figure]
    data: list[tuple[str, bytes]]

    @property
    def models(self) -> list[str]:
        """Those with a page: the measured ones."""
        return sorted({line.model for sheet in self.measured for line in sheet.lines})

    @property
    def leader(self) -> tuple[headlines.Line, headlines.Cell] | None:
        """The line that is first by the first column of the headline, with its cell there; None where there is none."""
        known = [(line, cell) for line in self.headline.lines if (cell := line.cells[0]) is not None]
        return next((pair for pair in known if pair[1].rank is not None), known[0] if known else None)

    @property
    def near(self) -> list[str]:
        """The other models that may be first as well."""
        cells = [(line, line.cells[0]) for line in self.headline.lines]
        first = [line.name for line, cell in cells if cell is not None and cell.rank and cell.rank.first == 1]
        return [name for name in first if self.leader is None or name != self.leader[0].name]

    @property
    def strip(self) -> Figure | None:
        """The thumbnails of the first line that has some."""
        return next((self.strips[line.model] for line in self.headline.lines if line.model in self.strips), None)

    @property
    def reported(self) -> int:
        """How many values others have published."""
        return sum(sheet.size for sheet in self.published)


class Written(NamedTuple):
    """How many pages there are, and how many files of an earlier site were removed."""

    pages: int
    removed: int


def write(boards: Boards, out: Path, report: Report, docs: bool = False) -> Written:
    """What was written: the pages of `boards` into `out`, where those of an earlier site that are no more are removed.
    With `docs` each links to the documentation in the folder `docs` there, which is not written.

    Raises UserError if `out` cannot be written or holds anything that is not such a site; DataError for a damaged file.
    """
    files.check_writable(out)
    if not (out / MARK).is_file() and out.is_dir() and any(path.name[0] != "." for path in out.iterdir()):
        raise UserError(f"{out} holds files that vaebench board html did not write; choose a new or empty folder")
    files.write_changed(out / MARK, b"Written by vaebench board html, which removes pages here that are out of date.\n")
    written = set()
    for name, content in pages(boards, report, docs):
        files.write_changed(out / name, content)
        written.add(out / name)
    stale = {path for pattern in OURS for path in out.glob(pattern)} - written
    for path in stale:
        path.unlink()
    return Written(sum(path.suffix == ".html" for path in written), len(stale))


def pages(boards: Boards, report: Report, docs: bool = False) -> Iterator[tuple[str, bytes]]:
    """Every file of the site, as its path and content; the index last, so that its links lead somewhere."""
    for static in sorted((render.HERE / "static").iterdir()):
        yield static.name, static.read_bytes()
    names = sorted({*boards.datasets(), *published.datasets()})
    found = sorted((_board(boards, name) for name in names), key=lambda each: not each.models)  # with models first
    total, done = sum(len(each.models) for each in found), 0
    for each in found:
        for model in each.models:
            report(done, total, f"{each.dataset}/{model}")
            yield from _model(boards, each, model, docs)
            done += 1
        yield from _dataset(each, docs)
    models = {model: [each for each in found if model in each.models] for each in found for model in each.models}
    for model, where in models.items():
        yield f"models/{model}.html", _across(model, where, found, docs)
    listed = sorted((model, len(where)) for model, where in models.items())
    yield "index.html", _page("index.html", "", docs, boards=found, models=listed)
    report(done, total, "done")


def _board(boards: Boards, dataset: str) -> Board:
    compare = boards.comparer()
    rows = boards.read(dataset)
    others = published.rows(dataset)
    found = sheets.of_rows(matrix.turned(rows + others), compare)
    measured, reported = ([s for s in found if (s.group.origin == "measured") == mine] for mine in (True, False))
    table = headlines.of_rows(dataset, rows, compare)
    parts = sections.of_board(table, measured, reported)
    measured = [each.sheet for part in parts for fold in part.folds for each in fold if each.sheet is not None]
    cut = {model: strip for model in {row.model for row in rows}
           for folder in boards.folders(dataset, model)[::-1] if (strip := strips.of_model(folder))}  # fmt: skip
    summary = render.summary("datasets", dataset)
    data = list(downloads.of_board(table, rows + others, compare))
    said = remarks.of_board(table, rows, compare)
    return Board(dataset, summary, table, said, parts, measured, reported, cut, data)


def _dataset(board: Board, docs: bool) -> Iterator[tuple[str, bytes]]:
    drawn = {id(sheet): charts.of_sheet(sheet) for sheet in board.measured}
    for figure in (*(each for several in drawn.values() for each in several), *board.strips.values()):
        yield from figure.files()
    yield from board.data
    yield f"datasets/{board.dataset}.html", _page("dataset.html", "../", docs, board=board, drawn=drawn)


def _model(boards: Boards, board: Board, model: str, docs: bool) -> Iterator[tuple[str, bytes]]:
    folders = boards.folders(board.dataset, model)[::-1]  # one's own last, in the place of others
    kept = {metric: shown for folder in folders for metric, shown in artefacts.pictures(folder).items()}
    if scores := [found for folder in folders if (found := artefacts.scores(folder))]:
        kept.setdefault("regret", []).extend(charts.histograms(scores[-1], board.dataset))
    parts: dict[str, list[tuple[Sheet, Line, list[Figure]]]] = {}
    for sheet in board.measured:
        for line in (line for line in sheet.lines if line.model == model):
            parts.setdefault(sheet.group.metric, []).append((sheet, line, charts.of_line(line)))
    parts |= {metric: [] for metric in kept if metric not in parts}
    drawn = [figure for entries in parts.values() for _, _, figures in entries for figure in figures]
    for figure in (*drawn, *(figure for figures in kept.values() for figure in figures)):
        yield from figure.files()
    turned = {name: [sheet for sheet, _, _ in entries if matrix.is_turned(sheet)] for name, entries in parts.items()}
    card = cards.find(model, board.dataset) if (board.dataset, model) in cards.ids() else None
    weights = {row.weights_sha256 for entries in parts.values() for _, line, _ in entries for row in line.rows}
    content = _page(
        "model.html",
        "../../",
        docs,
        board=board,
        model=model,
        card=card,
        facts=None if card is None else artefacts.facts(card),
        stale=card is not None and card.weights is not None and weights != {card.weights.sha256},
        parts=sorted(parts.items(), key=lambda part: sections.order(part[0])),
        matrices={metric: matrix.of_sheets(sections.main_sheets(found), model) for metric, found in turned.items()},
        kept=kept,
        published=across.reports(model, [(board.dataset, board.published)]),
    )
    yield f"models/{board.dataset}/{model}.html", content


def _across(model: str, where: list[Board], boards: list[Board], docs: bool) -> bytes:
    return _page(
        "across.html",
        "../",
        docs,
        model=model,
        boards=where,
        places=across.places(model, [(each.dataset, each.measured) for each in where]),
        published=across.reports(model, [(each.dataset, each.published) for each in boards]),
    )


def _page(template: str, base: str, docs: bool, **values: Any) -> bytes:
    """A page; `base` leads from it to the site's root, where `docs` says whether there is a folder of that name."""
    return render.text(template, base=base, docs=docs, **values)
