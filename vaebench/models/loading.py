"""From a card to a model: fresh, or with weights that are checked before they are believed."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from vaebench.core import files, size
from vaebench.core import registry as plugins
from vaebench.core import tables as tables_
from vaebench.core.data import Space
from vaebench.core.errors import DataError, UserError, foreign
from vaebench.core.model import LatentVariableModel
from vaebench.models import code, prefixes
from vaebench.models.card import Card
from vaebench.models.safetensors_header import looks_like

_SHOWN = 5


def build_model(card: Card, space: Space) -> LatentVariableModel:
    """The card's model with fresh weights (from torch's generator).

    Raises UserError if its options do not fit, or make it too large (`core.size`): of all families but those that run a
    user's code, this is known before memory is touched; of those, when the first tensor too many is registered.
    """
    plugin: Any = plugins.load("adapters", card.family)
    adapter, options = plugin
    with foreign(lambda reason: UserError(f"card {card.id} [model]: {reason}")):  # torch: sizes beyond memory
        made = tables_.build(options, card.model, f"card {card.id} [model]")
        if isinstance(made, code.FromFile):
            made = dataclasses.replace(made, file=str(_beside(card, made.file)))
        try:
            if not isinstance(made, code.FromFile) and torch.get_default_device().type != "meta":
                size.foresee(lambda: adapter(space, made))
            with size.bounded():
                model: LatentVariableModel = adapter(space, made)
        except size.TooLargeError as error:
            raise UserError(f"card {card.id} [model]: {_widest(card.model)} makes {error}; choose smaller") from error
    return model


def _widest(table: Mapping[str, Any]) -> str:
    """The keys of [model] with the largest numbers, and their values: what makes a model large."""

    def extent(value: Any) -> int:
        if isinstance(value, Mapping | list | tuple):
            return sum(map(extent, value.values() if isinstance(value, Mapping) else value))
        return value if isinstance(value, int) else 0

    most = max(map(extent, table.values()), default=0)
    large = [(key, str(value)) for key, value in table.items() if extent(value) > most // 10]
    return ", ".join(f"{key} = {value if len(value) <= 40 else value[:40] + '…'}" for key, value in large) or "it"


def _beside(card: Card, file: str) -> Path:
    """The `file` that a card names. Raises UserError if that is not the name of one beside it."""
    if card.path is None or Path(file).name != file or not file.endswith(".py"):
        raise UserError(f"card {card.id} [model]: file = {file!r} should be the name of a .py file beside the card")
    return card.path.parent / file


def code_file(card: Card) -> Path | None:
    """The file of code that the card's model is made by, or None. Raises UserError if it is not beside it."""
    if card.family != code.FAMILY:
        return None
    return _beside(card, str(card.model.get("file")))


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. DataError says what else the file seems to be; nothing in it is executed."""
    if not path.exists():
        raise DataError(f"weights {path} are absent")
    files.check_plain(path)
    with (
        foreign(lambda reason: DataError(f"weights {path} are not a safetensors file{looks_like(path)}: {reason}")),
        safe_open(path, framework="pt") as file,
    ):
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)


def _kind(tensor: torch.Tensor) -> str:
    return "real" if tensor.is_floating_point() else "complex" if tensor.is_complex() else "integer"


def load_weights(model: LatentVariableModel, path: Path) -> None:
    """Put the tensors of `path` into `model`, strictly; a foreign prefix of all names is mended, and said.

    DataError as `fitting`; the model is then as it was.
    """
    model.load_state_dict(fitting(model, path, mend=True), strict=True)


def fitting(model: LatentVariableModel, path: Path, *, mend: bool = False) -> dict[str, torch.Tensor]:
    """The tensors of `path`, which are those of `model`, whose own are not read: they may be on the device "meta".

    With `mend`, names that differ from the model's by what stands before all of them are changed, which is said.
    DataError lists what is missing, unknown, misshapen, of another kind of number or not finite.
    """
    found, wanted = read_tensors(path), model.state_dict()
    if (change := prefixes.renaming(found, wanted)) is not None:
        if not mend:
            raise DataError(f"weights {path} do not fit the card: {change.cause}; rename them")
        change.tell(path)
        found = change(found)
    if (cause := prefixes.stranger(found, wanted)) is not None:
        raise DataError(f"weights {path} do not fit the card: {cause}")
    faults = []
    if missing := sorted(wanted.keys() - found.keys()):
        faults.append(f"missing {_some(missing)}")
    if extra := sorted(found.keys() - wanted.keys()):
        faults.append(f"unknown {_some(extra)}")
    shapes = [
        f"{name} is {list(found[name].shape)} instead of {list(wanted[name].shape)}"
        for name in sorted(wanted.keys() & found.keys())
        if found[name].shape != wanted[name].shape
    ]
    kinds = [
        f"{name} is {_kind(found[name])} instead of {_kind(wanted[name])}"
        for name in sorted(wanted.keys() & found.keys())
        if _kind(found[name]) != _kind(wanted[name])
    ]
    if shapes or kinds:
        faults.append(_some([*shapes, *kinds]))
    if not faults:
        sick = [
            n
            for n, t in found.items()
            if t.is_floating_point() and not math.isfinite(float(t.sum(dtype=torch.float64)))
        ]
        if sick:
            faults.append(f"NaN or infinity in {_some(sorted(sick))}")
    if faults:
        raise DataError(f"weights {path} do not fit the card: {'; '.join(faults)}")
    return found


def architecture(card: Card) -> str:
    """64 hex digits that name the card's adapter, its options and its own code: with the weights, they are the model.

    Raises UserError if there is such code, and it may not run.
    """
    told = [card.family, card.model]
    if (file := code_file(card)) is not None:
        code.check_allowed(file)
        told.append(code.digest(file))
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
