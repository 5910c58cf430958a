"""Rules for networks over sequences.

`in_sequence` gives the layer that applies a module to each step of a sequence.  A module without memory is
put into `EachStep`; a Sequential becomes the Sequential of what its parts become; and a cell becomes a layer
over the whole sequence: in general its network of one step, unrolled, and for an LSTM of the usual form the
one that is equal to that.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from typing import Any

import torch

from converters import emitted, emitted_states, emitted_steps
from converters.compare import difference
from converters.lift import lifted, plain
from converters.native import (
    FAILURES,
    NETWORKS,
    Layer,
    Make,
    Plan,
    below,
    going_on,
    is_stateful,
    layer_of,
    native_form,
)
from converters.text import Unconvertible
from t7compat.nested import type_name
from t7compat.nn.containers import ConcatTable, ParallelTable, Sequential
from t7compat.nn.linear import Linear
from t7compat.nn.module import Module
from t7compat.nn.scaling import CMul
from t7compat.rnn.cells import GRU, LSTM, FastLSTM
from t7compat.rnn.flat import RNN
from t7compat.rnn.hidden import Cell
from t7compat.rnn.recurrent import AbstractRecurrent, Recursor
from t7compat.rnn.seq import SeqGRU, SeqLSTM
from t7compat.rnn.sequence import Sequence
from t7compat.rnn.sequencer import AbstractSequencer, Remembering, Sequencer

Tensor = torch.Tensor


def remembers(module: Any) -> bool:
    """Whether a module keeps something from one forward to the next."""
    if isinstance(module, AbstractRecurrent) and not isinstance(module, Recursor):
        return True
    if isinstance(module, Remembering):
        has_memory = isinstance(module, Sequence) or any(map(remembers, module.children()))
        return has_memory and module._remember not in (None, "neither")
    if isinstance(module, RNN):
        return module.goes_on
    return isinstance(module, Module) and any(map(remembers, module.children()))


# ---- one step, and whole sequences


@layer_of.register
def _one_step(module: AbstractRecurrent, plan: Plan, path: str) -> Layer:
    if not remembers(module):
        return plan.layer(module.modules[1], below(path, 1))
    if not any(isinstance(one, AbstractSequencer) for one in plan.around):
        plan.note_start(path, f"{type_name(module)} does one step at each call, from its initial state")
    return Layer(
        functools.partial(emitted_steps.OneStep), module, path, (plan.layer(module, path, in_sequence),)
    )


@layer_of.register
def _sequencer(module: Sequencer, plan: Plan, path: str) -> Layer:
    _note_memory(module, plan, path)
    cells = [id(cell) for cell in _inside(module.modules[1], AbstractRecurrent)]
    if len(cells) > len(set(cells)):
        raise Unconvertible("it has a recurrent module inside that does several steps for each of its own")
    steps = plan.layer(module.modules[1], below(path, 1), in_sequence)
    if any(layer.make.func is emitted_steps.Transposed for _, layer in steps.walk()):
        return Layer(functools.partial(emitted_steps.OverSteps), module, path, (steps,))
    return Layer(steps.make, module, path, steps.children, steps.state)


def _note_memory(module: Remembering, plan: Plan, path: str) -> None:
    if remembers(module):
        what = f'starts anew at each call, while the Torch module goes on (remember("{module._remember}"))'
        plan.note_start(path, what)


@functools.singledispatch
def in_sequence(module: Any, plan: Plan, path: str) -> Layer:
    """The layer that applies a module to each step of a sequence, its memory going on from step to step."""
    if remembers(module):
        network = going_on(plan.layer(module, path))
        if not (is_stateful(network) and _does_steps(network)):
            raise Unconvertible("it has recurrent modules inside, and there is no rule for it over sequences")
        return Layer(functools.partial(emitted_states.Stepwise), module, path, (network,))
    return each_step((plan.layer(module, path),), module, path)


def _does_steps(layer: Layer) -> bool:
    """Whether all recurrent layers in a layer do one step at each call."""
    kind: Any = layer.make.func
    if kind is emitted_steps.OneStep:
        return True
    is_whole = is_stateful(layer) and not issubclass(kind, NETWORKS)
    return not is_whole and all(map(_does_steps, layer.children))


def each_step(layers: tuple[Layer, ...], origin: Any, path: str) -> Layer:
    """The layer that applies layers without memory to each step."""
    if len(layers) == 1 and layers[0].make.func is torch.nn.Sequential:
        layers = layers[0].children
    return Layer(functools.partial(emitted_steps.EachStep), origin, path, layers)


@in_sequence.register
def _sequential(module: Sequential, plan: Plan, path: str) -> Layer:
    make = native_form(module)
    if make is None or not remembers(module):
        return each_step((plan.layer(module, path),), module, path)
    layers: list[Layer] = []
    numbered = [(below(path, i), child) for i, child in enumerate(module.children(), 1)]
    for remembering, group in itertools.groupby(numbered, lambda one: remembers(one[1])):
        if remembering:
            layers += [plan.layer(child, where, in_sequence) for where, child in group]
        else:
            layers.append(each_step(tuple(plan.layer(child, where) for where, child in group), module, path))
    return Layer(make, module, path, tuple(layers))


@in_sequence.register(ConcatTable)
@in_sequence.register(ParallelTable)
def _tables(module: ConcatTable | ParallelTable, plan: Plan, path: str) -> Layer:
    if not remembers(module):
        return each_step((plan.layer(module, path),), module, path)
    make, _ = lifted(module)
    transposed = Layer(functools.partial(emitted_steps.Transposed), None, path)
    branches = Layer(make, module, path, plan.children(module, path, in_sequence))
    before = () if module.shares_input else (transposed,)
    return Layer(functools.partial(torch.nn.Sequential), module, path, (*before, branches, transposed))


@in_sequence.register
def _recursor(module: Recursor, plan: Plan, path: str) -> Layer:
    return plan.layer(module.modules[1], below(path, 1), in_sequence)


@in_sequence.register
def _recurrent(module: AbstractRecurrent, plan: Plan, path: str) -> Layer:
    raise Unconvertible("there is no rule for it over sequences")


# ---- cells


@in_sequence.register
def _cell(module: Cell, plan: Plan, path: str) -> Layer:
    _expect_zeros(module, [user for _, _, user, _ in module.states])
    if remembers(module.recurrentModule):
        raise Unconvertible("it has recurrent modules inside")
    step = plan.layer(module.recurrentModule, below(path, 1))
    plain_sizes = [plain(size, "its outputSize") for size in module.sizes()]
    sizes = tuple(size if isinstance(size, tuple) else (size,) for size in plain_sizes)
    options: dict[str, Any] = {"sizes": sizes, "dims": getattr(module, "nInputDim", 1)}
    unrolled = Layer(functools.partial(emitted_steps.Unrolled, **options), module, path, (step,))
    return usual_form(module, unrolled, plan)


def _expect_zeros(module: Module, fields: list[str]) -> None:
    """Refuse a module in which the user has set a state before the first step."""
    for user in fields:
        if getattr(module, user) is not None:
            raise Unconvertible(f"it does not start from zeros, but from its field {user}")


@functools.singledispatch
def usual_form(cell: Cell, unrolled: Layer, plan: Plan) -> Layer:
    """A layer that is equal to an unrolled cell, and better known; the unrolled cell if there is none."""
    return unrolled


@usual_form.register
def _lstm(cell: LSTM, unrolled: Layer, plan: Plan) -> Layer:
    gates = [vars(cell).get(name) for name in ("inputGate", "forgetGate", "hiddenLayer", "outputGate")]
    products = [_inside(gate, Linear) for gate in gates]
    if any(len(pair) != 2 or pair[0].bias is None for pair in products):
        return unrolled
    weight = plan.arranged(_joined, *[of_x.weight for of_x, _ in products])
    bias = plan.arranged(_joined, *[of_x.bias for of_x, _ in products])
    feedback = plan.arranged(_joined, *[of_h.weight for _, of_h in products])
    peepholes = [layer.weight for gate in gates for layer in _inside(gate, CMul)]
    return _if_equal(cell, unrolled, plan, weight, bias, feedback, peepholes)


@usual_form.register
def _fast_lstm(cell: FastLSTM, unrolled: Layer, plan: Plan) -> Layer:
    products = [layer for name in ("i2g", "o2g") for layer in _inside(vars(cell).get(name), Linear)]
    if len(products) != 2 or products[0].bias is None:
        return unrolled
    rows = products[0].weight, products[0].bias, products[1].weight
    weight, bias, feedback = (plan.arranged(from_igfo, one) for one in rows)
    return _if_equal(cell, unrolled, plan, weight, bias, feedback, [])


def from_igfo(rows: Tensor) -> Tensor:
    """The rows of a FastLSTM's weight in the order i, f, g, o instead of i, g, f, o."""
    i, g, f, o = rows.chunk(4)
    return torch.cat((i, f, g, o))


