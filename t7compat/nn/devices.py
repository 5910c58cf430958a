"""Modules that Torch7 spreads over several GPUs; here they run where their parameters are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nn.containers import Child, Container, Decorator
from t7compat.nn.flatten import flat_view
from t7compat.nn.luaobject import LuaObject
from t7compat.nn.module import Module
from t7compat.table import Table


class GPU(Decorator):
    """A module that belongs on GPU `device` and hands its output to GPU `outdevice`."""

    def __init__(self, module: Module, device: int, outdevice: int | None = None) -> None:
        super().__init__(module)
        self.device, self.outdevice = device, outdevice or device
        if str(module.type()).startswith("torch.Cuda"):
            self.type(module.type())

    def setDevice(self, device: int | None = None) -> Any:
        """Choose another GPU for the module."""
        self.device = device or self.device
        return self

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

    `dimension` is that of the batch.  The file has the first copy only; all have the same parameters.  A
    script that was written for several GPUs runs: the GPU numbers are kept, and what synchronises the copies
    has nothing to do.  To train on several, see t7compat.distributed.
    """

    __version__ = 3
    deserializeNGPUs: int | None = None  # set it on the class to have loaded ones on that many GPUs
    gpuAssignments: Table
    flattenParams = False
    needsSync = False
    flattenedParams: Any = None  # {{parameters, gradients}} as flat tensors

    def __init__(self, dimension: int, flattenParams: bool = False, usenccl: bool = False) -> None:
        super().__init__(dimension=dimension, flattenParams=bool(flattenParams), usenccl=bool(usenccl))
        if usenccl and not flattenParams:
            raise InputError(f"{self.__typename__}: expected flattenParams where nccl is used")
        self.typeStr, self.needsSync = "torch.CudaTensor", False
        for name in ("gpuAssignments", "inputGpu", "gradOutputGpu", "outputGpu", "gradInputGpu"):
            vars(self)[name] = Table()
        self.impl = BasicImplementation(self)

    def compute(self, input: Any, *children: Child) -> Any:
        return children[0](input)

    def native(self) -> functools.partial[Any]:
        return functools.partial(torch.nn.Sequential)

    def prepare(self, input: Any) -> None:
        if self.flattenParams and not self._is_flat():
            self.flattenParameters()

    def explain(self, input: Any) -> None:
        if not self.modules:
            raise InputError("expected a module, added before the first forward")
        super().explain(input)

    def add(self, module: Module, gpus: Any = 1) -> Any:  # type: ignore[override]
        """Choose the network and the number of its GPU, or a table of numbers for as many copies.

        Called once for each GPU, only the first call counts for the network.
        """
        numbers = Table.from_python(gpus)
        if not isinstance(numbers, Table):
            self.gpuAssignments.insert(numbers)
        elif self.modules or not numbers:
            raise InputError(f"{self.__typename__}: expected one call of add with a table of GPU numbers")
        else:
            self.gpuAssignments = numbers
        if not self.modules:
            self.modules[1] = self._expected(module)
        return self

    def threads(self, initFunc: Any = None, syncCopies: bool | None = None) -> Any:
        """Run the copies in threads, each of which would call `initFunc`."""
        self.impl = ThreadsImplementation(self, initFunc, syncCopies)
        return self

    def syncParameters(self) -> None:
        """Give all copies the parameters of the first one."""
        self.needsSync = False

    def flattenParameters(self) -> None:
        """Have the parameters in one flat tensor, the gradients in another; if they are, they stay there."""
        parameters, gradients = map(flat_view, self.parameters())
        if parameters is None or gradients is None:
            parameters, gradients = self.modules[1].getParameters()
        self.flattenedParams = Table(Table(parameters, gradients))
        self.flattenParams = True

    def getParameters(self) -> tuple[torch.Tensor, torch.Tensor]:
        self.flattenParameters()
        return self.flattenedParams[1].unpack()

    def _is_flat(self) -> bool:
        """Whether the parameters are still in the flat tensor."""
        if self.flattenedParams is None:
            return False
        places = {tensor.untyped_storage()._cdata for tensor in self.parameters()[0]}
        return places <= {self.flattenedParams[1][1].untyped_storage()._cdata}

    def moduleParameters(self) -> Table:
        """For each copy a table of its parameters and one of their gradients."""
        if self.flattenedParams is None:
            return Table(Table(*self.parameters()))
        return Table(Table(*[Table(flat) for flat in self.flattenedParams[1]]))

    def type(self, type: str | None = None, tensorCache: Any = None) -> Any:
        result = super().type(type, tensorCache)
        if type is not None:
            self.typeStr = type
        return result

    def read(self, file: Any) -> None:
        """The GPUs of the copies, then the fields; version 1 has the fields alone, with all copies."""
        assignments = file.readObject() if file.version >= 2 else None
        vars(self).update(file.readObject().items())
        if file.version < 2:
            self.modules = Table(self.modules[1])
        if self.deserializeNGPUs is not None:
            assignments = Table(*range(1, self.deserializeNGPUs + 1))
        if assignments is not None:
            self.gpuAssignments = assignments

    def write(self, file: Any) -> None:
        """What `read` reads, in its last version."""
        file.writeObject(self.gpuAssignments)
        file.writeObject(Table.from_items(vars(self).items()))

    def __str__(self) -> str:
        return f"DataParallelTable: {len(self.gpuAssignments)} x {self.modules[1]}"


class BasicImplementation(LuaObject, typename="nn.DataParallelTable.Basic"):
    """What runs the copies of a DataParallelTable one after the other."""

    def __init__(self, dpt: DataParallelTable) -> None:
        self.dpt = dpt

    def exec(self, closure: Callable[[Any, int], Any], maxGpuIdx: int | None = None) -> Table:
        """A table of what `closure(copy, number)` gives for each copy: here there is one."""
        return Table(closure(self.dpt.modules[1], 1))

    def close(self) -> None:
        """Let go of the copies and their threads, of which there are none."""


class ThreadsImplementation(BasicImplementation, typename="nn.DataParallelTable.Threads"):
    """What runs the copies of a DataParallelTable in threads."""

    def __init__(self, dpt: DataParallelTable, initFunc: Any = None, syncCopies: bool | None = None) -> None:
        super().__init__(dpt)
        given = {"initFunc": initFunc, "syncCopies": syncCopies}
        vars(self).update((name, value) for name, value in given.items() if value is not None)
