"""The input of a node, computed again when somebody looks at it."""

from __future__ import annotations

from typing import Any

from t7compat.table import Table

_NETWORK = object()  # the key of the network in a table that waits
_entries = Table.__dict__["__entries__"]


class Awaited(Table):
    """The inputs of a node after a pass that kept none; a plain table as soon as somebody looks inside."""

    __slots__ = ()

    @classmethod
    def of(cls, network: Any) -> Awaited:
        """The table of a node of a network."""
        table = cls()
        _entries.__get__(table)[_NETWORK] = network
        return table

    @property
    def __entries__(self) -> dict[Any, Any]:  # type: ignore[override]
        for recall in self._recalls():
            recall.look("input")
        return _entries.__get__(self)  # type: ignore[no-any-return]

    def __settle__(self) -> None:
        """Have the inputs, if they can be had: the table is about to be copied or saved."""
        for recall in self._recalls():
            recall.settle()

    def _recalls(self) -> list[Any]:
        """What gives the inputs, if they have not been asked for; the table is a plain one from now on."""
        network = _entries.__get__(self).pop(_NETWORK, None)
        if network is None:
            return []
        object.__setattr__(self, "__class__", Table)
        return [recall for recall in (network.deferred, network.recall) if recall is not None]