def _joined(*tensors: Tensor) -> Tensor:
    return torch.cat(tensors)


def _stacked(*tensors: Tensor) -> Tensor:
    return torch.stack(tensors)


@usual_form.register
def _gru(cell: GRU, unrolled: Layer, plan: Plan) -> Layer:
    products = _inside(cell.recurrentModule, Linear)
    if type(cell) is not GRU or len(products) != 4 or any(layer.bias is None for layer in products[::2]):
        return unrolled
    gates, of_state, new, of_reset = products
    state = {
        f"input.{name}": plan.arranged(_joined, *[getattr(x, name) for x in (gates, new)])
        for name in ("weight", "bias")
    }
    state |= {"gates.weight": of_state.weight, "new.weight": of_reset.weight}
    make = functools.partial(emitted_steps.SequenceGRU, cell.inputSize, cell.outputSize)
    return _better(cell, replace(unrolled, make=make, children=(), state=state), unrolled)


def _inside(module: Any, kind: type[Any]) -> list[Any]:
    """The modules of a class in a module, if that is one."""
    inside = module.listModules() if isinstance(module, Module) else ()
    return [found for found in inside if isinstance(found, kind)]


def _if_equal(
    cell: LSTM, unrolled: Layer, plan: Plan,
    weight: Tensor, bias: Tensor, feedback: Tensor, peepholes: list[Tensor],
) -> Layer:  # fmt: skip
    """The LSTM with these parameters (gates in the order i, f, g, o), if it is equal to the unrolled cell.

    Files of other versions of the package, and dropout inside the cell, make a difference.
    """
    sizes = cell.inputSize, cell.outputSize
    if peepholes:
        make: Make = functools.partial(emitted_steps.PeepholeLSTM, *sizes)
        state = {"input.weight": weight, "input.bias": bias, "hidden.weight": feedback}
        state["peephole"] = plan.arranged(_stacked, *peepholes)
    else:
        make = functools.partial(emitted_steps.SequenceLSTM, *sizes)
        state = {"weight_ih_l0": weight, "weight_hh_l0": feedback, "bias_ih_l0": bias}
        state["bias_hh_l0"] = plan.arranged(torch.zeros_like, bias)
    return _better(cell, replace(unrolled, make=make, children=(), state=state), unrolled)


