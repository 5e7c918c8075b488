"""The public face: what `import vaebench` gives, and the verbs of the command line call."""

import copy
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import final

import torch

from vaebench.boards.rows import Row
from vaebench.core import checks, files, registry
from vaebench.core.checks import Check
from vaebench.core.data import Dataset
from vaebench.core.device import torch_device
from vaebench.core.errors import DataError, UserError, unknown
from vaebench.core.metric import Metric
from vaebench.core.model import LatentVariableModel
from vaebench.evaluation import budget as budgets
from vaebench.evaluation import choice, runner
from vaebench.evaluation import entry as entries
from vaebench.evaluation.admission import admit
from vaebench.evaluation.budget import Budget
from vaebench.evaluation.choice import Preset
from vaebench.evaluation.entry import Entry
from vaebench.evaluation.journal import Journal
from vaebench.evaluation.progress import Progress, Silent
from vaebench.evaluation.results import Results
from vaebench.evaluation.run import Settings, dear
from vaebench.models import card as cards
from vaebench.models import code, loading
from vaebench.models.fitting import fit
from vaebench.models.own import Unbound

DTYPES = ("float32", "float64", "bfloat16")
MOST_SEED = 2**63 - 1


@final
class Checks(list[Check]):
    """The outcomes of several checks: prints as a line for each, with what was seen where it was not kept."""

    def __str__(self) -> str:
        return "\n".join(f"{each.result:<10}{each.name}" + f": {each.detail}" * bool(each.detail) for each in self)


def load_dataset(name: str, *, data: str | Path | None = None, download: bool = True) -> Dataset:
    """The dataset `name`: its splits, space and fingerprint.

    Args:
        name: as `vaebench ls datasets` lists it.
        data: the torchvision root that its files lie below; by default $VAEBENCH_DATA, else a folder of the cache.
        download: whether absent files are fetched.

    Returns:
        The dataset, whose `split("test").take(index)` reads examples.

    Raises:
        UserError: the name is unknown.
        DataError: its files cannot be had or read.
    """
    return registry.load_dataset(name, None if data is None else Path(data), download)


def load_model(
    model: str | Path,
    dataset: Dataset | str | None = None,
    *,
    weights: str | Path | None = None,
    data: str | Path | None = None,
    allow_code: bool = False,
    progress: Progress | None = None,
) -> LatentVariableModel:
    """A trained model, in evaluation mode on the CPU.

    Args:
        model: its name in the zoo, or the path of a card.
        dataset: the dataset, or its name; a card of one's own may name it itself.
        weights: a safetensors file, instead of the card's.
        data: as in `load_dataset`.
        allow_code: whether the file of code that a card names may run.
        progress: is told of downloads.

    Returns:
        The model, an nn.Module.

    Raises:
        UserError: there is no such model, dataset or card, or the card's options do not fit.
        DataError: data or weights are absent, damaged, or do not fit the card.
    """
    with code.allowed(allow_code):
        return entry_of(model, dataset, weights=weights, data=data, progress=progress).model.eval()


def check(
    model: LatentVariableModel | Unbound | str | Path,
    dataset: Dataset | str | None = None,
    *,
    metrics: Sequence[str] = (),
    data: str | Path | None = None,
    weights: str | Path | None = None,
    allow_code: bool = False,
    progress: Progress | None = None,
) -> Checks:
    """The outcome of each check of the conformance suite on a model, its dataset and metrics; prints a line for each.

    Args:
        model: as in `evaluate`; a card's weights are read if it has any.
        dataset: as in `evaluate`.
        metrics: names of metrics to check as well.
        data: as in `load_dataset`.
        weights: as in `load_model`.
        allow_code: as in `load_model`.
        progress: is told of downloads.

    Returns:
        A `Check` for each promise: its name, whether it passed, and in detail what was seen where it was not kept.

    Raises:
        UserError: as `evaluate`.
        DataError: as `evaluate`.
    """
    choice.check_names(metrics)
    if isinstance(model, str | Path):
        card, content = _card(model, dataset, data)
        with code.allowed(allow_code):
            network = loading.build_model(card, content.space)
        if weights is not None or card.weights is not None:
            path = card.weights_path((progress or Silent()).fetch) if weights is None else Path(weights)
            loading.load_weights(network, path)
        network = fit(network, content)
    else:
        content = _dataset(dataset, data)
        network = _own(model, content)
    found = [*checks.check_model(network), *checks.check_dataset(content)]
    presets = chain.from_iterable(choice.presets(name).values() for name in metrics)
    return Checks([*found, *(result for preset in presets for result in checks.check_metric(preset))])


