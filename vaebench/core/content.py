"""What tells values apart: their content. Everything that is remembered is found again by these names, and no others.

A value that cannot be named so is refused: a name by convention would one day find another's values.
"""

import enum
import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from types import BuiltinFunctionType, CodeType, EllipsisType, FunctionType, MethodType, ModuleType
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

_PLAIN = (
    *(type(None), EllipsisType, bool, int, float, complex, str, bytes, range, slice),
    *(torch.dtype, torch.device, torch.Size),
)
_READ = (Tensor, np.ndarray, nn.Module, bool, int, float, str)
"""What a function may read from its module's globals and is named with."""
_MATTERS = ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks", "training")
_BOOKKEEPING = vars(nn.Module()).keys() - set(_MATTERS)
REMEDY = "give a tensor, a plain value, a dataclass of these, an nn.Module or a function at the top of its module"


def raw(tensor: Tensor) -> memoryview:
    """The bytes of `tensor`, in order."""
    content: memoryview = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return content


def identity(value: object) -> str:
    """The SHA-256, in hex, of `value`'s type and content: the same in every process, on every device.

    * Plain values, enumerations, and lists, tuples, mappings and sets of what has an identity, are told by value;
      tensors and arrays by dtype, shape and bytes; dataclasses by class and fields.
    * A function or class is told by the name that its module has it under, a function also by its code, by its defaults
      and by the tensors, modules and numbers that it reads from globals. A partial is told by its function and
      arguments, a bound method by its object.
    * An nn.Module is told by its class, parameters, buffers, parts and other attributes; what is in it may also be a
      lambda or a closure (told by its code and what it closes over) or any object that pickle could write.

    Raises TypeError if `value`, or something in it, cannot be told by content: a lambda, a closure, an object.
    """
    return _Naming().name(value).hex()


