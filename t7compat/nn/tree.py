"""The modules inside a module."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from t7compat.table import Table


class Tree:
    """The part of nn.Module that concerns the modules inside."""

    __slots__ = ()
    __typename__: str
    modules: Table

    def children(self) -> Iterable[Any]:
        """The modules in the field `modules`."""
        return vars(self).get("modules") or ()

    def apply(self, callback: Callable[[Any], Any]) -> None:
        """Call `callback(module)` on this module and all below it, parents first."""
        callback(self)
        for module in self.children():
            module.apply(callback)

    def replace(self, callback: Callable[[Any], Any]) -> Any:
        """Put `callback(module)` in the place of every module below; return that for this one."""
        replacement = callback(self)
        for i, module in enumerate(self.children(), 1):
            self.modules[i] = module.replace(callback)
        return replacement

    def findModules(self, typename: str, container: Any = None) -> tuple[Table, Table]:
        """All modules of exactly the class "nn.NAME", and the containers that hold them."""
        nodes, containers = Table(), Table()
        if self.__typename__ == typename:
            nodes.insert(self)
            containers.insert(self if container is None else container)
        for module in self.children():
            for mine, found in zip((nodes, containers), module.findModules(typename, self), strict=True):
                for value in found:
                    mine.insert(value)
        return nodes, containers

    def listModules(self) -> Table:
        """This module and all below it, parents first."""
        return Table(self, *[found for module in self.children() for found in module.listModules()])
