"""The checkpoints kept along a training run: written evenly spaced while it trains, checked when they are read.

They lie in `<name>.trajectory/` beside the weights `<name>.safetensors`, each named after its step, with an index that
is written last. All carry the digest of the run that wrote them.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import nn

from vaebench.core import files
from vaebench.core import tables as tables_
from vaebench.core.errors import DataError, UserError, foreign
from vaebench.core.metric import Checkpoint, Trajectory
from vaebench.core.model import LatentVariableModel
from vaebench.core.tables import Table
from vaebench.models import loading

_INDEX = "index.json"


@dataclass(frozen=True)
class _Entry:
    """One checkpoint: `learning_rate` is that of its last step, `mean_learning_rate` of all since the one before."""

    file: str
    sha256: str
    step: int
    learning_rate: float
    mean_learning_rate: float


@dataclass(frozen=True)
class _Index:
    """What the file `index.json` holds: the run's digest, its data, and an `_Entry` for each checkpoint."""

    digest: str
    data_fingerprint: str
    examples: int
    batch_size: int
    checkpoints: tuple[Table, ...]


def beside(weights: Path) -> Path:
    """The folder of the trajectory that belongs to `weights`."""
    return weights.with_suffix(".trajectory")


def run_digest(path: Path) -> str | None:
    """The digest that training wrote into a safetensors file, or None."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("digest")
    except (SafetensorError, OSError, ValueError):
        return None


def spaced(count: int, steps: int) -> list[int]:
    """The steps ceil(k T / N), k = 1..N, after which N = `count` checkpoints are kept: the last is the end."""
    if count > steps:
        raise UserError(f"--trajectory {count} is more than the {steps} steps of training; lower it")
    return [-(-k * steps // count) for k in range(1, count + 1)]


def _name(step: int) -> str:
    return f"step-{step:08}.safetensors"


@final
class Keeper:
    """Keeps the checkpoints of one run as it passes them."""

    def __init__(self, folder: Path, digest: str, count: int, steps: int, done: int) -> None:
        """A run of `steps` steps, of which `done` are.

        Raises UserError if it passed a checkpoint without keeping it.
        """
        self._folder, self._digest, self._wanted = folder, digest, spaced(count, steps)
        for step in self._wanted:
            if step <= done and run_digest(folder / _name(step)) != digest:
                raise UserError(
                    f"{folder} lacks the checkpoint of step {step}, which training has passed; use another --out"
                )

    def after(self, step: int, model: nn.Module) -> None:
        """`step` steps are done: keep the weights of `model` if that is one of those wanted."""
        if step in self._wanted:
            tensors = {n: t.detach().to("cpu", copy=True).contiguous() for n, t in model.state_dict().items()}
            content = to_safetensors(tensors, metadata={"digest": self._digest})
            files.write_atomic(self._folder / _name(step), content)

    def finish(self, rate: Callable[[int], float], data_fingerprint: str, examples: int, batch_size: int) -> None:
        """Write the index; `rate(t)` is the learning rate of step t = 0, 1, ...."""
        entries, before = [], 0
        for step in self._wanted:
            rates = [rate(t) for t in range(before, step)]
            path = self._folder / _name(step)
            entries.append(_Entry(path.name, files.sha256(path), step, rates[-1], math.fsum(rates) / len(rates)))
            before = step
        index = _Index(self._digest, data_fingerprint, examples, batch_size, tuple(asdict(e) for e in entries))
        files.write_atomic(self._folder / _INDEX, (json.dumps(asdict(index), indent=1) + "\n").encode())


def read(folder: Path, digest: str | None) -> Trajectory:
    """The trajectory in `folder`, of the run that wrote the weights with `digest`.

    Raises DataError if it is absent, damaged or of another run (it names no parent folder: it is a reason in rows); its
    `load` checks each file's SHA-256.
    """
    try:
        content = (folder / _INDEX).read_bytes()
    except OSError as error:
        raise DataError(f"no trajectory {folder.name}: {error.strerror}") from error
    where = f"{folder.name}/{_INDEX}"
    try:
        with foreign(lambda reason: DataError(f"{where} is not the index of a trajectory: {reason}")):
            index, entries = _parse(content, where)
    except UserError as error:
        raise DataError(f"{where} is not the index of a trajectory: {error}") from error
    if digest is None or index.digest != digest:
        raise DataError(f"trajectory {folder.name} is of another training run than the weights")
    kept, before = [], 0
    for entry in entries:
        load = _Load(folder / entry.file, entry.sha256)
        kept.append(Checkpoint(entry.step, entry.step - before, entry.mean_learning_rate, load))
        before = entry.step
    name = hashlib.sha256(content).hexdigest()
    return Trajectory(name, index.data_fingerprint, index.examples, index.batch_size, tuple(kept))


def _parse(content: bytes, where: str) -> tuple[_Index, list[_Entry]]:
    """The index and its entries. Raises ValueError or UserError if they are not such thing."""
    table = json.loads(content)
    if not isinstance(table, Mapping):
        raise ValueError("it holds no table")
    index = tables_.build(_Index, table, where, 2**63 - 1)
    entries = [tables_.build(_Entry, entry, where, 2**63 - 1) for entry in index.checkpoints]
    steps = [0, *(entry.step for entry in entries)]
    if not entries or any(a >= b for a, b in pairwise(steps)) or index.examples < 1 or index.batch_size < 1:
        raise ValueError("its checkpoints are none or out of order, or it has no data")
    for entry in entries:
        if Path(entry.file).name != entry.file:
            raise ValueError(f"file {entry.file!r} should be a name")
    return index, entries


@final
@dataclass(frozen=True)
class _Load:
    """Puts the tensors of a file into a model, strictly. Raises DataError if the file is not the one of the index."""

    path: Path
    sha256: str

    def __call__(self, model: LatentVariableModel) -> None:
        if (found := files.sha256(self.path)) != self.sha256:
            raise DataError(f"{self.path} has sha256 {found}, but the index says {self.sha256}; restore both together")
        loading.load_weights(model, self.path)


def require(folder: Path, digest: str, count: int) -> None:
    """UserError unless the finished run with `digest` has left a trajectory of `count` checkpoints in `folder`."""
    try:
        found = len(read(folder, digest).checkpoints)
    except DataError as error:
        raise UserError(f"trained already, but {error}; use another --out") from error
    if found != count:
        raise UserError(f"trained already, with {found} checkpoints in {folder}, not {count}; use another --out")
