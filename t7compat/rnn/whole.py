"""Whole sequences in one graph.

A sequence is run as one batch, which has the samples of the first step, then those of the second one, and so
on.  Layers that treat samples one by one (`row_dims`) need not know; recurrent modules have a form for it of
their own, `run_whole`.  Afterwards they have outputs, states and gradInputs as after a run step by step.
What only such a run can tell (`gradCells`, `gradOutputs`, a tape for each step) waits until somebody asks for
it: then the sequence is run again, step by step.  There are no clones for the steps (`sharedClones`), and the
modules inside of a cell have no outputs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from t7compat import mersenne
from t7compat.nn.gradients import tensors
from t7compat.nn.module import Module
from t7compat.nn.shapes import FAULTS
from t7compat.nn.stepping import PROTOCOL
from t7compat.nn.stochastic import Dropout
from t7compat.nn.tables import JoinTable
from t7compat.nn.tape import Tape
from t7compat.rnn.recurrent import AbstractRecurrent
from t7compat.table import leaves, map_leaves, to_tuples

Tensor = torch.Tensor
PLAIN = {bool, int, float, str}


class NotWhole(RuntimeError):
    """Raised during a forward that has to go step by step."""


class Run(NamedTuple):
    """What one recurrent module did for the sequence."""

    module: AbstractRecurrent
    start: int  # its number of the first step
    input: Any  # of all steps, then the parts of the state before them, if it has any
    output: Any
    ends: tuple[Tensor, ...]  # the other parts of the state after the last step
    states: Any  # these parts for all steps, or a function that gives them


class Whole(Tape):
    """The graph of a sequence; its values are batches of the samples of all steps."""

    __slots__ = (
        "batch", "generator", "given", "gradOutput", "gradient", "kept", "length", "noises", "rows", "runs",
        "versions",
    )  # fmt: skip

    def __init__(
        self,
        module: AbstractRecurrent,
        input: Any,
        steps: list[Any],
        batch: int | None,
        dropouts: list[Dropout],
    ) -> None:
        """`batch` is the number of samples of a step; None if a step is a sample without a batch."""
        self.length, self.batch = len(steps), batch
        self.given, self.versions = tensors(steps), versions(steps)
        self.runs: list[Run] = []
        # For each parameter, by identity of its leaf, what gives its value in the forward
        self.kept: dict[int, Callable[[], Tensor]] = {}
        self.gradOutput: list[Any] | None = None  # of the last backward
        self.rows: Any = None  # the same as one batch
        self.gradient: Any = None  # that of the input
        self.generator = mersenne.getRNGState() if dropouts else None
        try:
            self.noises = self._noises(dropouts) if len(dropouts) > 1 else {}
            super().__init__(module, input)
        except FAULTS as error:
            if self.generator is not None:
                mersenne.setRNGState(self.generator)
            raise NotWhole from error
        for *_, leaf in self.parameters if self.is_recorded else ():
            if id(leaf) not in self.kept:
                self.kept[id(leaf)] = functools.partial(torch.Tensor.detach, leaf.detach().clone())
        for dropout in dropouts:
            dropout.noise = self.at(dropout.noise, -1).clone()
        for run in self.runs:
            run.module.take_whole(self, run)

    def _noises(self, dropouts: list[Dropout]) -> dict[int, Tensor]:
        """The noise of several layers, drawn as they would take turns step by step.

        How large it is, is known from their last forward.
        """
        if not all(dropout.noise.numel() for dropout in dropouts):
            raise NotWhole
        first = () if self.batch is None else (self.batch,)
        shapes = [(*first, *dropout.noise.shape[len(first) :]) for dropout in dropouts]
        kept = [
            torch.full(shape, 1 - dropout.p, dtype=torch.float64).flatten()
            for dropout, shape in zip(dropouts, shapes, strict=True)
        ]
        all_kept = torch.cat(kept).expand(self.length, -1)
        drawn = mersenne.bernoulli_(dropouts[0].noise.new_empty(all_kept.shape), all_kept)
        parts = torch.split(drawn, [len(part) for part in kept], 1)
        return {
            id(dropout): part.reshape(-1, *shape[len(first) :]) / (1 - dropout.p if dropout.v2 else 1)
            for dropout, part, shape in zip(dropouts, parts, shapes, strict=True)
        }

    # ---- forward

    operand = Tape.leaf  # all parameters are watched, see `has_other_parameters`

    def call(self, module: Module, input: Any, as_opaque: bool | None = None) -> Any:
        if isinstance(module, AbstractRecurrent):
            return module.run_whole(self, input)
        if any(x.dim() - 1 not in module.row_dims for x in tensors(input)):
            raise NotWhole
        if self.batch is None and isinstance(module, JoinTable) and module.nInputDims is None:
            raise NotWhole  # the dimensions of a sample are not those of a batch
        if id(module) in self.noises:
            return self._drop(module, input)
        return super().call(module, input, as_opaque)

    def _drop(self, module: Any, input: Tensor) -> Any:
        noise = module.noise = self.noises[id(module)]
        if noise.shape != input.shape or noise.dtype != input.dtype:
            raise NotWhole
        return self.record(module, input, module.compute(input))

    def record(self, module: Module, input: Any, output: Any) -> Any:
        self.calls.append((module, input))
        module.tape = None
        if module.recall is not None:
            module.recall.taken(module, self.module)
        module.output = map_leaves(lambda x: self.at(x.data, -1) if isinstance(x, Tensor) else x, output)
        return output

    def note(
        self,
        module: AbstractRecurrent,
        input: Any,
        output: Any,
        ends: Sequence[Tensor] = (),
        states: Any = (),
    ) -> Any:
        """Note the `Run` of a recurrent module; the other modules have `record`."""
        self.calls.append((module, input))
        self.runs.append(Run(module, module.step, input, output, tuple(ends), states))
        return output

    def run_of(self, module: AbstractRecurrent) -> Run:
        """What a module did for the sequence."""
        return next(run for run in self.runs if run.module is module)

    # ---- batches of all steps

    @property
    def outputs(self) -> list[Any]:
        """The outputs of all steps."""
        root = self.runs[-1]
        return [root.module.outputs[t] for t in range(root.start, root.start + self.length)]

    def sequence(self, rows: Tensor) -> Tensor:
        """(time * batch, ...) -> (time, batch, ...) if steps have a batch; outside of the graph"""
        return rows.detach() if self.batch is None else self.timed(rows.detach())

    def timed(self, rows: Tensor) -> Tensor:
        """(time * batch, ...) -> (time, batch, ...)"""
        return rows.view(self.length, self.batch or 1, *rows.shape[1:])

    def at(self, rows: Tensor, index: int) -> Tensor:
        """A step, counted from 0."""
        return (rows if self.batch is None else self.timed(rows))[index]

    def steps(self, value: Any) -> list[Any]:
        """The steps of a nested value, outside of the graph."""
        if isinstance(value, Tensor):
            return list((value.data if self.batch is None else self.timed(value.data)).unbind())
        parts = {id(leaf): self.steps(leaf) for leaf in tensors(value)}

        def step(t: int) -> Any:
            return map_leaves(lambda x: parts[id(x)][t] if isinstance(x, Tensor) else x, value)

        return [step(t) for t in range(self.length)]

    # ---- backward

    def back(self, gradOutput: Any, steps: list[Any], **sweep: Any) -> bool:
        """Go back through the sequence, and say so, unless it has to be done step by step.

        `sweep` are the options of `Tape.backward`; a backward of inputs leaves `gradInputs` and `gradient`.
        """
        root, counters, inputs = self.runs[-1], _counters(**sweep), sweep.get("inputs", True)
        if (
            not self.is_recorded
            or root.module.whole is not self
            or root.module.step != root.start + self.length
            or any(getattr(root.module, counter) is not None for counter in counters)
            or (not inputs and self.rows is None)
            or [_form(step) for step in steps] != [_form(step) for step in self.outputs]
            or self.has_other_parameters()
        ):
            return False
        if inputs:
            self.rows, self.gradOutput = joined(gradOutput, steps, self.batch is not None), steps
        if self.rows is None:
            return False
        self.take_changes()
        self.gradient = self.backward(self.rows, **sweep)
        for run in self.runs:
            for counter in counters:
                setattr(run.module, counter, run.start)
        return True

    def keep(
        self, copies: dict[Tensor, Tensor], original: Callable[[Tensor], Tensor] = torch.Tensor.detach
    ) -> None:
        """Say that a cell has copies of some parameters already; `original` makes the parameters of them."""
        self.kept.update((id(leaf), functools.partial(original, copy)) for leaf, copy in copies.items())

    def has_other_parameters(self) -> bool:
        """Whether parameters have changed since the forward."""
        return any(not torch.equal(leaf.detach(), self.kept[id(leaf)]()) for *_, leaf in self.parameters)

    def take_changes(self) -> None:
        """Take over what has changed in the steps of the input: the gradients of parameters heed that."""
        if versions(self.given) != self.versions and len(self.given) == self.length:
            rows = joined(None, self.given, self.batch is not None)
            self.input.data.copy_(rows.view_as(self.input))
            self.versions = versions(self.given)

    @property
    def gradInputs(self) -> list[Any]:
        """The gradients with respect to all steps of the input."""
        root = self.runs[-1]
        return [root.module.gradInputs[t] for t in range(root.start, root.start + self.length)]

    def _set_gradients(self, gradients: dict[int, Tensor | None]) -> Any:
        result = self._found(gradients, self.input)
        for module, input in self.calls:
            gradInput = self._found(gradients, input)
            if isinstance(module, AbstractRecurrent):
                module.take_back(self, self.run_of(module), gradInput)
            else:
                module.gradInput = map_leaves(
                    lambda x: self.at(x, 0) if isinstance(x, Tensor) else x, gradInput
                )
        return result

    # ---- step by step after all

    def step_through(self) -> None:
        """Run the sequence again, step by step, and back if there was a backward and no step has followed.

        With the parameters that there were then, and the random numbers.
        """
        modules = [run.module for run in self.runs]
        recycled = any(run.start > 1 and run.module.outputs[run.start - 1] is None for run in self.runs)
        if recycled or not self.is_recorded:  # in evaluation steps leave nothing more
            return
        fields = ("rho", "step", "output", "gradInput", "updateGradInputStep", "accGradParametersStep")
        later = [{name: getattr(module, name) for name in fields} for module in modules]
        generator = mersenne.getRNGState()
        leaves = [leaf for *_, leaf in self.parameters if id(leaf) in self.kept]
        current = [leaf.detach().clone() for leaf in leaves]
        try:
            for leaf in leaves:
                leaf.data.copy_(self.kept[id(leaf)]())
            if self.generator is not None:
                mersenne.setRNGState(self.generator)
            is_last = later[-1]["step"] == self.runs[-1].start + self.length
            self._run_again(self.gradOutput if is_last else None)
        finally:
            for leaf, value in zip(leaves, current, strict=True):
                leaf.data.copy_(value)
            mersenne.setRNGState(generator)
            for module, values in zip(modules, later, strict=True):
                vars(module).update(values)

    def _run_again(self, gradOutput: list[Any] | None) -> None:
        root, inputs = self.runs[-1].module, self.steps(self.input)
        for run in self.runs:
            run.module.whole, run.module.step, run.module.rho = None, run.start, self.length
            for counter in _counters():
                setattr(run.module, counter, None)
        for input in inputs:
            root.updateOutput(input)
        for input, gradient in zip(inputs[::-1], gradOutput[::-1], strict=True) if gradOutput else ():
            root.updateGradInput(input, gradient)


def in_one_graph(module: AbstractRecurrent, input: Any, steps: list[Any]) -> Whole | None:
    """Run a sequence in one graph; None, and nothing done, where it must go step by step."""
    parts = module.whole_parts()
    if parts is None or not steps or not worth_it(module, len(steps)):
        return None
    recurrent = [part for part in parts if isinstance(part, AbstractRecurrent)]
    for part in recurrent:  # the memory of the last sequence serves this one
        part.whole = None
        if part.step == 1:
            part.let_go(math.inf)
    if len({id(part) for part in parts}) < len(parts) or len({part.train is False for part in recurrent}) > 1:
        return None
    if any(x.dim() == 0 for x in tensors(steps[0])):
        return None
    dropouts = [part for part in parts if isinstance(part, Dropout) and part.draws()]
    in_batches = any(x.dim() > 1 for x in tensors(steps[0])) or takes_numbers(parts)
    rows = joined(input, steps, in_batches)
    first = tensors(rows)
    if not first or len({len(x) for x in first}) > 1:
        return None
    batch = len(first[0]) // len(steps) if in_batches else None
    try:
        with torch.set_grad_enabled(torch.is_grad_enabled() and module.train is not False):
            return Whole(module, rows, steps, batch, dropouts)
    except NotWhole:
        return None


def worth_it(module: AbstractRecurrent, length: int) -> bool:
    """Whether a sequence is long enough: the weights of cells have to be put together for it."""
    return length > (1 if module.train is not False else 3)


def tree(module: Module) -> list[Module]:
    """A module and all below it, parents first."""
    found, waiting = [], [module]
    while waiting:
        module = waiting.pop()
        found.append(module)
        waiting.extend(reversed([*module.children()]))
    return found


def structure(module: Module) -> list[Any]:
    """What a network is made of, without its tensors: equal networks of known classes have equal ones."""
    return [
        (
            type(inner) if vars(inner).keys().isdisjoint(PROTOCOL) else object(),
            len(vars(inner).get("modules") or ()),
            {
                name: value
                for name, value in vars(inner).items()
                if value.__class__ in PLAIN and name not in ("train", "_type")
            },
        )
        for inner in tree(module)
    ]


def takes_numbers(parts: list[Module]) -> bool:
    """Whether a sample is one number for the first layer that cares, so that a vector is a batch."""
    layers = (part for part in parts if not isinstance(part, AbstractRecurrent))
    takes = ((0 in layer.row_dims, 1 in layer.row_dims) for layer in layers)
    return next((numbers for numbers, vectors in takes if not (numbers and vectors)), False)


def joined(sequence: Any, steps: Sequence[Any], in_batches: bool) -> Any:
    """The samples of all steps of a sequence as one batch; each step is a batch itself, or else one sample.

    None if the steps are not of the same form.
    """
    if isinstance(sequence, Tensor):
        return sequence.flatten(0, 1) if in_batches and sequence.dim() > 1 else sequence
    first = steps[0]
    if isinstance(first, Tensor):
        if not first.dim() or any(_form(step) != _form(first) for step in steps):
            return None
        return torch.cat(tuple(steps)) if in_batches else torch.stack(tuple(steps))
    tables = [to_tuples(lambda x: x, step) for step in steps]
    if not isinstance(tables[0], tuple) or not tables[0]:
        return None
    if any(not isinstance(table, tuple) or len(table) != len(tables[0]) for table in tables):
        return None
    parts = tuple(joined(None, column, in_batches) for column in zip(*tables, strict=True))
    return None if any(part is None for part in parts) else parts


def versions(value: Any) -> list[int]:
    """The versions of the tensors of a nested value, which changes in place raise."""
    return [x._version for x in tensors(value)]


def _form(value: Any) -> Any:
    return [(x.shape, x.dtype) if isinstance(x, Tensor) else None for x in leaves(value)]


def _counters(inputs: bool = True, parameters: bool = True, **_: Any) -> list[str]:
    names = {"updateGradInputStep": inputs, "accGradParametersStep": parameters}
    return [name for name, counts in names.items() if counts]
