"""Blocks of layers that a network has several times, as functions.

A block is a layer with others inside, or a part of a Sequential; what is different from one to the next are
the arguments of the function.  The layers that it makes, and the names of their tensors, are the same as
without it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from converters.calls import Argument, Call
from converters.naming import Names, kind
from converters.text import IMPORTS, bracketed, fits, indented

_LONGEST = 12  # layers in a part of a Sequential
_MOST = 4  # arguments of a function
_WORTH = 2  # lines that a function has to save
_LOOP = 3  # equal calls in a row
# How the names of classes begin whose layers belong to the one before
_FOLLOWING = (
    "BatchNorm", "InstanceNorm", "ReLU", "LeakyReLU", "PReLU", "ELU", "Tanh", "Sigmoid", "Threshold",
    "Dropout", "Hardtanh", "MaxPool", "AvgPool",
)  # fmt: skip

Part = tuple[Call, ...]  # a block: one call, or several of a Sequential


class Blocks:
    """Functions for what is there several times in some calls; `calls` are those that use them.

    `names` are those of the file.
    """

    def __init__(self, calls: Iterable[Call], names: Names) -> None:
        self.calls, self.names = list(calls), names
        self.functions: dict[str, tuple[str, Part]] = {}  # parameters and results, by name
        while some := self._best():
            self._define(some)
        self.calls = [_with_loops(call) for call in self.calls]

    def text(self) -> Iterator[str]:
        """The functions, those that others use first."""
        for name, (parameters, results) in reversed(self.functions.items()):
            looped = [_with_loops(call) for call in results]
            if len(results) > 1:
                parts = [call.text(8) for call in _looped(looped)]
                body = bracketed("return [", parts, "]", 4, True)
            else:
                body = f"return {looped[0].text(4)}"
            yield f"def {name}({parameters}):\n{indented(body)}"

    # ---- what is there several times

    def _best(self) -> list[Part]:
        """The occurrences of the block that saves most lines; none if no block saves enough."""
        found: dict[Any, list[Part]] = defaultdict(list)
        for root in (*self.calls, *(call for _, results in self.functions.values() for call in results)):
            for call in root.walk():
                for form, part in _parts(call):
                    found[form].append(part)
        clear = [some for some in found.values() if len(some) > 1 and _is_clear(some)]
        best = max(clear, key=_saved, default=[])
        return best if best and _saved(best) >= _WORTH else []

    def _define(self, some: list[Part]) -> None:
        """Write a function for these occurrences, and calls of it in their place."""
        form = Form(some)
        star, name = "*" * (len(some[0]) > 1), self.names.add(some[0], _title(some[0]))

        def called(part: Part) -> Call:
            return Call(star + name, (), form.arguments(part))

        self.calls = [_replaced(call, form.form, called) for call in self.calls]
        for other, (parameters, others) in self.functions.items():
            inside = tuple(_replaced(call, form.form, called) for call in others)
            self.functions[other] = parameters, _replaced_part(inside, form.form, called)
        self.functions[name] = ", ".join(form.parameters), form.results


class Form:
    """What some parts have in common: `results`, with names of `parameters` for what is different in them."""

    def __init__(self, some: list[Part]) -> None:
        self.form = _form(some[0])
        self.columns = _columns(some)
        groups = _varying(self.columns)
        labels = [argument.name for call in some[0] for argument in call.values]
        pairs = list(zip(labels, self.columns, strict=True))
        wanted = {group: _parameter([label for label, one in pairs if one == group]) for group in groups}
        names = Names(IMPORTS)
        names.number(wanted)
        self.names = {group: names[group] for group in groups}
        self.results = _template(some, [names.get(column, "") for column in self.columns])

    @property
    def parameters(self) -> list[str]:
        """The names of the parameters."""
        return list(self.names.values())

    def arguments(self, part: Part) -> tuple[Argument, ...]:
        """What a part has for the parameters."""
        texts = [argument.text for call in part for argument in call.values]
        given = [(name, texts[self.columns.index(group)]) for group, name in self.names.items()]
        return tuple(Argument(name, text, named=i > 1) for i, (name, text) in enumerate(given))


def varying(some: list[Part]) -> int | None:
    """In how many arguments parts are different; None if they are too many for a function."""
    count = len(_varying(_columns(some)))
    return count if count <= _MOST else None


def _varying(columns: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Those that are not the same value everywhere; a parameter of a function around may be any value."""
    return [column for column in dict.fromkeys(columns) if len(set(column)) > 1 or _is_parameter(column[0])]


def _is_parameter(text: str) -> bool:
    return text.isidentifier() and text not in ("None", "True", "False")


