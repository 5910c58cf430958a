"""optnet: networks that keep less in memory, after the Lua package of this name (F. Massa, 2016).

Torch7 keeps the output and the gradInput of every module, here as there (all but clones over time, see
nn/recall.py).  After `optimizeMemory` those inside a network are given up where autograd does not need them,
which takes less time, too.  The network's own stay.  This holds for the modules in memory, in whatever
network they are, not for clones of them and what is read from a file.  Gradients that were removed stay so
everywhere until `removeOptimization`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from t7compat.errors import InputError
from t7compat.nn.deferred import does_without
from t7compat.nn.gradients import tensors
from t7compat.nn.module import INFERENCE, Module
from t7compat.nn.shapes import describe
from t7compat.table import Table
from t7compat.tensortypes import whole_storage

TRAINING = "training"


def optimizeMemory(net: Module, input: Any = None, opts: Any = None) -> None:
    """Let a network keep no outputs and gradInputs of the modules inside.

    opts.mode is "inference" (the default) or "training".  In inference there is no backward, and unless
    opts.removeGradParams is false no memory for the gradients of the parameters, and no `getParameters`.  In
    training, a `backward` that is not the first one after a forward of its input computes that anew.  The
    options `inplace` and `reuseBuffers`, and the `input`, on which the Lua package tries the network, change
    nothing here.

    Modules inside others than the plain containers (Sequential, Concat, ConcatTable, DepthConcat, Parallel,
    ParallelTable, gModule) keep what they have, and so do modules with state of their own.
    """
    opts = Table() if opts is None else Table.from_python(opts)
    mode = INFERENCE if opts.mode is None else opts.mode
    if mode not in (INFERENCE, TRAINING):
        raise InputError(f'opts.mode: expected "{INFERENCE}" or "{TRAINING}", got {describe(mode)}')
    if not isinstance(net, Module) or net.is_opaque():
        raise InputError(f"expected a network of nn modules, got {describe(net)}")
    if net.optnet is not None:
        print(f"optnet: left as it is, because the network is optimized for {net.optnet} already")
        return
    net.clearState()
    net.optnet = mode
    for module in _giving_up(net):
        module.optnet = mode
    if mode == INFERENCE and opts.removeGradParams is not False:
        for fields, _, gradient in _gradients(net):
            fields[gradient] = fields[gradient].new_empty(0)


def removeOptimization(net: Module) -> None:
    """Let a network, or a clone, keep all outputs and gradInputs from its next forward on.

    Gradients that were removed are zeros, in memory of their own: call `getParameters` again.
    """
    for module in net.listModules():
        module.optnet = None
        module.keep_inside()
    storages: dict[int, torch.Tensor] = {}
    for fields, name, gradient in _gradients(net):
        if fields[gradient].numel() < (parameter := fields[name]).numel():
            storage = parameter.untyped_storage()._cdata  # what is shared is shared by gradients, too
            if storage not in storages:
                storages[storage] = torch.zeros_like(whole_storage(parameter))
            view = parameter.shape, parameter.stride(), parameter.storage_offset()
            fields[gradient] = storages[storage].as_strided(*view)


def countUsedMemory(net: Module) -> Table:
    """How many bytes the tensors of a network take, each storage counted once for what it is used for.

    {outputs, gradInputs, params (with their gradients), buffers (what is in other fields), total_size}
    """
    kinds = "outputs", "gradInputs", "params", "buffers"
    storages: dict[str, dict[int, int]] = {kind: {} for kind in kinds}
    for module in net.listModules():
        kind_of = {"output": "outputs", "gradInput": "gradInputs"}
        kind_of |= {name: "params" for pair in module._parameter_fields for name in pair}
        for name, value in vars(module).items():
            for tensor in tensors(value) if name in kind_of or isinstance(value, torch.Tensor) else ():
                storage = tensor.untyped_storage()
                storages[kind_of.get(name, "buffers")][storage._cdata] = storage.nbytes()
    sizes = {kind: sum(found.values()) for kind, found in storages.items()}
    return Table(**sizes, total_size=sum(sizes.values()))


def _giving_up(module: Module) -> Iterator[Module]:
    """The modules inside plain containers of whose values nobody takes note."""
    for child in module.children() if type(module).is_plain else ():
        if does_without(child):
            yield child
        yield from _giving_up(child)


def _gradients(net: Module) -> Iterator[tuple[dict[str, Any], str, str]]:
    """The fields of each module with the names of a parameter and of its gradient that it has."""
    for module in net.listModules():
        fields = vars(module)
        for name, gradient in module._parameter_fields:
            if fields.get(name) is not None and fields.get(gradient) is not None:
                yield fields, name, gradient
