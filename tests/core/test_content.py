"""Tensors are told apart by content, type and shape, wherever they lie."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vaebench.core.content import digest
from vaebench.functional.aggregate import Mixture


@dataclass(frozen=True)
class Holder:
    """A dataclass that holds a tensor."""

    found: Tensor


def test_whatever_differs_gives_another_digest() -> None:
    x = torch.arange(6.0)
    different = [
        [x], [x + 1], [x.double()], [x.to(torch.bfloat16)], [x.view(2, 3)], [x, x], [x[:3]], [x[::2]], [x.flip(0)],
    ]  # fmt: skip
    assert len({digest(each) for each in different}) == len(different)


def test_lists_tuples_and_dataclasses_are_looked_into_and_the_rest_is_not() -> None:
    x, y = torch.arange(6.0), torch.ones(2, dtype=torch.int64)
    flat = digest([x, y])
    assert digest([Mixture(x, y)]) == digest([[x, (y,)]]) == digest(["a", 3, x, Holder(y), nn.Linear(2, 2)]) == flat
    assert digest([y, x]) != flat
    assert digest([]) is digest(["a", nn.Linear(2, 2)]) is None
    assert digest([x.view(2, 3).T]) == digest([x.view(2, 3).T.contiguous()])
