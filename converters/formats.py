"""What a .t7 file can become: one row for each target of `t7convert --to`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from converters import exports, values
from converters.native import Layer, is_stateful
from converters.resave import resave
from converters.source import source
from converters.weights import write_npz, write_safetensors, write_state_dict
from t7compat.errors import InputError


@dataclass
class Export:
    """A network to be written: its layers, an input for it, and what to say of it.

    `run` gives what the Torch network gives; `about` are the lines of the docstring, and `metadata` is that
    of NAME.safetensors.
    """

    network: Layer
    input: Any
    run: Callable[[Any], Any]
    about: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)

    def built(self) -> torch.nn.Module:
        """The network, which gives its output alone, without the state after it."""
        network = self.network.build()
        if is_stateful(self.network):
            network.register_forward_hook(lambda network, inputs, output: output[0])
        return network

    @functools.cached_property
    def recorded(self) -> exports.Recorded:
        """The network as it is, as a program of torch.export."""
        return exports.Recorded(self.built(), self.input, self.run)

    @functools.cached_property
    def recorded_single(self) -> exports.Recorded:
        """The same with numbers of type float."""
        network = self.built()
        is_double = any(tensor.dtype == torch.float64 for tensor in self.network.tensors().values())
        network = network.float() if is_double else network

        def run(input: Any) -> Any:
            return exports.single(self.run(exports.like(self.input, input)))

        return exports.Recorded(network, exports.single(self.input), run)


class Format(NamedTuple):
    """A target: how its files end, and what writes them.

    A network is written by `network`, and `output` gives what the written file does for an input, which
    proves it (.py and .safetensors are proven in a fresh interpreter).  A file without networks is written by
    `data`, and one as it is by `whole`.  With `recorded` a run on an input is recorded; `is_single` says that
    double numbers become float.
    """

    suffix: str
    network: Callable[[Path, Export], None] | None = None
    output: Callable[[Path, Export, Any], Any] | None = None
    data: Callable[[Path, values.Values], None] | None = None
    whole: Callable[[Path, Any], None] | None = None
    recorded: Callable[[Export], exports.Recorded] | None = None
    is_single: bool = False
    packages: tuple[str, ...] = ()


def _py(path: Path, export: Export) -> None:
    path.write_text(source(path.stem, export.about, export.network), "utf-8")


def _state_dict(path: Path, export: Export) -> None:
    write_state_dict(path, export.network.tensors())


def _safetensors(path: Path, export: Export) -> None:
    repeated = export.network.repeated()
    tensors = {name: tensor for name, tensor in export.network.tensors().items() if name not in repeated}
    write_safetensors(path, tensors, {**export.metadata, **repeated})


def _npz(path: Path, export: Export) -> None:
    write_npz(path, export.network.tensors())


def _pt2(path: Path, export: Export) -> None:
    exports.write_program(path, export.recorded)


def _onnx(path: Path, export: Export) -> None:
    exports.write_onnx(path, export.recorded_single)


def _loaded(load: Callable[[Path], dict[str, torch.Tensor]]) -> Callable[[Path, Export, Any], Any]:
    """The output of the network with the weights that `load` finds in a file."""

    def output(path: Path, export: Export, input: Any) -> Any:
        network = export.built()
        network.load_state_dict(load(path), assign=True)
        with torch.no_grad():
            return network(input)

    return output


def _load_state_dict(path: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True, mmap=True)
    return weights


def _load_npz(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


FORMATS = {
    "py": Format(".py", _py),
    "state-dict": Format(".pt", _state_dict, _loaded(_load_state_dict)),
    "safetensors": Format(".safetensors", _safetensors, data=values.safetensors),
    "npz": Format(".npz", _npz, _loaded(_load_npz), values.npz),
    "json": Format(".json", data=values.as_json),
    "onnx": Format(
        ".onnx", _onnx, lambda path, _, input: exports.run_onnx(path, input),
        recorded=lambda export: export.recorded_single, is_single=True,
        packages=("onnx", "onnxscript", "onnxruntime"),
    ),
    "pt2": Format(
        ".pt2", _pt2, lambda path, _, input: exports.run_program(path, input),
        recorded=lambda export: export.recorded,
    ),
    "t7": Format(".clean.t7", whole=functools.partial(resave, format="binary")),
    "t7-ascii": Format(".ascii.t7", whole=functools.partial(resave, format="ascii")),
}  # fmt: skip


def chosen(names: Iterable[str]) -> dict[str, Format]:
    """The rows of these names, in the order of the table.  T7Error if a package that they need is missing."""
    wanted = set(names)
    for name in wanted - FORMATS.keys():
        raise InputError(f"expected targets among {', '.join(FORMATS)}, got {name!r}")
    rows = {name: row for name, row in FORMATS.items() if name in wanted}
    for row in rows.values():
        exports.needed(*row.packages, extra="onnx")
    return rows
