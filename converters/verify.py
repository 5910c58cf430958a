"""The proof: the written file, in a process that has nothing but PyTorch, against the Torch module."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from converters import child, interpreter
from converters.compare import difference
from converters.native import FAILURES
from converters.report import Verification
from converters.samples import Shape, candidates, describe, draw, shaped
from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nested import walk
from t7compat.nn import shapes
from t7compat.nn.module import Module
from t7compat.rnn.flat import RNN
from t7compat.table import Table, leaves, to_tuples
from t7compat.tensortypes import parse

PATIENCE = 20  # seconds of looking for an input that a network takes


def sample(
    module: Module, shape: Shape | None = None, wishes: Iterable[Shape] | None = None
) -> Sample | None:
    """An input of the given shape, or else of the first guess that a network takes, and its output for it.

    `wishes` are what it seems to want.  None if no guess is right, or none was within PATIENCE; InputError
    if the network does not take the given shape.
    """
    begin = time.monotonic()
    dtype = _number_type(module)
    for guess in (shape,) if shape is not None else candidates(module, wishes):
        if time.monotonic() - begin > PATIENCE:
            break
        try:
            input = draw(guess, dtype)
            output = run(module, input)
            return Sample(describe(guess), input, output, _is_random(module, input, output))
        except FAILURES as error:
            if shape is not None:
                raise InputError(f"it does not take an input of {describe(shape)}: {error}") from error
    return None


def _is_random(module: Module, input: Any, output: Any) -> bool:
    """Whether a network draws random numbers in evaluation; few of them may well give the same `output`."""
    before = mersenne.getRNGState()
    again = run(module, input)
    return not torch.equal(mersenne.getRNGState(), before) or not difference(again, output).within


class Sample(NamedTuple):
    """An input, the output of the Torch module for it, and whether that depends on random numbers."""

    shape: str
    input: Any
    output: Any
    is_random: bool

    @property
    def tells_something(self) -> bool:
        """Whether there is a number in the output that can differ."""
        return any(x.isfinite().any() for x in leaves(self.output) if isinstance(x, torch.Tensor))


def sampled(
    module: Module, sizes: list[tuple[int, ...]] | None, wishes: Iterable[Shape], result: Verification
) -> Sample | None:
    """A sample with which a network can be proven, noted in `result`; None for the reason noted there.

    `sizes` are those that the user gives for the input.
    """
    try:
        found = sample(module, shaped(sizes, wishes) if sizes else None, wishes)
    except InputError as error:
        result.reason = str(error)
        return None
    if found is None:
        result.reason = "no input was found that it takes; give its size with --input-shape"
        return None
    result.input, result.output = found.shape, shapes.describe(found.output)
    if found.is_random or not found.tells_something:
        random = "it draws random numbers in evaluation"
        result.reason = random if found.is_random else "its output has no finite number"
        return None
    return found


@contextlib.contextmanager
def preserved(module: Any) -> Iterator[None]:
    """Give a module and all in it its present fields back at the end: a forward pass changes some."""
    fields = [(content, dict(content)) for _, content in walk(module)]
    try:
        yield
    finally:
        for content, saved in fields:
            content.clear()
            content.update(saved)


def run(module: Module, input: Any) -> Any:
    """The output of a Torch module in evaluation mode, at the beginning of a sequence; tuples for tables."""
    for mode in (module.training, module.evaluate):
        mode()
        module.forget()
    for found, _ in walk(module):
        if isinstance(found, RNN):  # does not forget by itself
            found.resetStates()
    with torch.no_grad():
        output = module.forward(Table.from_python(input))
    return to_tuples(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, output)


def _number_type(module: Module) -> torch.dtype:
    pair = module.parameters()
    numbers = [p.dtype for p in pair[0] if p.is_floating_point()] if pair else []
    return (numbers or [parse(vars(module).get("_type", "torch.DoubleTensor")).dtype])[0]


def in_fresh_process(folder: Path, given: Mapping[str, tuple[Any, Any]]) -> dict[str, dict[str, Any]]:
    """What the written networks in a folder give, by name: what child.py makes of an input and a gradient.

    A text in the place of a result tells of a failure.  Where the input is None the network is loaded only.
    """
    if not given:
        return {}
    for name, pair in given.items():
        torch.save(pair, folder / f"{name}.input")
    done = interpreter.run(Path(child.__file__).read_text("utf-8"), str(folder.absolute()), *given)
    if done.returncode or not (folder / "results").exists():  # a file can end the process by itself
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return {name: {"output": f"the fresh interpreter failed: {last}"} for name in given}
    results: dict[str, dict[str, Any]] = torch.load(folder / "results")
    return results
