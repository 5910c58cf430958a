"""Modules and criterions as objects of Lua: their fields, name, copies, conversion to another type."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

import torch

from t7compat import registry
from t7compat.nested import copy_graph, entries, walk
from t7compat.table import Table
from t7compat.tensortypes import TensorType, convert, parse, tag, type_of, whole_storage


class LuaObject:
    """An instance of a Torch class: its attributes are the fields of its table in a .t7 file, nothing else.

    A subclass inside this package stands for the Torch class "nn." + its own name, unless it gives another
    `typename` ("" for none); a user's class is known to files after `@t7compat.register("my.Layer")`.
    For the constructors in this package None is Lua's nil: it stands for the default of an argument.
    """

    __slots__ = ("__dict__", "__weakref__")
    __typename__: str
    __version__ = 1
    # Whether instances have a field `_type`, the name of their tensor type
    keeps_type = False

    def __init_subclass__(
        cls, *, typename: str | None = None, replaces: bool = False, told_by: str | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init_subclass__(**options)
        if typename is None and cls.__module__.startswith("t7compat."):
            typename = f"nn.{cls.__name__}"
        if cls.__module__.startswith("t7compat.") and "__init__" in vars(cls):
            cls.__init__ = _with_defaults(cls.__init__)  # type: ignore[method-assign]
        cls.__typename__ = cls.__name__
        if typename:
            registry.register(typename, replaces=replaces, told_by=told_by)(cls)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """A field: which ones there are is known to the Lua class only."""

    def __getstate__(self) -> dict[str, Any]:
        """What `torch.save` keeps: the fields, but no recorded pass, whose graph it cannot.

        It also keeps what is shared, which Python's pickle alone does not: that copies each tensor.
        """
        return entries(self) or {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy_graph(self, memo)

    def __str__(self) -> str:
        """The text that Lua's `tostring` gives."""
        return self.__typename__

    def __repr__(self) -> str:
        return str(self)

    def clone(self) -> Any:
        """A copy that shares nothing with the original; what is shared inside is shared inside the copy."""
        return copy_graph(self)

    def type(self, type: str | None = None, tensorCache: Cache | Table | None = None) -> Any:
        """Convert all tensors to a type such as "torch.FloatTensor"; without argument, the name of the type.

        Tensors that share memory do so afterwards, also across calls that are given the same `tensorCache`.
        """
        if type is None:
            return vars(self).get("_type")
        row = parse(type)
        cache = {} if tensorCache is None else tensorCache

        def enters(value: Any) -> bool:
            """Whether the walk goes into a value: not if its class converts itself in a way of its own."""
            if value is self or not isinstance(value, LuaObject) or value.__class__.type is LuaObject.type:
                return True
            if id(value) not in cache:
                cache[id(value)] = value
                value.type(type, cache)
            return False

        for value, fields in walk(self, enters):
            if isinstance(value, LuaObject):
                value.before_type()
            for name, field in fields.items():
                if isinstance(field, torch.Tensor):
                    fields[name] = converted(field, row, cache)
            if getattr(value, "keeps_type", False):
                fields["_type"] = type
        return self

    def before_type(self) -> None:
        """Called before `type` converts the tensors: what it does not find is not converted."""

    def float(self) -> Any:
        """`type("torch.FloatTensor")`: 32-bit numbers on the CPU."""
        return self.type("torch.FloatTensor")

    def double(self) -> Any:
        """`type("torch.DoubleTensor")`: 64-bit numbers on the CPU."""
        return self.type("torch.DoubleTensor")

    def cuda(self) -> Any:
        """`type("torch.CudaTensor")`: 32-bit numbers on the GPU."""
        return self.type("torch.CudaTensor")

    def cudaHalf(self) -> Any:
        """`type("torch.CudaHalfTensor")`: 16-bit numbers on the GPU."""
        return self.type("torch.CudaHalfTensor")

    def cudaDouble(self) -> Any:
        """`type("torch.CudaDoubleTensor")`: 64-bit numbers on the GPU."""
        return self.type("torch.CudaDoubleTensor")


def _with_defaults(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that takes the default of an argument where it is given None."""
    parameters = [*inspect.signature(init).parameters.values()][1:]
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    defaults = {p.name: p.default for p in parameters if p.default not in (None, inspect.Parameter.empty)}
    if not defaults:
        return init

    @functools.wraps(init)
    def constructor(self: Any, *arguments: Any, **named: Any) -> None:
        given = [
            defaults.get(name) if value is None else value
            for name, value in itertools.zip_longest(names[: len(arguments)], arguments)
        ]
        chosen = {name: defaults.get(name) if value is None else value for name, value in named.items()}
        init(self, *given, **chosen)

    return constructor


Cache = MutableMapping[Any, Any]


def converted(tensor: torch.Tensor, row: TensorType, cache: Cache | Table) -> torch.Tensor:
    """A tensor as one of another type.

    The cache holds what has been converted before: tensors by identity, storages by address.
    """
    if type_of(tensor) is row:
        return tensor
    if id(tensor) not in cache:
        cache[id(tensor)] = tensor, _through_storage(tensor, row, cache)
    result: torch.Tensor = cache[id(tensor)][1]
    return result


def _through_storage(tensor: torch.Tensor, row: TensorType, cache: Cache | Table) -> torch.Tensor:
    """The tensor as a view of its converted storage, which all its views share."""
    key = "storage", tensor.untyped_storage()._cdata
    if key not in cache:
        whole = whole_storage(tensor)
        cache[key] = whole, convert(whole, row)
    return tag(cache[key][1].as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()), row)


def clear(module: Any, *names: str) -> Any:
    """Empty the tensors and tables of these names, remove other values; a recorded pass goes too."""
    fields: dict[str, Any] = entries(module) or {}
    if hasattr(module, "tape"):
        module.tape = None
    for name in names:
        value = fields.get(name)
        if isinstance(value, torch.Tensor):
            fields[name] = value.new_empty(0)
        elif isinstance(value, Table):
            fields[name] = Table()
        else:
            fields.pop(name, None)
    return module