def tensors_identity(module: nn.Module) -> str:
    """The SHA-256, in hex, of a module's parameters and buffers: names, types, shapes and bytes."""
    sha = hashlib.sha256()
    for key, tensor in sorted(module.state_dict().items()):
        sha.update(f"{key} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        sha.update(raw(tensor))
    return sha.hexdigest()


def pass_identity(function: Callable[..., object]) -> str:
    """`identity` of a function that is mapped over data, after its name.

    Raises TypeError with the remedy if it is a lambda or a closure, is given anything by position, or cannot be told
    by content.
    """
    inner = function.func if isinstance(function, partial) else function
    if isinstance(function, partial) and function.args:
        raise TypeError(
            f"a pass is given nothing by position, but partial({_called(inner)}, ...) has {len(function.args)} "
            f"positional argument(s); give them by keyword: partial({_called(inner)}, name=value)"
        )
    return f"{_called(inner)} {identity(function)}"


def qualified(kind: type | FunctionType) -> str:
    """Where a class or function is defined: its module and qualified name."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _called(function: object) -> str:
    """What to call a function or callable object."""
    return qualified(function if isinstance(function, FunctionType) else getattr(function, "__func__", type(function)))


def _found(value: type | FunctionType) -> bool:
    """Whether the module of `value` has it under its name."""
    found: object = sys.modules.get(value.__module__)
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


@final
class _Naming:
    """One naming: which objects it is inside of, and whether one of them is an nn.Module."""

    def __init__(self) -> None:
        self._path: list[int] = []
        self._modules = 0

    def name(self, value: object) -> bytes:
        """32 bytes."""
        if id(value) in self._path:  # a module that holds its parent
            return self._joined("again", str(self._path.index(id(value))).encode())
        self._path.append(id(value))
        self._modules += isinstance(value, nn.Module)
        try:
            return self._name(value)
        finally:
            self._path.pop()
            self._modules -= isinstance(value, nn.Module)

    def _joined(self, kind: str, *parts: bytes | memoryview) -> bytes:
        sha = hashlib.sha256(f"{kind} {len(parts)} ".encode())
        for part in parts:
            sha.update(f"{len(part)} ".encode())
            sha.update(part)
        return sha.digest()

    def _name(self, value: Any) -> bytes:
        kind = type(value)
        match value:
            case Tensor():
                if value.layout != torch.strided or value.is_quantized or value.is_meta:
                    raise TypeError(f"a tensor of layout {value.layout} on {value.device} has no bytes to be told by")
                return self._joined("tensor", f"{value.dtype} {tuple(value.shape)}".encode(), raw(value))
            case np.ndarray() | np.generic() if not value.dtype.hasobject:
                return self._joined("array", f"{value.dtype.str} {value.shape}".encode(), value.tobytes())
            case nn.Module():
                kept = {name: part for name, part in vars(value).items() if name not in _BOOKKEEPING}
                return self._joined("module", self._class(kind), self._items(kept))
            case CodeType():
                told = (value.co_consts, value.co_names, value.co_freevars, value.co_varnames, value.co_flags)
                return self._joined("code", value.co_code, *map(self.name, told))
            case FunctionType():
                return self._function(value)
            case MethodType():
                return self._joined("method", value.__name__.encode(), self.name(value.__self__))
            case BuiltinFunctionType() if isinstance(value.__self__, ModuleType | type | None):
                return self._joined("built in", f"{value.__module__}.{value.__qualname__}".encode())
            case partial():
                arguments = (self.name(value.func), self.name(value.args), self.name(value.keywords))
                return self._joined("partial", *arguments)
            case type():
                return self._class(value)
            case enum.Enum():
                return self._joined("member", self._class(kind), value.name.encode())
            case _ if kind in _PLAIN:
                return self._joined(kind.__name__, repr(value).encode())
            case list() | tuple():
                return self._joined("sequence", self._class(kind), *map(self.name, value))
            case set() | frozenset():
                return self._joined("set", self._class(kind), *sorted(map(self.name, value)))
            case Mapping():
                return self._joined("mapping", self._class(kind), self._items(value))
            case _ if is_dataclass(value):
                found = {field.name: getattr(value, field.name) for field in fields(value)}
                return self._joined("dataclass", self._class(kind), self._items(found))
        if not self._modules:
            raise TypeError(f"an object of class {qualified(kind)} cannot be told by its content; {REMEDY}")
        try:
            made = value.__reduce_ex__(4)
        except TypeError as error:
            raise TypeError(f"an object of class {qualified(kind)} in a module cannot be told by content") from error
        if isinstance(made, str):  # a global's name
            return self._joined("global", f"{kind.__module__}.{made}".encode())
        state = made[:3] if len(made) < 4 else (*made[:3], [*(made[3] or ())], [*((made[4:5] and made[4]) or ())])
        return self._joined("object", *map(self.name, state))

    def _items(self, values: Mapping[Any, Any]) -> bytes:
        return self._joined("items", *(part for pair in values.items() for part in map(self.name, pair)))

    def _function(self, function: FunctionType) -> bytes:
        if not self._modules and (function.__closure__ or not _found(function)):
            raise TypeError(
                f"{qualified(function)} is a lambda or a function inside another, whose values no name tells from "
                "others'; define it at the top of its module, and give it what it needs by keyword: "
                "partial(function, name=value)"
            )
        closed = [cell.cell_contents for cell in function.__closure__ or ()]
        names = [name for code in _codes(function.__code__) for name in code.co_names]
        read = {name: function.__globals__.get(name) for name in sorted(set(names))}
        read = {name: value for name, value in read.items() if isinstance(value, _READ)}
        given = (function.__code__, function.__defaults__, function.__kwdefaults__, closed, read)
        return self._joined("function", qualified(function).encode(), *map(self.name, given))

    def _class(self, kind: type) -> bytes:
        if _found(kind) and kind.__module__ != "__main__":
            return self._joined("class", qualified(kind).encode())
        own = {name: _unwrapped(value) for name, value in vars(kind).items() if name not in ("__module__", "__doc__")}
        own = {name: value for name, value in own.items() if isinstance(value, (FunctionType, *_READ))}
        if not self._modules and not _found(kind):
            raise TypeError(f"class {qualified(kind)} is inside a function; define it at the top of its module")
        self._modules += 1  # in a class of one's own, methods may close over what they like
        try:
            return self._joined("class", qualified(kind).encode(), *map(self._class, kind.__bases__), self._items(own))
        finally:
            self._modules -= 1


def _unwrapped(value: object) -> object:
    """The function of a property, class method or static method; other members of a class as they are."""
    return value.fget if isinstance(value, property) else getattr(value, "__func__", value)


def _codes(code: CodeType) -> list[CodeType]:
    """`code` and the codes in it: comprehensions, lambdas."""
    return [code, *(inner for const in code.co_consts if isinstance(const, CodeType) for inner in _codes(const))]
