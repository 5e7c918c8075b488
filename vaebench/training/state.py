"""What a training run leaves on disk: the state that it resumes from; at the end weights, card and log.

The state is read with `weights_only=True`: no file is ever allowed to run code.
"""

import dataclasses
import hashlib
import io
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from vaebench import __version__
from vaebench.core import files
from vaebench.core import registry as plugins
from vaebench.core import tables as tables_
from vaebench.core.data import Dataset
from vaebench.core.errors import UserError
from vaebench.core.tables import Table
from vaebench.models import card as cards
from vaebench.models import code, loading, trajectory
from vaebench.models.card import Card, Trained, Weights

FORMAT = 1
"""Part of every digest: raised when a change to training makes older states mean something else."""

_REMEDY = "use another --out, or remove the file"


class State(TypedDict):
    """A run after `epoch` epochs and `batches` batches: all that the rest depends on, and what is kept at the end.

    `sums` (of the loss and its terms) and `generators` (the states of torch's) are of the epoch begun, if one is.
    """

    digest: str
    epoch: int
    batches: int
    step: int
    seconds: float
    sums: dict[str, Tensor]
    generators: list[Tensor]
    model: dict[str, Tensor]
    average: dict[str, Tensor] | None
    objective: dict[str, Tensor]
    optimiser: dict[str, Any]
    best_epoch: int
    best_loss: float | None
    best_weights: dict[str, Tensor]
    log: list[str]


@dataclass(frozen=True)
class Outputs:
    """The files of the run `name` in the folder `out`."""

    out: Path
    name: str

    @property
    def weights(self) -> Path:
        """The best epoch's weights, with the run's digest in their metadata."""
        return self.out / f"{self.name}.safetensors"

    @property
    def card(self) -> Path:
        """The resolved card."""
        return self.out / f"{self.name}.toml"

    @property
    def log(self) -> Path:
        """One line of JSON per epoch."""
        return self.out / f"{self.name}.log.jsonl"

    @property
    def resume(self) -> Path:
        """The last state kept; gone once the run is finished."""
        return self.out / f"{self.name}.resume"


def _plain(value: Any) -> Any:
    """`value` as TOML would give it back: lists for tuples, no None."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def objective_options(card: Card) -> tuple[Any, Any]:
    """The card's objective class and an instance of its options. Raises UserError if the table does not fit."""
    where = f"card {card.id} [objective]"
    if not isinstance(name := card.objective.get("name"), str):
        raise UserError(f"{where}: name should be one of {', '.join(plugins.names('objectives'))}")
    plugin: Any = plugins.load("objectives", name)
    objective, options = plugin
    return objective, tables_.build(options, {k: v for k, v in card.objective.items() if k != "name"}, where)


def resolve(card: Card) -> Card:
    """`card` with every option of its model and objective written out, so that no later default changes it."""
    if card.training is None:
        raise UserError(f"card {card.id} has no [training] table, so it cannot be trained; add one with epochs = N")
    plugin: Any = plugins.load("adapters", card.family)
    model = dataclasses.asdict(tables_.build(plugin[1], card.model, f"card {card.id} [model]"))
    objective: Table = {"name": card.objective.get("name"), **dataclasses.asdict(objective_options(card)[1])}
    return dataclasses.replace(card, model=_plain(model), objective=_plain(objective))


LATER = {
    "autocast": None, "flip": "none", "step_sizes": "shared", "init_log_variance": None, "output": "raw", "scale": None,
    "interval": None, "bits": 8,
}  # fmt: skip
"""Options that older recipes do not have, and the values with which they do what was done before."""


def _known(table: Table) -> Table:
    """`table` as an older recipe has it, where it says the same."""
    return {key: value for key, value in table.items() if key not in LATER or value != LATER[key]}


def _versioned(objective: Table) -> Table:
    """A resolved objective's table, and that of the one it wraps, with their versions where they are not the first."""
    table = dict(_known(objective))
    if isinstance(base := table.get("base"), Mapping):
        table["base"] = _versioned(base)
    if (name := table.get("name")) in plugins.names("objectives"):
        plugin: Any = plugins.load("objectives", str(name))
        table |= {"version": plugin[0].version} if plugin[0].version > 1 else {}
    return table


