"""A picture of two latent dimensions: what the posterior covers, what the prior covers, and where they disagree."""

from collections.abc import Callable
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vaebench.metrics.shared.packed import plotted

Density = Callable[[Tensor], Tensor]
"""z (M, 2) to a log density (M,) nats."""

CELLS = 160  # of a map, in each direction
POINTS = 2500  # drawn of a cloud
RANGE = 6.0  # nats at which the map of log q(z) - log p(z) saturates
MASSES = (0.001, 0.01, 0.1, 0.5)  # contours leave so much of a density's mass outside
CLASSES = ("tab:blue", "tab:orange", "tab:green", "tab:purple", "tab:brown", "tab:olive", "tab:cyan", "tab:pink")
LOW = "crimson"


class Space(NamedTuple):
    """One panel's clouds, each (M, 2): of the posterior (or the data), of the prior, and the low-posterior samples.

    `label` (M,) are the classes of the first cloud; None where it has none.
    """

    posterior: Tensor
    prior: Tensor
    low: Tensor
    label: Tensor | None


def _cloud(axes: Axes, points: Tensor, colours: str | list[str], size: float, alpha: float, name: str) -> None:
    x, y = points[:POINTS].unbind(1)
    some = colours if isinstance(colours, str) else colours[:POINTS]
    axes.scatter(x.numpy(), y.numpy(), s=size, c=some, alpha=alpha, linewidths=0, rasterized=True, label=name)


def _classes(label: Tensor | None) -> str | list[str]:
    return CLASSES[0] if label is None else [CLASSES[int(k) % len(CLASSES)] for k in label[:POINTS]]


def _low(axes: Axes, points: Tensor, name: str) -> None:
    x, y = points.unbind(1)
    axes.scatter(x.numpy(), y.numpy(), s=14, marker="x", c=LOW, linewidths=0.9, alpha=0.9, label=name)


def _legend(axes: Axes) -> None:
    legend = axes.legend(fontsize=7, loc="upper right", framealpha=0.9, handletextpad=0.2, borderpad=0.3)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)


def _window(*clouds: Tensor) -> tuple[Tensor, Tensor]:
    """The lower left and upper right corners (2,) of a square that holds nearly all points."""
    ends = [torch.stack([c.double().quantile(q, 0) for c in clouds]) for q in (0.001, 0.999)]
    low, high = ends[0].amin(0), ends[1].amax(0)
    centre, half = (low + high) / 2, 0.6 * (high - low).max()
    return centre - half, centre + half


def _grid(low: Tensor, high: Tensor) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """The two axes and the points (CELLS^2, 2), rows along the second axis."""
    x, y = (torch.linspace(float(low[i]), float(high[i]), CELLS) for i in (0, 1))
    return x.numpy(), y.numpy(), torch.cartesian_prod(y, x).flip(1)


def _levels(density: Density, draws: Tensor) -> list[float]:
    """The values of `density` below which the masses `MASSES` of its own `draws` lie, ascending and distinct."""
    values = density(draws)
    return sorted({float(values.quantile(mass)) for mass in MASSES})


def _frame(axes: Axes, title: str, low: Tensor, high: Tensor) -> None:
    axes.set(title=title, xlim=(float(low[0]), float(high[0])), ylim=(float(low[1]), float(high[1])), aspect="equal")
    axes.tick_params(labelsize=8)
    axes.title.set_fontsize(10)


def _contours(axes: Axes, density: Density, draws: Tensor, low: Tensor, high: Tensor) -> None:
    x, y, points = _grid(low, high)
    values = density(points).reshape(CELLS, CELLS).numpy()
    widths = (0.6, 0.8, 1.0, 1.2)
    axes.contour(x, y, values, levels=_levels(density, draws), colors="black", linewidths=widths, linestyles="solid")
    axes.set_xlabel("lines hold 50, 90, 99 and 99.9% of the prior", fontsize=8)


def _disagreement(figure: Figure, axes: Axes, space: Space, log_q: Density, log_p: Density) -> None:
    """log q(z) - log p(z) wherever either has mass; the edges of both."""
    low, high = _window(space.posterior, space.prior)
    x, y, points = _grid(low, high)
    q, p = log_q(points), log_p(points)
    edges = [float(f(own).quantile(MASSES[0])) for f, own in ((log_q, space.posterior), (log_p, space.prior))]
    nowhere = (q < edges[0]) & (p < edges[1])
    shown = (q - p).clamp(-RANGE, RANGE).masked_fill(nowhere, float("nan")).reshape(CELLS, CELLS).numpy()
    image = axes.pcolormesh(x, y, shown, cmap="RdBu_r", vmin=-RANGE, vmax=RANGE, shading="nearest", rasterized=True)
    for values, edge, style in ((q, edges[0], "dashed"), (p, edges[1], "solid")):
        axes.contour(x, y, values.reshape(CELLS, CELLS).numpy(), levels=[edge], colors="black", linewidths=0.9,
                     linestyles=style)  # fmt: skip
    bar = figure.colorbar(image, ax=axes, shrink=0.75, extend="both")
    bar.ax.tick_params(labelsize=8)
    bar.set_label("log q(z) - log p(z), nats", fontsize=8)
    axes.set_xlabel("blue: pocket, red: leak; 99.9% of the prior (solid), of the posterior (dashed)", fontsize=8)
    _frame(axes, "posterior over prior", low, high)


def _latent(axes: Axes, space: Space, density: Density, title: str) -> None:
    low, high = _window(space.posterior, space.prior)
    _cloud(axes, space.posterior, _classes(space.label), 5, 0.45, "posterior samples")
    _contours(axes, density, space.prior, low, high)
    _low(axes, space.low, "low-posterior samples")
    _legend(axes)
    _frame(axes, title, low, high)


def _decoded(axes: Axes, space: Space) -> None:
    low, high = _window(space.posterior, space.prior, space.low)
    _cloud(axes, space.posterior, _classes(space.label), 5, 0.3, "data")
    _cloud(axes, space.prior, "black", 3, 0.35, "decoded prior samples")
    _low(axes, space.low, "decoded low-posterior samples")
    _legend(axes)
    _frame(axes, "data space", low, high)


def png(
    title: str, latent: Space, log_q: Density, log_p: Density, generation: Space | None, data: Space | None
) -> bytes:
    """The picture as a PNG: representation space, disagreement, generation space where it is another, data where 2-D.

    Contours leave 50%, 10%, 1% and 0.1% of the prior outside; crosses are prior samples of lowest log q(z).
    """
    panels = 2 + (generation is not None) + (data is not None)
    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        figure = Figure(figsize=(4.2 * panels + 0.5, 4.6), dpi=110, layout="constrained")
        row = list(figure.subplots(1, panels, squeeze=False)[0])
        _latent(row.pop(0), latent, log_p, "representation space z")
        _disagreement(figure, row.pop(0), latent, log_q, log_p)
        if generation is not None:
            _latent(row.pop(0), generation, lambda u: -0.5 * u.double().square().sum(1), "generation space u = g(z)")
        if data is not None:
            _decoded(row.pop(0), data)
        figure.suptitle(title, fontsize=11)
        return plotted(figure)
