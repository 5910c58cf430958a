"""Torch class names and the Python classes that stand for them.

A class is known by the name that it has in .t7 files ("nn.Linear").  The name stays on the class as
`__typename__`, its version as `__version__`; the attributes of an instance are exactly the fields of its
table in the file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Class = TypeVar("Class", bound=type)

_classes: dict[str, type] = {}


def register(typename: str, *, replaces: bool = False) -> Callable[[Class], Class]:
    """Class decorator: objects of the Torch class `typename` are instances of the decorated class.

        @t7compat.register("my.Layer")
        class Layer(nn.Module): ...

    Loading fills the attributes of a new instance (`__init__` is not called) and then calls
    `upgrade(version)` where the class has such a method; saving writes the attributes.  A class with a format
    of its own has `read(file)` and `write(file)`, as in Lua.  A second class of one name raises ValueError
    unless it says `replaces=True`.
    """

    def decorate(cls: Class) -> Class:
        known = _classes.get(typename)
        if known is not None and not replaces:
            raise ValueError(
                f"{typename} is {known.__module__}.{known.__qualname__} already; "
                f"say replaces=True to put {cls.__module__}.{cls.__qualname__} in its place"
            )
        cls.__typename__ = typename  # type: ignore[attr-defined]
        if "__version__" not in cls.__dict__:
            cls.__version__ = 1  # type: ignore[attr-defined]
        _classes[typename] = cls
        return cls

    return decorate


def lookup(typename: str) -> type | None:
    """The class that stands for the Torch class `typename`, or None."""
    return _classes.get(typename)


def make(typename: str, *arguments: Any) -> Any:
    """A new instance of the class that stands for a Torch class, for those that consist of others."""
    return _classes[typename](*arguments)


def names(package: str) -> list[str]:
    """The registered class names of one package, without its prefix: names("nn") has "Linear"."""
    prefix = package + "."
    return sorted(name.removeprefix(prefix) for name in _classes if name.startswith(prefix))
