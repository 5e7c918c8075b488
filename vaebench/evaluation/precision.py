"""What bfloat16 changes in a metric's values: measured with them, and refused where it would be seen."""

import math
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import torch

from vaebench.core.arithmetic import arithmetic
from vaebench.core.errors import UserError
from vaebench.core.metric import Measurement
from vaebench.core.model import LatentVariableModel
from vaebench.evaluation.run import probe

OF_ERROR = 0.1
"""The most that bfloat16 may move a value, in its standard errors."""
OF_VALUE = 0.001
"""The same, as a fraction of a value that has no standard error."""


K = TypeVar("K")  # what names a column


class Effect(NamedTuple):
    """Whether a value in bfloat16 stands, and the change that was measured."""

    stands: bool
    note: str


def check(model: LatentVariableModel, device: torch.device) -> None:
    """Raises UserError if the device has no bfloat16, or if bfloat16 does not reach the model's networks."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(f"{torch.cuda.get_device_name(device)} has no bfloat16; use --dtype float32")
    before = probe(model).raw
    with arithmetic(torch.bfloat16):
        if torch.equal(before, probe(model).raw):
            raise UserError(f"bfloat16 changes nothing in the networks of {type(model).__name__}; use --dtype float32")


def effects(found: Mapping[K, Measurement], spliced: Mapping[K, Measurement], share: float) -> dict[K, Effect]:
    """What to make of each column `found` in bfloat16, by the same with `share` of its blocks in float32 instead.

    The change is (found - spliced) / share: exact for a mean, to first order for what else columns are. A value stands
    where the change is at most OF_ERROR of its standard error, or OF_VALUE of the value where it has none.
    """
    return {column: _effect(each, spliced.get(column), share) for column, each in found.items()}


def _effect(found: Measurement, spliced: Measurement | None, share: float) -> Effect:
    if spliced is None:
        return Effect(False, "it is there in bfloat16 alone; use --dtype float32")
    change = (found.value - spliced.value) / share
    note = f"bfloat16 moves it by {change:+.2g}, measured on {share:.0%} of the blocks"
    most, of = OF_VALUE * abs(found.value), f"{OF_VALUE:.1%} of the value"
    if found.stderr is not None:
        most, of = OF_ERROR * found.stderr, f"{OF_ERROR:g} of its standard error"
    if abs(change) <= most or math.isclose(change, 0.0):
        return Effect(True, note)
    return Effect(False, f"{note}: more than {most:.2g}, {of}; use --dtype float32")