def evaluate(
    model: LatentVariableModel | Unbound | str | Path,
    dataset: Dataset | str | None = None,
    metrics: str | Sequence[str] | Mapping[str, Metric] | None = None,
    preset: Preset = "standard",
    *,
    data: str | Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    weights: str | Path | None = None,
    name: str | None = None,
    max_draws: int | None = None,
    allow_code: bool = False,
    unchecked: bool = False,
    budget: str | None = None,
    progress: Progress | None = None,
) -> Results:
    """The values of every metric that applies, with their errors; nothing is written until `Results.write`.

    A metric that fails or is skipped costs its own values only: `Results.rows` say why. Finished blocks of a card's
    model are kept, so that the same call after an interruption goes on from there; those of a model in memory, whose
    code has no name, are not.

    Args:
        model: a model, what `from_module` gives, a name of the zoo, or the path of a card. A model in memory is copied,
            and stays as it is.
        dataset: a dataset, or its name; a card of one's own may name it itself.
        metrics: a name, names, or metrics by name; by default all, but for what takes hours at the preset: `certified`
            and `regret`, of presets other than quick.
        preset: the parameters of metrics that are given by name: "quick", "standard" or "paper".
        data: as in `load_dataset`.
        seed: of all evaluation noise.
        device: "cpu", "cuda", "cuda:1".
        dtype: "float32", "float64", or "bfloat16", which is of networks alone.
        weights: a safetensors file, instead of the card's.
        name: of the model on a board; by default the card's, or "own-" and the class of a model in memory.
        max_draws: how many are decoded at once: memory only, no result.
        allow_code: whether the file of code that a card names may run.
        unchecked: whether to measure a model that need not keep the promises without which a likelihood cannot be
            right; its values are marked.
        budget: what it is to take, such as "10m", shared by all metrics: each takes as many examples as fit.
        progress: is told of passes, failures and downloads, as `progress.Progress` says.

    Returns:
        The values by column, as `results["nll"]`; its `write` puts the rows on a board.

    Raises:
        UserError: something that is named does not exist, or does not fit; `model` is not a model, or breaks a promise
            of models, as a likelihood that does not sum to 1.
        DataError: data or weights are absent, damaged, or do not fit the card.
    """
    heard = Silent() if progress is None else progress
    _chosen(metrics, preset)  # an error now, not after a download
    if not 0 <= seed <= MOST_SEED:
        raise UserError(f"seed {seed} should be from 0 to {MOST_SEED}")
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    settings = Settings(
        torch_device(device),
        getattr(torch, dtype),
        seed,
        max_draws,
        journal=Journal(files.cache() / "journal") if isinstance(model, str | Path) else None,
        data=None if data is None else Path(data),
        unchecked=unchecked,
        foresee=progress is not None,
        budget=None if budget is None else Budget.of(budgets.seconds(budget)),
    )
    if isinstance(model, str | Path):
        with code.allowed(allow_code):
            entry = entry_of(model, dataset, weights=weights, data=data, name=name, progress=heard)
            _ = entry.model  # made, and kept, while its code may run
    else:
        content = _dataset(dataset, data)
        called = entries.check_own(name or _name_of(model), content.name)
        entry = entries.of_model(_own(copy.deepcopy(model), content), content, called)
    rows, kept = list[Row](), dict[tuple[str, str], bytes]()

    def keep(metric: str, file: str, content: bytes) -> None:
        kept[metric, file] = content

    chosen = _chosen(metrics, preset, entry)
    marks = admit(entry, settings, heard) if chosen else ()
    for finished in runner.measure(entry, chosen, settings, progress=heard, keep=keep, marks=marks):
        rows += finished
    return Results(rows, kept)


def entry_of(
    model: str | Path,
    dataset: Dataset | str | None = None,
    *,
    weights: str | Path | None = None,
    data: str | Path | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> Entry:
    """The entry of a model of the zoo or of a card, under its name or another. Arguments and errors as `load_model`."""
    card, content = _card(model, dataset, data)
    path = card.weights_path((progress or Silent()).fetch) if weights is None else Path(weights)
    return entries.of_card(card, path, content, name=name)


def _card(model: str | Path, dataset: Dataset | str | None, data: str | Path | None) -> tuple[cards.Card, Dataset]:
    card = cards.named(model, dataset.name if isinstance(dataset, Dataset) else dataset)
    return card, dataset if isinstance(dataset, Dataset) else load_dataset(card.dataset, data=data)


def _dataset(dataset: Dataset | str | None, data: str | Path | None) -> Dataset:
    if dataset is None:
        raise UserError("a model in memory needs a dataset; give its name, or a Dataset")
    if not isinstance(dataset, Dataset):
        return load_dataset(dataset, data=data)
    try:
        dataset.check()
    except ValueError as error:
        raise DataError(str(error)) from error
    return dataset


def _own(model: object, dataset: Dataset) -> LatentVariableModel:
    """`model`, bound to the dataset's space. UserError unless it is a model, and of that space."""
    if isinstance(model, Unbound):
        return fit(model.bind(dataset.space), dataset)
    if isinstance(model, torch.nn.Module) and not isinstance(model, LatentVariableModel):
        raise UserError(f"a {type(model).__name__} is a network; say how it is called, by vaebench.from_module")
    if not isinstance(model, LatentVariableModel):
        kinds = "a LatentVariableModel, the name of a model of the zoo, or the path of a card"
        raise UserError(f"a {type(model).__name__} is not a model; give {kinds}")
    if model.space != dataset.space:
        raise UserError(f"the model is of {model.space}, and {dataset.name} is of {dataset.space}; give data that fit")
    return model


def _chosen(
    metrics: str | Sequence[str] | Mapping[str, Metric] | None, preset: Preset, entry: Entry | None = None
) -> Mapping[str, Metric]:
    if isinstance(metrics, Mapping):
        return metrics
    if metrics is not None and not metrics:
        raise UserError("no metric is named; leave metrics out for all that apply")
    names = [metrics] if isinstance(metrics, str) else metrics or ()
    if entry is None:
        return choice.metrics(names, preset)
    return choice.metrics(names, preset, (), entry.dataset, dear=dear(entry.model))


def _name_of(model: LatentVariableModel | Unbound) -> str:
    kind = type(model.network if isinstance(model, Unbound) else model)
    return "own-" + (re.sub(r"[^a-z0-9]+", "-", kind.__name__.lower()).strip("-") or "model")
