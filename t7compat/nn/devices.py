"""Modules that Torch7 spreads over several GPUs; here they run where their parameters are."""

from __future__ import annotations

from typing import Any

from t7compat.nn.containers import Child, Container, Decorator
from t7compat.nn.luaobject import LuaObject
from t7compat.nn.module import Module
from t7compat.table import Table


class GPU(Decorator):
    """A module that belongs on GPU `device` and hands its output to GPU `outdevice`."""

    def __init__(self, module: Module, device: int, outdevice: int | None = None) -> None:
        super().__init__(module)
        self.device, self.outdevice = device, outdevice or device

    def read(self, file: Any) -> None:
        """A table {type, device}, then the fields."""
        file.readObject()
        vars(self).update(file.readObject().items())

    def write(self, file: Any) -> None:
        """What `read` reads."""
        file.writeObject(Table(self.type(), self.device))
        file.writeObject(Table.from_items(vars(self).items()))

    def __str__(self) -> str:
        return f"{self.__typename__}({self.device}) @ {self.modules[1]}"


class DataParallelTable(Container):
    """Copies of a network on several GPUs, each of which takes its part of the batch; here there is one copy.

    `dimension` is that of the batch.  The file has the first copy only; all have the same parameters.
    """

    __version__ = 3

    def __init__(self, dimension: int, flattenParams: bool = False, usenccl: bool = False) -> None:
        super().__init__(dimension=dimension, flattenParams=flattenParams, usenccl=usenccl)
        self.typeStr, self.needsSync, self.gpuAssignments = "torch.CudaTensor", False, Table()

    def compute(self, input: Any, *children: Child) -> Any:
        return children[0](input)

    def parameters(self) -> tuple[Table, Table] | None:  # type: ignore[override]
        return self.modules[1].parameters() if self.modules[1] is not None else None

    def read(self, file: Any) -> None:
        """The GPUs of the copies (from version 2 on), then the fields."""
        assignments = file.readObject() if file.version >= 2 else None
        vars(self).update(file.readObject().items())
        if assignments is not None:
            self.gpuAssignments = assignments

    def write(self, file: Any) -> None:
        """What `read` reads, in its last version."""
        file.writeObject(self.gpuAssignments)
        file.writeObject(Table.from_items(vars(self).items()))


class BasicImplementation(LuaObject, typename="nn.DataParallelTable.Basic"):
    """What runs the copies of a DataParallelTable one after the other."""


class ThreadsImplementation(LuaObject, typename="nn.DataParallelTable.Threads"):
    """What runs the copies of a DataParallelTable in threads."""