def _better(cell: LSTM | GRU, candidate: Layer, unrolled: Layer) -> Layer:
    """The candidate, if it is equal to the unrolled cell."""
    dropped = vars(cell).get("p") or any(layer.make.func is emitted.Missing for _, layer in unrolled.walk())
    return unrolled if dropped or not _equal(candidate, unrolled, cell.inputSize) else candidate


def _equal(layer: Layer, other: Layer, inputs: int) -> bool:
    """Whether two recurrent layers give the same for sequences of vectors of `inputs` elements."""
    like = next(iter(layer.state.values()))
    steps = torch.randn(3, 2, inputs, generator=torch.Generator().manual_seed(1)).to(like)
    steps[1, 0] = 0  # a step that may be masked
    try:
        with torch.no_grad():
            return difference(layer.build()(steps)[0], other.build()(steps)[0]).within
    except FAILURES:
        return False


# ---- modules over whole sequences


def from_ifog(rows: Tensor) -> Tensor:
    """The rows of an LSTM's weight in the order i, f, g, o instead of i, f, o, g."""
    i, f, o, g = rows.chunk(4)
    return torch.cat((i, f, g, o))


def _options(module: Sequence, plan: Plan, path: str) -> dict[str, bool]:
    """Notes and refusals for a module over whole sequences, and its options."""
    _note_memory(module, plan, path)
    _expect_zeros(module, [state.user for state in module.states])
    return {"batch_first": True} if module.batchfirst else {}


