"""Torch class names and the Python classes that stand for them.

A class is known by the name that it has in .t7 files ("nn.Linear").  The name stays on the class as
`__typename__`, its version as `__version__`; the attributes of an instance are exactly the fields of its
table in the file.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Container
from typing import TypeVar

Class = TypeVar("Class", bound=type)

_classes: dict[str, type] = {}
_aliases: dict[str, tuple[str, type | None]] = {}
_namesakes: dict[str, list[tuple[str, type]]] = {}  # by name: the field that tells them, and the class


def register(
    typename: str, *, replaces: bool = False, told_by: str | None = None
) -> Callable[[Class], Class]:
    """Class decorator: objects of the Torch class `typename` are instances of the decorated class.

        @t7compat.register("my.Layer")
        class Layer(nn.Module): ...

    Loading fills the attributes of a new instance (`__init__` is not called) and then calls
    `upgrade(version)` where the class has such a method; saving writes the attributes.  A class with a format
    of its own has `read(file)` and `write(file)`, as in Lua.  A second class of one name raises ValueError
    unless it says `replaces=True`.

    Where two projects have a class of the same name, one of them says `told_by="field"`: it stands for the
    objects that have this field, the other class for the rest.  Only those in files are told apart; the name
    itself (nn.LSTM) means the other class.
    """

    def decorate(cls: Class) -> Class:
        others = _namesakes.setdefault(typename, [])
        known = _classes.get(typename) if told_by is None else dict(others).get(told_by)
        if known is not None and not replaces:
            raise ValueError(
                f"{typename} is {known.__module__}.{known.__qualname__} already; "
                f"say replaces=True to put {cls.__module__}.{cls.__qualname__} in its place"
            )
        cls.__typename__ = typename  # type: ignore[attr-defined]
        if "__version__" not in cls.__dict__:
            cls.__version__ = 1  # type: ignore[attr-defined]
        if told_by is None:
            _classes[typename] = cls
        else:
            others[:] = [(field, other) for field, other in others if field != told_by] + [(told_by, cls)]
        return cls

    return decorate


def alias(typename: str, original: str, addition: type | None = None) -> None:
    """Let the Torch class `typename` be the class `original` under another name.

    It is a subclass, made when it is first asked for, which has what `addition` has besides.  As long as
    there is no class `original`, there is none of this name either.
    """
    _aliases[typename] = original, addition


def lookup(typename: str) -> type | None:
    """The class that stands for the Torch class `typename`, or None."""
    return _classes.get(typename) or _by_alias(typename)


def namesake(typename: str, fields: Container[str]) -> type | None:
    """The class that an object with these fields is of, if it is not the one that `lookup` knows."""
    return next((cls for field, cls in _namesakes.get(typename, ()) if field in fields), None)


def unknown(typename: str) -> str:
    """What to tell a user who needs more of an object than its fields."""
    how = f'@t7compat.register("{typename}") makes a class known, see docs/custom_classes.md'
    return f"{typename}, which is no registered class ({how})"


def _by_alias(typename: str) -> type | None:
    original, addition = _aliases.get(typename, ("", None))
    base = _classes.get(original)
    if base is None:
        return None
    content = {
        "__doc__": base.__doc__,
        "__module__": "t7compat.foreign",  # where pickle looks for it
        "__qualname__": typename.replace(".", "_"),
        "__version__": getattr(addition, "__version__", 1),  # in Torch, that of the original is not inherited
    }
    bases = (base,) if addition is None else (addition, base)
    return types.new_class(base.__name__, bases, {"typename": typename}, lambda body: body.update(content))


def names(package: str) -> list[str]:
    """The class names of one package, without its prefix: names("nn") has "Linear"."""
    prefix = package + "."
    found = {*_classes, *(name for name, (original, _) in _aliases.items() if original in _classes)}
    return sorted(name.removeprefix(prefix) for name in found if name.startswith(prefix))
