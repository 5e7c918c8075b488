"""What stands before every name of a state dict, as wrappers leave it: found, taken off, and said."""

import logging
from collections.abc import Collection, Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import NamedTuple, TypeVar

Value = TypeVar("Value")
WRAPPERS = ("module.", "_orig_mod.", "model.")
"""Prefixes of DataParallel, of torch.compile, and of modules that hold a model, as Lightning's."""
SHARED = 10
"""Number of names of which at least one is shared, or they are those of another model."""
_log = logging.getLogger("vaebench")


class Renaming(NamedTuple):
    """Takes the prefix `strip` off every name, and puts `add` in its place."""

    strip: str
    add: str

    def __call__(self, values: Mapping[str, Value]) -> dict[str, Value]:
        return {self.add + name.removeprefix(self.strip): value for name, value in values.items()}

    @property
    def cause(self) -> str:
        """What the names are, in words."""
        if not self.add:
            return f"{self.strip!r} stands before every name"
        return f"{self.add!r} is not before the names" + (f", but {self.strip!r}" if self.strip else "")

    def tell(self, path: Path) -> None:
        """Say on the log of the package what is done."""
        _log.warning("%s: %s; mended", path, self.cause)


def _prefixes(names: Collection[str]) -> list[str]:
    """ "" and every prefix, of whole parts, that all `names` share; none of them is a whole name."""
    parts = [name.split(".")[:-1] for name in names]
    shared = 0
    while parts and all(len(part) > shared and part[shared] == parts[0][shared] for part in parts):
        shared += 1
    return ["".join(f"{part}." for part in parts[0][:count]) for count in range(shared + 1)] if parts else [""]


def renaming(found: Collection[str], wanted: Collection[str]) -> Renaming | None:
    """The renaming by which more of the names `found` are among those `wanted`: the most of all; or None."""
    targets, best, most = set(wanted), None, len(set(found) & set(wanted))
    for strip, add in product(_prefixes(found), _prefixes(wanted)):
        if (count := sum(add + name.removeprefix(strip) in targets for name in found)) > most:
            best, most = Renaming(strip, add), count
    return best


def stranger(found: Collection[str], wanted: Collection[str]) -> str | None:
    """That `found` are the names of another model than `wanted`, in words, where nearly none is shared; or None."""
    shared = len(set(found) & set(wanted))
    if not found or not wanted or shared * SHARED > min(len(found), len(wanted)):
        return None
    have, want = (sorted(set(one) - set(other))[0] for one, other in ((found, wanted), (wanted, found)))
    told = f"{shared or 'none'} of its {len(found)} names {'is' if shared < 2 else 'are'} of this model's {len(wanted)}"
    return f"it has the weights of another model: {told} (it has {have!r}, and not {want!r})"


def wrapper(names: Iterable[str]) -> str:
    """What wrappers have put before every one of `names`: "" where nothing."""
    names, before = list(names), ""
    while names and (found := next((w for w in WRAPPERS if all(n.startswith(before + w) for n in names)), None)):
        before += found
    return before


def unwrapped(path: Path, tensors: Mapping[str, Value]) -> dict[str, Value]:
    """`tensors` of `path` without what wrappers have put before their names, which is said."""
    if before := wrapper(tensors):
        Renaming(before, "").tell(path)
    return Renaming(before, "")(tensors)
