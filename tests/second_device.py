"""A device that is not the CPU, for tests: `SECOND`. Its tensors hold CPU tensors, and keep to themselves.

An operation between it and the CPU raises, as on a GPU, except where a GPU takes both: copies, indices on the CPU, and
numbers. What it computes is what the CPU computes. Torch's own hooks for back ends written in Python carry it, and are
not in every version of torch: there this module cannot be imported, and tests that need it are skipped.
"""

from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend


@final
class _Module(_DummyBackendModule):  # type: ignore[misc]
    """`torch.second`: what torch asks a device's module. The CPU's generator is its own."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def get_rng_state(self, device: torch.device) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: torch.device) -> None:
        torch.set_rng_state(state)


_setup_privateuseone_for_python_backend("second", _Module())

SECOND, CPU = torch.device("second", 0), torch.device("cpu")
_COPYING = {"copy_", "_to_copy"}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
_FACTORIES = (
    "empty.memory_format", "empty_strided", "arange", "arange.start", "arange.start_step", "linspace", "eye", "eye.m",
)  # fmt: skip


@final
class _There(Tensor):
    """A tensor on `SECOND`; `here` has its numbers."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "_There":
        made: _There = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype,
            device=SECOND,
        )  # fmt: skip
        made.here = here
        return made

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"{self.here!r} on {SECOND}"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, func._schema.name.partition("::")[2]
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        bound = (args[0], args[2:], kwargs) if name in _INDEXING else (args, kwargs)  # not the indices
        strangers = [leaf for leaf in tree_leaves(bound) if isinstance(leaf, Tensor) and not isinstance(leaf, _There)]
        strangers = [tensor for tensor in strangers if tensor.ndim]
        if strangers and name not in _COPYING:
            raise RuntimeError(f"{func}: a tensor of {tuple(strangers[0].shape)} is on the CPU, others are on {SECOND}")
        stays = torch.device(kwargs.get("device") or SECOND).type == SECOND.type
        asked = {**kwargs, "device": CPU} if stays and "device" in kwargs else kwargs
        result = func(*_taken(args), **_taken(asked))
        if any(isinstance(tensor, _There) and tensor.shape != tensor.here.shape for tensor in tensors):
            raise NotImplementedError(f"{func} changes a tensor's shape, which {SECOND} cannot")
        if name == "copy_" and not isinstance(args[0], _There):
            return args[0]
        if not stays:
            return result
        return return_and_correct_aliasing(func, args, kwargs, tree_map_only(Tensor, _There, result))


def _taken(tree: Any) -> Any:
    return tree_map_only(_There, lambda tensor: tensor.here, tree)


def _factory(name: str) -> Callable[..., Tensor]:
    packet, _, overload = name.partition(".")
    make = getattr(getattr(torch.ops.aten, packet), overload or "default")
    return lambda *args, **kwargs: _There(make(*args, **{**kwargs, "device": CPU}))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    _taken(target).copy_(_taken(source))
    return target


_library = torch.library.Library("aten", "IMPL")
_library.impl("_copy_from", _copy_from, "PrivateUse1")
_library.impl("_efficientzerotensor", _factory("zeros"), "PrivateUse1")
for _name in _FACTORIES:
    _library.impl(_name, _factory(_name), "PrivateUse1")
