"""Any file of torch.save (.pt, .pth, .ckpt) with a state dict in it, for a card of your own."""

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaebench import __version__
from vaebench.core import registry as plugins
from vaebench.core.errors import DataError, UserError, shown, unknown
from vaebench.models import card as cards
from vaebench.models import code, prefixes
from vaebench.models.formats import Imported, Importer, read_file, tensors
from vaebench.models.loading import build_model

DEPTH = 3
"""How many tables within tables are searched for state dicts."""
_AVERAGE = re.compile(r"(^|_)(ema|averaged?)(_|$)")
_log = logging.getLogger("vaebench")
NETWORK = "network."
"""What stands before a network's own names in the family `module`."""


@dataclass(frozen=True)
class Options:
    """`card` says what the weights are of; `key` which state dict is meant, where the file has several."""

    card: Path = field(metadata={"help": "The card of the model that the weights are of."})
    key: str | None = field(default=None, metadata={"help": "Which state dict, if there are several: ema.model."})


def _sets(content: Any, key: str = "", depth: int = DEPTH) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """Every state dict in nested tables, by its key: "" for the whole, "ema.model" for one in another."""
    if not isinstance(content, Mapping) or not content or not all(isinstance(name, str) for name in content):
        return
    if all(isinstance(value, Tensor) for value in content.values()):
        halves = _halves(content)
        yield from ((f"{key}.{half}" if key else half, part) for half, part in halves.items())
        if not halves:
            yield key, content
    elif depth:
        for name, value in content.items():
            yield from _sets(value, f"{key}.{name}" if key else name, depth - 1)


def _halves(content: Mapping[str, Tensor]) -> dict[str, Mapping[str, Tensor]]:
    """The raw weights and their moving average, of a dict that holds both by prefix, "net" and "net_ema"; else none."""
    halves: dict[str, dict[str, Tensor]] = {}
    for name, tensor in content.items():
        half, _, rest = name.partition(".")
        halves.setdefault(half, {})[rest] = tensor
    same = len({frozenset(part) for part in halves.values()}) == 1
    return dict(halves) if len(halves) == 2 and same and any(_AVERAGE.search(half) for half in halves) else {}


def _chosen(path: Path, content: Any, key: str | None, wanted: Mapping[str, Tensor] | None) -> Mapping[str, Tensor]:
    """The one state dict of a file that is meant. Raises UserError if it has several that fit, DataError if none."""
    found = dict(_sets(content))
    if not found:
        inside = f"a {type(content).__name__}"
        if isinstance(content, Mapping):
            inside = f"the keys {shown(list(content)[:8])}"
        raise DataError(f"{path} has no state dict in it, but {inside}; save one: torch.save(model.state_dict(), FILE)")
    if key is not None:
        if key not in found:
            raise UserError(f"{path}: --key: {unknown('state dict', key, found)}")
        return found[key]
    if wanted is not None and len(found) > 1:
        fitting = {each: part for each, part in found.items() if _fits(part, wanted)}
        found = fitting or found
    if len(found) > 1:
        told = ", ".join(f"{each!r} ({len(part)} tensors)" for each, part in found.items())
        raise UserError(f"{path} has {len(found)} state dicts: {told}; choose one with --key")
    return next(iter(found.values()))


def _fits(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    change = prefixes.renaming(found, wanted)
    return wanted.keys() <= (found if change is None else change(found)).keys()


def read(path: Path, options: Options, *, data: Path | None = None) -> Imported:
    """The weights of `options.card` in a file, by the card's names: another prefix is mended, and said.

    A card's own code does not run: its weights are held against it when they are loaded.
    """
    card = cards.read(options.card)
    space = plugins.space_of(card.dataset, data)
    wanted = None
    if card.family != code.FAMILY:
        with torch.device("meta"):
            wanted = build_model(card, space).state_dict()
    content, digest = read_file(path)
    state = tensors(path, _chosen(path, content, options.key, wanted))
    if wanted is None:
        _log.warning("%s: not held against the code of the card, which no import runs; vaebench check does", path)
        state = prefixes.unwrapped(path, state)
        if not all(name.startswith(NETWORK) for name in state):
            state = prefixes.Renaming("", NETWORK)(state)
    elif (change := prefixes.renaming(state, wanted)) is not None:
        change.tell(path)
        state = change(state)
    which = f", {options.key!r} in it" if options.key else ""
    notes = f"{card.notes}\n" if card.notes else ""
    notes += f"Imported by vaebench {__version__} from {path.name} (sha256 {digest}{which})."
    return Imported(card.family, dict(card.model), state, space, card.summary, notes, card.dataset, card)


plugin = Importer(("FILE",), read, Options, of_card=True)
