"""How many parameters a network has, counted before memory is touched: widths within their bounds still multiply."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules import module

PARAMETERS, PARTS = 10**9, 20_000
"""Numbers in the parameters and buffers of one network, and modules in it."""


class TooLargeError(ValueError):
    """A network has more than `PARAMETERS` parameters or `PARTS` modules."""


def check(parameters: int, parts: int = 0, exact: bool = True) -> None:
    """Raises TooLargeError if so many are too many; they are said to be the least where they are not `exact`."""
    for found, most, what in ((parts, PARTS, "modules"), (parameters, PARAMETERS, "parameters")):
        if found > most:
            raise TooLargeError(f"{found:,} {what}{'' if exact else ' or more'}, which should be at most {most:,}")


@contextmanager
def bounded(parameters: bool = True) -> Iterator[list[int]]:
    """Within the block, the networks that this thread makes have `PARAMETERS` and `PARTS` at most; else TooLargeError.

    It is raised as a tensor becomes a part of a module: torch's own fill one only then. The list has one number, of
    parameters so far, which are counted and not bounded where `parameters` is False.
    """
    here, found, parts = threading.get_ident(), [0], [0]

    def tensor(_: nn.Module, name: str, value: torch.Tensor | None) -> None:
        if threading.get_ident() == here and value is not None:
            found[0] += value.numel()
            check(found[0] if parameters else 0, exact=False)

    def part(_: nn.Module, name: str, value: nn.Module | None) -> None:
        if threading.get_ident() == here:
            parts[0] += 1
            check(0, parts[0], exact=False)

    hooks = (
        module.register_module_parameter_registration_hook(tensor),
        module.register_module_buffer_registration_hook(tensor),
        module.register_module_module_registration_hook(part),
    )
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def foresee(build: Callable[[], object]) -> None:
    """Raises TooLargeError if `build` would make too large a network, by building it on the device "meta".

    Nothing is said of one that cannot be built there: `bounded` then holds it as it is built.
    """
    with bounded(parameters=False) as found:
        try:
            with torch.device("meta"):
                build()
        except TooLargeError:
            raise
        except Exception:  # an adapter from outside may need memory, and any may refuse its options: then in earnest
            return
    check(found[0])
