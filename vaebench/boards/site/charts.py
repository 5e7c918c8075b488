"""Curves and histograms as SVG: equal data give equal bytes, ink follows the reader's light or dark. No torch.

They are filled in templates, at a millisecond each: a site holds hundreds, and a canvas of matplotlib takes fifty.
Colours are the numbers of a legend that the page writes (`.c0`, ... of its style); text in pictures stays text.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vaebench.boards.headline import listed
from vaebench.boards.rows import Row
from vaebench.boards.site import axes, render
from vaebench.boards.site.artefacts import SCORES, Figure, Scores, figure
from vaebench.boards.site.sheets import Line, Sheet

COLOURS = ("#2f7fc1", "#d5752a", "#2a9a70", "#b8529f", "#c9484c", "#7b73d6", "#8f8a24", "#2b9fa8")
GREY = "#8a8a8a"
BINS = 40
LIMIT = 1e100
MARKED = 12  # points of a curve at most that are marked one by one
LEFT, RIGHT, TOP, BOTTOM = 58, 438, 12, 238  # of the axes, in a picture of 460 by 290


class Axis(NamedTuple):
    """A name, the ends, and where they lie in the picture."""

    name: str
    low: float
    high: float
    start: float
    end: float

    def at(self, values: ArrayLike) -> NDArray[np.float64]:
        """Where values lie in the picture."""
        share = (np.asarray(values, dtype=np.float64) - self.low) / (self.high - self.low)
        return np.asarray(self.start + np.clip(share, 0, 1) * (self.end - self.start))

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Where ticks lie, and what they say."""
        found = axes.ticks(self.low, self.high)
        return [(round(float(self.at(value)), 1), f"{value:.6g}") for value in found if self.low <= value <= self.high]


class Trace(NamedTuple):
    """A line of a chart, as the `d` of a path, with the points to mark one by one."""

    path: str
    colour: str
    width: float
    filled: bool = False
    points: tuple[tuple[float, float], ...] = ()


def _axis(name: str, values: NDArray[np.float64], start: float, end: float, room: float) -> Axis:
    """An axis that all of `values` lie in, with `room` about them as a share of their width."""
    low, high = axes.spread(float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    margin = room * (high - low)
    return Axis(name, low - margin, high + margin, start, end)


def _drawable(values: ArrayLike) -> NDArray[np.float64]:
    """`values` within what arithmetic on axes can bear."""
    return np.clip(np.asarray(values, dtype=np.float64), -LIMIT, LIMIT)


def _colour(i: int) -> str:
    return COLOURS[i] if i < len(COLOURS) else GREY


def _path(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    places = [f"{a:.1f} {b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    return f"M{'L'.join(places)}" if places else ""


def _drawn(x: Axis, y: Axis, traces: Iterable[Trace]) -> bytes:
    frame = {"left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM}
    return render.text("chart.svg", x=x, y=y, traces=list(traces), **frame)


def _curves(rows: Sequence[tuple[str, Row]], caption: str) -> Figure:
    """The curves of rows, by name: the first in colours, any others in grey behind them."""
    curves = [(name, row.curve) for name, row in rows if row.curve is not None]
    x_name = curves[0][1][2]
    y_names = {curve[3] for _, curve in curves}
    y_name = y_names.pop() if len(y_names) == 1 else rows[0][1].unit
    both = [(_drawable(x), _drawable(y)) for _, (x, y, *_) in curves]
    x_axis = _axis(x_name, np.concatenate([x for x, _ in both]), LEFT, RIGHT, 0.02)
    y_axis = _axis(y_name, np.concatenate([y for _, y in both]), BOTTOM, TOP, 0.05)
    traces = []
    for i, (x, y) in reversed(list(enumerate(both))):
        across, up = x_axis.at(x), y_axis.at(y)
        points = zip(across.round(1).tolist(), up.round(1).tolist(), strict=True) if len(x) <= MARKED else ()
        width = 1.8 if i < len(COLOURS) else 0.7
        traces.append(Trace(_path(across, up), _colour(i), width, points=tuple(points)))
    return figure(_drawn(x_axis, y_axis, traces), ".svg", caption, tuple(name for name, _ in curves))


def of_line(line: Line) -> list[Figure]:
    """The curves of one model in one run: those of one unit over one axis together, while there are colours."""

    def axis(row: Row) -> tuple[str, str]:
        return (row.curve[2] if row.curve is not None else "", row.unit)

    rows = sorted((row for row in line.rows if row.curve is not None), key=axis)
    figures = []
    for (x_name, _), group in itertools.groupby(rows, axis):
        members = [(row.column, row) for row in group]
        for start in range(0, len(members), len(COLOURS)):
            few = members[start : start + len(COLOURS)]
            names = listed([column for column, _ in few])
            figures.append(_curves(few, f"The {names} of {line.model} by {x_name}."))
    return figures


def of_sheet(sheet: Sheet) -> list[Figure]:
    """The curve of every model, a figure for each column that has curves."""
    figures = []
    for i, heading in enumerate(sheet.group.columns):
        cells = [(line, cell.row) for line in sheet.lines if (cell := line.cells[i]) is not None]
        drawn = [(_name(line, sheet.lines), row) for line, row in cells if row.curve is not None]
        if drawn:
            x_name = next(row.curve[2] for _, row in drawn if row.curve is not None)
            figures.append(_curves(drawn, f"The {heading.name} of each model by {x_name}."))
    return figures


def _name(line: Line, lines: Iterable[Line]) -> str:
    alone = sum(other.name == line.name for other in lines) == 1
    return line.name if alone else f"{line.name}, seed {line.seed}"


def histograms(scores: Scores, own: str) -> list[Figure]:
    """The distribution of each score over each set of images, the `own` set first; tails are in the outer bins."""
    figures = []
    for score, sets in scores.items():
        ordered = sorted(sets.items(), key=lambda pair: (pair[0] != own, pair[0]))
        values = {name: _drawable(each) for name, each in ordered}
        pooled = np.concatenate(list(values.values()))
        low, high = np.clip(np.quantile(pooled, (0.005, 0.995)), *axes.fences(pooled)).tolist()
        edges = np.linspace(low, max(high, low + 1e-9 * max(1.0, abs(low))), BINS + 1)
        shares = [np.histogram(np.clip(each, low, edges[-1]), edges)[0] / len(each) for each in values.values()]
        x_axis = _axis(SCORES[score], edges, LEFT, RIGHT, 0.0)
        y_axis = _axis(
            "share of images", np.array([0.0, 1.05 * max(share.max() for share in shares)]), BOTTOM, TOP, 0.0
        )
        across = x_axis.at(np.repeat(edges, 2))
        traces = [
            Trace(_path(across, y_axis.at(np.concatenate([[0.0], np.repeat(share, 2), [0.0]]))), _colour(i), 1.4, True)
            for i, share in enumerate(shares)
        ]
        caption = f"The score {score!r} of the test images and of foreign ones; what lies beyond is in the outer bars."
        figures.append(figure(_drawn(x_axis, y_axis, traces), ".svg", caption, tuple(values)))
    return figures