@layer_of.register
def _whole_lstm(module: SeqLSTM, plan: Plan, path: str) -> Layer:
    options: dict[str, Any] = _options(module, plan, path)
    inputs, outputs, hidden = module.sizes()
    of_x, of_h = torch.split(plan.arranged(from_ifog, module.weight.t()), [inputs, outputs], 1)
    bias, project = plan.arranged(from_ifog, module.bias), vars(module).get("weightO")
    if module.maskzero or (project is not None and outputs >= hidden):  # torch.nn projects to fewer only
        options |= {} if project is None else {"output_size": outputs}
        options |= {"restarts": True} if module.maskzero else {}
        make: Make = functools.partial(emitted_steps.SteppedLSTM, inputs, hidden, **options)
        state = {"input.weight": of_x, "input.bias": bias, "hidden.weight": of_h}
        last = "projection.weight"
    else:
        options |= {} if project is None else {"proj_size": outputs}
        make = functools.partial(torch.nn.LSTM, inputs, hidden, **options)
        state = {"weight_ih_l0": of_x, "weight_hh_l0": of_h, "bias_ih_l0": bias}
        state["bias_hh_l0"] = plan.arranged(torch.zeros_like, bias)
        last = "weight_hr_l0"
    state |= {} if project is None else {last: project.t()}
    layer = Layer(make, module, path, state=state)
    return perhaps_started(layer, emitted_steps.StartedLSTM, plan) if make.func is torch.nn.LSTM else layer


def perhaps_started(layer: Layer, started: Any, plan: Plan) -> Layer:
    """A layer of torch.nn; where its input may begin with the state before it, the class `started`."""
    if not plan.is_tried or id(layer.origin) in plan.written:
        return replace(layer, make=functools.partial(started, *layer.make.args, **layer.make.keywords))
    plan.natives.append(layer)
    return layer


@layer_of.register
def _whole_gru(module: SeqGRU, plan: Plan, path: str) -> Layer:
    options = _options(module, plan, path) | ({"restarts": True} if module.maskzero else {})
    inputs, size, _ = module.sizes()
    of_x, of_h = torch.split(module.weight.t(), [inputs, size], 1)
    gates, new = torch.split(of_h, [2 * size, size])
    state = {"input.weight": of_x, "input.bias": module.bias, "gates.weight": gates, "new.weight": new}
    return Layer(
        functools.partial(emitted_steps.SteppedGRU, inputs, size, **options), module, path, state=state
    )


@layer_of.register
def _flat(module: RNN, plan: Plan, path: str) -> Layer:
    make = native_form(module)
    if make is None:
        raise Unconvertible("a class derived from it has no torch.nn form")
    notes = {
        "takes no packed sequences as the Torch module did, but those of PyTorch": module.inputPacked,
        "its first layer has a weight, the identity, which the Torch module skips": module.skips_input,
    }
    for note in (note for note, holds in notes.items() if holds):
        plan.note(path, note)
    if module.goes_on:
        plan.note_start(path, "starts from zeros at each call, while the Torch module has another state")
    state = module.native_state()
    for end in module.ends[: module.numDirections] if module.skips_input else ():
        state[f"weight_ih_{end}"] = plan.arranged(_identities, state[f"weight_hh_{end}"])
    return Layer(make, module, path, state=state)


def _identities(feedback: Tensor) -> Tensor:
    """The identity for each gate, like a layer's weight for its last output."""
    rows, size = feedback.shape
    return torch.eye(size, dtype=feedback.dtype, device=feedback.device).repeat(rows // size, 1)
