"""Networks as programs of torch.export (.pt2) and as ONNX graphs, and what these give for an input.

Both are recorded from a run on the sample.  Sizes of the input that the recorded operations leave free stay
free in the file, above all that of the batch, if the Torch network gives the same for others, too; the rest
of the sizes are those of the sample.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from converters.compare import difference
from converters.onnx_forms import expressible
from t7compat.errors import T7Error
from t7compat.table import leaves, to_tuples

T = TypeVar("T")
Free = list[tuple[bool, ...]]  # for each tensor of the input: which of its sizes are free
Run = Callable[[Any], Any]
_ALL = tuple(range(9))  # the directions in which a tensor has a size
_EXTERNAL = 2**31 - 2**26  # bytes of weights: an .onnx file cannot hold more, they go to a file beside it


class Recorded:
    """A network as a program of torch.export; `free` tells which sizes of its input may be others.

    `run` gives the output of the Torch network for an input, in the types of the program.
    """

    def __init__(self, network: torch.nn.Module, input: Any, run: Run) -> None:
        self._network, self._input = network, input
        self.program = _program(network, input, run)

    @property
    def free(self) -> Free:
        return _free(self.program)

    def written(self, write: Callable[[Any], T]) -> T:
        """What `write` makes of the program, of which all sizes are fixed if it cannot take free ones."""
        try:
            return write(self.program)
        except Exception:  # of an exporter
            if not any(map(any, self.free)):
                raise
            self.program = _recorded(self._network, self._input, ())
            return write(self.program)

    def sizes(self, input: Any) -> str:
        """The sizes that the program takes, as in `*x3x*x*`; nothing if all are fixed."""
        texts = [
            "x".join("*" if is_free else str(n) for n, is_free in zip(x.shape, free, strict=True))
            for x, free in zip(leaves(input), self.free, strict=True)
        ]
        return ", ".join(texts) if any(map(any, self.free)) else ""


def write_program(path: Path, recorded: Recorded) -> None:
    """Write a file for torch.export.load."""
    with _quiet():
        recorded.written(lambda program: torch.export.save(program, path))


def run_program(path: Path, input: Any) -> Any:
    """What the network in a .pt2 file gives."""
    with _quiet(), torch.no_grad():
        return torch.export.load(path).module()(input)


def write_onnx(path: Path, recorded: Recorded) -> None:
    """Write an ONNX graph with inputs `input` (or input1, input2, ...) and outputs named likewise."""
    with _quiet():
        graph = recorded.written(_graph)
        weights = sum(tensor.nbytes for tensor in recorded.program.state_dict.values())
        graph.save(path, external_data=weights > _EXTERNAL)


def _graph(program: Any) -> Any:
    signature = program.graph_signature
    inputs = _numbered("input", len(signature.user_inputs))
    outputs = _numbered("output", len(signature.user_outputs))
    return torch.onnx.export(
        expressible(program), input_names=inputs, output_names=outputs, dynamo=True, verbose=False
    )


def run_onnx(path: Path, input: Any) -> Any:
    """What onnxruntime gives, on the CPU, as one flat tuple."""
    (runtime,) = needed("onnxruntime", extra="onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # its warnings are about its own optimizations
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    tensors = leaves(input)
    arrays = dict(zip(_numbered("input", len(tensors)), (x.numpy() for x in tensors), strict=True))
    taken = {entry.name for entry in session.get_inputs()}  # what has no effect is not among them
    found = session.run(None, {name: array for name, array in arrays.items() if name in taken})
    return tuple(torch.from_numpy(array) for array in found)


def single(value: Any) -> Any:
    """The value with float instead of double: runtimes of ONNX have most layers for float only."""
    return to_tuples(
        lambda x: x.float() if isinstance(x, torch.Tensor) and x.dtype == torch.float64 else x, value
    )


def like(example: Any, value: Any) -> Any:
    """The value with the types of numbers that the example has."""
    types = iter([x.dtype for x in leaves(example)])
    return to_tuples(lambda x: x.to(next(types)), value)


def needed(*packages: str, extra: str) -> list[Any]:
    """The modules of these names; T7Error that tells how to install them."""
    try:
        return [importlib.import_module(name) for name in packages]
    except ImportError as error:
        raise T7Error(
            f"the package {error.name} is missing; pip install 't7compat[{extra}]' installs it"
        ) from None


def _numbered(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f"{name}{i}" for i in range(1, count + 1)]


# ---- recording


def _program(network: torch.nn.Module, input: Any, run: Run) -> Any:
    """The program with as many free sizes as are right, but rather a free batch than others.

    A size of 1 would be fixed, and one that others depend on makes a run with all of them free fail.
    """
    inputs, found = [input], []
    if any(x.shape[:1] == (1,) for x in leaves(input)):
        inputs.append(_doubled(input, [(x.shape[:1] == (1,),) for x in leaves(input)]))
    for sample, axes in itertools.product(inputs, (_ALL, _ALL[:1], _ALL[1:2])):
        with contextlib.suppress(Exception):  # of an exporter
            program = _recorded(network, sample, axes)
            if _is_right(program, input, sample, run):
                if all(free[:1] == (True,) for free in _free(program)):
                    return program
                found.append(program)
    return found[0] if found else _recorded(network, input, ())


def _is_right(program: Any, input: Any, sample: Any, run: Run) -> bool:
    """Whether sizes are free, and the program gives what the Torch network gives for others of them.

    It does so for `input` and, with these sizes doubled, for the sample with which it was recorded.
    """
    free = _free(program)
    if not any(map(any, free)):
        return False
    for given in (_doubled(sample, free), input):
        with _quiet(), torch.no_grad():
            got, want = program.module()(given), run(given)
        if not difference(tuple(leaves(got)), tuple(leaves(want))).within:
            return False
    return True


def _doubled(input: Any, free: Free) -> Any:
    """The input twice, one behind the other, in each direction of which the size is free."""
    pairs = zip(leaves(input), free, strict=True)

    def repeated(x: torch.Tensor, free: tuple[bool, ...]) -> torch.Tensor:
        for axis in (axis for axis, is_free in enumerate(free) if is_free):
            x = torch.cat((x, x), axis)
        return x

    found = iter([repeated(*pair) for pair in pairs])
    return to_tuples(lambda x: next(found), input)


def _recorded(network: torch.nn.Module, input: Any, axes: Sequence[int]) -> Any:
    """The program for an input; the sizes of each tensor in these directions may be others."""
    automatic = getattr(torch.export.Dim, "AUTO", None)
    if automatic is None:
        raise T7Error("exported programs need PyTorch 2.6 or later")
    sizes = to_tuples(lambda x: {axis: automatic for axis in axes if axis < x.dim()}, input)
    with _quiet(), torch.no_grad():
        return torch.export.export(network, (input,), dynamic_shapes=(sizes,))


def _free(program: Any) -> Free:
    inputs = set(program.graph_signature.user_inputs)
    values = [node.meta["val"] for node in program.graph.nodes if node.name in inputs]
    return [tuple(isinstance(size, torch.SymInt) for size in value.shape) for value in values]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of PyTorch's exporters, which are about their own code."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
