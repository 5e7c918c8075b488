"""What tells tensors from others: their content."""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor


def raw(tensor: Tensor) -> memoryview:
    """The bytes of `tensor`, in order."""
    content: memoryview = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return content


def digest(values: Iterable[Any]) -> str | None:
    """16 hex digits that name the tensors among `values`, and in their lists, tuples and dataclasses; None without any.

    Modules are not looked into.
    """
    sha, found = hashlib.sha256(), False
    for tensor in _tensors(values):
        found = True
        sha.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
        sha.update(raw(tensor))
    return sha.hexdigest()[:16] if found else None


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
        elif dataclasses.is_dataclass(value):
            yield from _tensors(getattr(value, field.name) for field in dataclasses.fields(value))
