"""A picture of the parameters of a known law beside those that a model has learnt."""

from collections.abc import Mapping
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure
from torch import Tensor

from vaebench.metrics.shared.packed import plotted


class Found(NamedTuple):
    """One parameter, each (K,): the truth, what the training data say of it, and what the model has."""

    true: Tensor
    data: Tensor
    model: Tensor


def png(title: str, found: Mapping[str, Found]) -> bytes:
    """A PNG: for each parameter its values by dimension, above how far data and model are off, on a log scale."""
    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        figure = Figure(figsize=(4.8 * len(found) + 0.4, 6.2), dpi=110, layout="constrained")
        panels = figure.subplots(2, len(found), squeeze=False, sharex=True)
        for (name, (true, data, model)), values, errors in zip(found.items(), panels[0], panels[1], strict=True):
            values.plot(true.numpy(), color="black", linewidth=1.2, label="true")
            values.plot(data.numpy(), ".", color="tab:blue", markersize=5, label="training data")
            values.plot(model.numpy(), "x", color="crimson", markersize=5, label="model")
            values.set(title=name)
            values.legend(fontsize=8)
            for given, style, colour in ((data, ".", "tab:blue"), (model, "x", "crimson")):
                errors.semilogy((given - true).abs().numpy(), style, color=colour, markersize=5)
            errors.set(xlabel="dimension", ylabel="distance from the truth")
        figure.suptitle(title, fontsize=11)
        return plotted(figure)