def _parts(call: Call) -> Iterator[tuple[Any, Part]]:
    """What may be a block: the call itself, and the parts of a Sequential, none of which overlap."""
    if any(one.is_name for one in call.walk()):
        return
    if call.children:
        yield _form((call,)), (call,)
    if call.function != "nn.Sequential":
        return
    ends: dict[Any, int] = {}
    for start in range(len(call.children)):
        for length in range(2, min(_LONGEST, len(call.children) - start) + 1):
            part = call.children[start : start + length]
            if part[0].function.rpartition(".")[2].startswith(_FOLLOWING):
                break
            if not _repeats(part) and ends.get(form := _form(part), 0) <= start:
                ends[form] = start + length
                yield form, part


def _repeats(part: Part) -> bool:
    """Whether it is a shorter part several times."""
    forms, length = _form(part), len(part)
    return any(length % n == 0 and forms == forms[:n] * (length // n) for n in range(1, length // 2 + 1))


def _form(part: Part) -> Any:
    return tuple(call.form for call in part)


def _columns(some: list[Part]) -> list[tuple[str, ...]]:
    """The texts of each argument, one for each occurrence."""
    rows = [[argument.text for call in part for argument in call.values] for part in some]
    return list(zip(*rows, strict=True))


def _is_clear(some: list[Part]) -> bool:
    """Whether a function for these has few arguments, and makes more than one layer."""
    return varying(some) is not None and sum(1 for call in some[0] for _ in call.walk()) > 2


def _saved(some: list[Part]) -> int:
    """The number of lines that a function for these saves."""
    size = [sum(call.text(12).count("\n") + 1 for call in part) for part in some]
    is_list = len(some[0]) > 1
    return sum(size) - len(size) - size[0] - 3 - 2 * is_list


def _template(some: list[Part], names: list[str]) -> Part:
    """The block with names in the place of the arguments that are not the same in all occurrences."""
    defaults = [
        {argument.default for argument in row}
        for row in zip(*[[a for call in part for a in call.values] for part in some], strict=True)
    ]
    remaining = iter(zip(names, defaults, strict=True))

    def filled(call: Call) -> Call:
        arguments = []
        for argument in call.arguments:
            name, known = next(remaining)
            default = None if name or len(known) > 1 else argument.default
            arguments.append(replace(argument, text=name or argument.text, default=default))
        return replace(call, arguments=tuple(arguments), children=tuple(map(filled, call.children)))

    return tuple(map(filled, some[0]))


def _replaced(call: Call, form: Any, called: Any) -> Call:
    """The call with calls of a function in the place of all blocks of a form."""
    if _form((call,)) == form and not any(one.is_name for one in call.walk()):
        return called((call,))  # type: ignore[no-any-return]
    if not call.children:
        return call
    is_list = call.function == "nn.Sequential" and not any(one.is_name for one in call.walk())
    children = tuple(_replaced(child, form, called) for child in call.children)
    return replace(call, children=_replaced_part(children, form, called) if is_list else children)


def _replaced_part(part: Part, form: Any, called: Any) -> Part:
    """The calls with those in a row replaced that are a block of a form."""
    found: list[Call] = []
    rest = list(part)
    while rest:
        head = tuple(rest[: len(form)])
        if len(form) > 1 and _form(head) == form:
            found.append(called(head))
            del rest[: len(form)]
        else:
            found.append(rest.pop(0))
    return tuple(found)


# ---- names


def _title(part: Part) -> str:
    """What a function is called, by the first layer that it makes."""
    outermost = part[0].function.lstrip("*")
    if len(part) == 1 and not outermost.startswith("nn."):
        return f"{kind(outermost)}_block"
    if any(one.function == "Residual" for call in part for one in call.walk()):
        return "residual_block"
    inside = [one.function.rpartition(".")[2] for call in part for one in call.walk() if not one.children]
    first = next((name for name in inside if not name.startswith(_FOLLOWING)), inside[0])
    return f"{kind(first.lstrip('*')).removesuffix('_block')}_block"


def _parameter(labels: list[str]) -> str:
    """The name of a parameter that stands for arguments of these names."""
    first = labels[0] or "value"
    ends = {label.partition("_")[2] for label in labels if label.startswith(("in_", "out_"))}
    both = {label.partition("_")[0] for label in labels} >= {"in", "out"}
    return ends.pop() if both and len(ends) == 1 else first


# ---- loops


def _with_loops(call: Call) -> Call:
    children = [_with_loops(child) for child in call.children]
    return replace(call, children=tuple(_looped(children)))


def _looped(calls: list[Call]) -> list[Call]:
    """The calls, those that are the same several times in a row as one loop."""
    found: list[Call] = []
    start = 0
    while start < len(calls):
        first = calls[start]
        count = next((i for i, call in enumerate(calls[start:]) if call != first), len(calls) - start)
        text = first.text(0)
        loop = f"[layer for _ in range({count}) for layer in {text[1:]}]"
        if not text.startswith("*"):
            loop = f"[{text} for _ in range({count})]"
        is_loop = count >= _LOOP and not first.is_name and fits(loop, 30)
        found += [Call(f"*{loop}", is_name=True)] if is_loop else calls[start : start + count]
        start += count
    return found