def digest(card: Card, dataset: Dataset) -> str:
    """64 hex digits that name what a run computes: the resolved card's tables, and the content of the data."""
    assert card.training is not None
    content = {
        "format": FORMAT,
        "family": card.family,
        "model": _known(card.model),
        "objective": _versioned(card.objective),
        "training": _known(dataclasses.asdict(card.training)),
        "space": _known(dataclasses.asdict(dataset.space)),
        "data": dataset.fingerprint,
    }
    if (file := loading.code_file(card)) is not None:
        content["code"] = code.digest(file)
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def finished(outputs: Outputs, card: Card, run: str) -> Card | None:
    """The trained card where the run with digest `run` has left its weights and card, None where it has not.

    Raises UserError if the weights are another run's: they are never overwritten.
    """
    if not outputs.weights.is_file():
        return None
    if trajectory.run_digest(outputs.weights) != run:
        raise UserError(f"{outputs.weights} was not made by this recipe, model and data: {_REMEDY}")
    if not outputs.card.is_file():
        return None
    trained = cards.read(outputs.card, card.dataset)
    if trained.weights is None or trained.weights.sha256 != files.sha256(outputs.weights):
        return None
    outputs.resume.unlink(missing_ok=True)
    return trained


def save(outputs: Outputs, state: State) -> None:
    """Write the state, then the log, each atomically."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    files.write_atomic(outputs.resume, buffer.getvalue())
    write_log(outputs, state["log"])


def write_log(outputs: Outputs, log: list[str]) -> None:
    """Write the log's lines, atomically."""
    files.write_atomic(outputs.log, "".join(f"{line}\n" for line in log).encode())


def load(outputs: Outputs, run: str) -> State | None:
    """The state to resume from, on the CPU, or None. Raises UserError if it is damaged, foreign or of another run."""
    path = outputs.resume
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises is not a closed list
        raise UserError(f"{path} is not a training state ({type(error).__name__}): {_REMEDY}") from error
    if not isinstance(state, dict) or state.keys() != State.__annotations__.keys():
        raise UserError(f"{path} is not a training state of this version: {_REMEDY}")
    if state["digest"] != run:
        raise UserError(f"{path} was made by another recipe, model or data: {_REMEDY}")
    checked: State = state  # type: ignore[assignment]
    return checked


def damaged(outputs: Outputs, error: Exception) -> UserError:
    """The error for a state whose tensors do not fit the run that it names."""
    return UserError(f"{outputs.resume} is a damaged training state ({type(error).__name__}): {_REMEDY}")


def machine(device: torch.device) -> str:
    """The processor and its number of cores, after the accelerator where one is used: "AMD EPYC, 2 cores"."""
    name, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    cores = os.cpu_count() or 1
    text = f"{name}, {cores} core{'s' if cores > 1 else ''}"
    return f"{torch.cuda.get_device_name(device)}; {text}" if device.type == "cuda" else text


def finish(outputs: Outputs, card: Card, state: State, device: torch.device) -> Card:
    """Write weights, then the card that names them, then remove the state: whenever it is killed, nothing is lost."""
    tensors = {name: tensor.clone().contiguous() for name, tensor in state["best_weights"].items()}
    # a single metadata key: safetensors writes several in any order, and equal runs give equal files
    files.write_atomic(outputs.weights, to_safetensors(tensors, metadata={"digest": state["digest"]}))
    weights = Weights(outputs.weights.name, files.sha256(outputs.weights))
    trained = Trained(
        seconds=round(state["seconds"], 3),
        machine=machine(device),
        best_epoch=state["best_epoch"],
        validation_loss=state["best_loss"],
        vaebench=__version__,
        torch=str(torch.__version__),
    )
    if (file := loading.code_file(card)) is not None:
        files.write_atomic(outputs.card.parent / file.name, file.read_bytes())
    cards.write(dataclasses.replace(card, weights=weights, trained=trained), outputs.card)
    outputs.resume.unlink(missing_ok=True)
    return cards.read(outputs.card, card.dataset)
