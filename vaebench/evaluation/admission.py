"""What a model must show before it is measured: that its likelihood can be right. Remembered by content."""

import hashlib
import json
import sys
from contextlib import suppress
from pathlib import Path

import torch

from vaebench import __version__
from vaebench.core import files
from vaebench.core.checks import check_model
from vaebench.core.content import identity
from vaebench.core.errors import UserError
from vaebench.core.model import LatentVariableModel
from vaebench.core.names import UNCHECKED
from vaebench.distributions.noise import keyed
from vaebench.evaluation.entry import Entry
from vaebench.evaluation.progress import Progress
from vaebench.evaluation.run import Settings

RULES = 2
"""Version of the quick checks, raised whenever one could come out otherwise."""
Outcome = list[tuple[str, bool, str]]
"""A line for each promise that was not kept: its name, whether it was broken, and what was seen."""


def admit(entry: Entry, settings: Settings, progress: Progress) -> tuple[str, ...]:
    """Marks for every value of `entry`: none, where it keeps the quick part of the conformance suite.

    What cannot be decided is told, and stops nothing. With a journal, the outcome is kept by the model's content: it is
    found once for an adapter, its options and weights, while their code stays as it is. Where `settings.unchecked`,
    nothing is asked.

    Raises UserError if a promise is broken.
    """
    if settings.unchecked:
        return (UNCHECKED,)
    key = None if settings.journal is None else _key(entry)
    if key is None or (outcome := _kept(key)) is None:
        outcome = [(c.name, c.failed, c.detail) for c in check_model(entry.model, quick=True) if not c.passed]
        if key is not None:
            _keep(key, outcome)
    for name, broken, detail in outcome:
        told = f"{entry.name} on {entry.dataset.name}: {name}: {detail}"
        if broken:
            raise UserError(f"{told}; vaebench check tells more; --unchecked evaluates it all the same, and marks it")
        progress.warn(f"not decided: {told}")
    return ()


def _key(entry: Entry) -> str:
    told = [RULES, __version__, torch.__version__, entry.architecture, entry.weights_sha256]
    named = [*told, identity(entry.model), _code(entry.model)]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _code(model: LatentVariableModel) -> str:
    """The SHA-256, in hex, of the files that the model's parts and distributions are written in, but for torch's."""
    parts: list[object] = [*model.modules()]
    with suppress(Exception), keyed(0, torch.arange(1)), torch.no_grad():  # what it raises, the checks tell
        parts.append(prior := model.prior(1))
        parts.append(model.likelihood(prior.rsample(1)))
    names = {base.__module__ for part in parts for base in type(part).__mro__}
    found = (getattr(sys.modules.get(name), "__file__", None) for name in names if name.split(".")[0] != "torch")
    sha = hashlib.sha256()
    for path in sorted({path for path in found if path is not None}):
        with suppress(OSError):
            sha.update(Path(path).read_bytes())
    return sha.hexdigest()


def _sum(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + content).hexdigest().encode()


def _kept(key: str) -> Outcome | None:
    """What was kept under `key`; None where there is none, or it is damaged."""
    with suppress(OSError):
        head, _, content = (files.cache() / "checks" / f"{key}.json").read_bytes().partition(b"\n")
        if head == _sum(key, content):
            return [(name, broken, detail) for name, broken, detail in json.loads(content)]
    return None


def _keep(key: str, outcome: Outcome) -> None:
    content = json.dumps(outcome).encode()
    with suppress(UserError):  # then it is asked again next time
        files.write_atomic(files.cache() / "checks" / f"{key}.json", _sum(key, content) + b"\n" + content)
