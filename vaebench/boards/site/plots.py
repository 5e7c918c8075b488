"""Curves and histograms as SVG: equal data give equal bytes, ink follows the reader's light or dark. No torch.

Colours are the numbers of a legend that the page writes (`.c0`, ... of its style); text in pictures stays text.
"""

import io
import itertools
import warnings
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import ArrayLike, NDArray

from vaebench.boards.rows import Row
from vaebench.boards.site.artefacts import SCORES, Figure, Scores, figure
from vaebench.boards.site.sheets import Line, Sheet

COLOURS = ("#2f7fc1", "#d5752a", "#2a9a70", "#b8529f", "#c9484c", "#7b73d6", "#8f8a24", "#2b9fa8")
GREY = "#8a8a8a"
INK = "#010203"  # becomes the reader's text colour
DARK = "<style>svg{color:#1c1f24}@media(prefers-color-scheme:dark){svg{color:#d7dae0}}</style>"
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "vaebench",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
}
BINS = 40
LIMIT = 1e100
MARKED = 12  # points of a curve at most that are marked one by one


def _svg(axes: Axes) -> bytes:
    canvas, text = axes.get_figure(root=True), io.StringIO()
    assert canvas is not None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the reader's fonts draw it
        canvas.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    head, _, body = text.getvalue().replace(INK, "currentColor").partition("<defs>")
    return f"{head}{DARK}<defs>{body}".encode()


def _axes(x_name: str, y_name: str) -> Axes:
    axes = Canvas(figsize=(4.6, 2.9)).add_axes((0.14, 0.17, 0.83, 0.78))
    axes.set(xlabel=x_name, ylabel=y_name)
    axes.grid(alpha=0.25, linewidth=0.5, color=GREY)
    axes.locator_params(nbins=7)
    return axes


def _drawable(values: ArrayLike) -> NDArray[np.float64]:
    """`values` within what arithmetic on axes can bear."""
    return np.clip(np.asarray(values, dtype=np.float64), -LIMIT, LIMIT)


def _colour(i: int) -> str:
    return COLOURS[i] if i < len(COLOURS) else GREY


def _curves(rows: Sequence[tuple[str, Row]], caption: str) -> Figure:
    """The curves of rows, by name: the first in colours, any others in grey behind them."""
    curves = [(name, row.curve) for name, row in rows if row.curve is not None]
    x_name = curves[0][1][2]
    y_names = {curve[3] for _, curve in curves}
    with matplotlib.rc_context(SETTINGS):
        axes = _axes(x_name, y_names.pop() if len(y_names) == 1 else rows[0][1].unit)
        for i, (_, (x, y, *_)) in reversed(list(enumerate(curves))):
            axes.plot(
                _drawable(x),
                _drawable(y),
                color=_colour(i),
                linewidth=1.6 if i < len(COLOURS) else 0.6,
                marker="o" if len(x) <= MARKED else None,
                markersize=3,
            )
        content = _svg(axes)
    return figure(content, ".svg", caption, tuple(name for name, _ in curves))


def of_line(line: Line) -> list[Figure]:
    """The curves of one model in one run: those of one unit over one axis together, while there are colours."""

    def axis(row: Row) -> tuple[str, str]:
        return (row.curve[2] if row.curve is not None else "", row.unit)

    rows = sorted((row for row in line.rows if row.curve is not None), key=axis)
    figures = []
    for (x_name, _), group in itertools.groupby(rows, axis):
        members = [(row.column, row) for row in group]
        for start in range(0, len(members), len(COLOURS)):
            figures.append(_curves(members[start : start + len(COLOURS)], f"over {x_name}"))
    return figures


def of_sheet(sheet: Sheet) -> list[Figure]:
    """The curve of every model, a figure for each column that has curves."""
    figures = []
    for i, heading in enumerate(sheet.group.columns):
        cells = [(line, cell.row) for line in sheet.lines if (cell := line.cells[i]) is not None]
        drawn = [(_name(line, sheet.lines), row) for line, row in cells if row.curve is not None]
        if drawn:
            figures.append(_curves(drawn, heading.name))
    return figures


def _name(line: Line, lines: Iterable[Line]) -> str:
    alone = sum(other.name == line.name for other in lines) == 1
    return line.name if alone else f"{line.name}, seed {line.seed}"


def histograms(scores: Scores, own: str) -> list[Figure]:
    """The distribution of each score over each set of images, the `own` set first; tails are in the outer bins."""
    figures = []
    for score, sets in scores.items():
        ordered = sorted(sets.items(), key=lambda pair: (pair[0] != own, pair[0]))
        pooled = np.concatenate([values for _, values in ordered])
        low, high = np.quantile(_drawable(pooled), (0.005, 0.995)).tolist()
        edges = np.linspace(low, max(high, low + 1e-9 * max(1.0, abs(low))), BINS + 1)
        with matplotlib.rc_context(SETTINGS):
            axes = _axes(SCORES[score], "density")
            for i, (_, values) in enumerate(ordered):
                height, _ = np.histogram(np.clip(values, low, edges[-1]), edges, density=True)
                axes.stairs(height, edges, color=_colour(i), linewidth=1.4)
                axes.stairs(height, edges, color=_colour(i), alpha=0.18, fill=True)
            content = _svg(axes)
        figures.append(figure(content, ".svg", f"{score}, by set of images", tuple(map(itemgetter(0), ordered))))
    return figures
