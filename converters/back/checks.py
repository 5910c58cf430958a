"""The check of `from_native`: the same outputs and gradients, at the size of the example and at others."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from converters.back.setting import Example, Memory, Taken, cloned, last_recurrent, part_of
from converters.compare import difference
from converters.text import Unconvertible
from t7compat.errors import InputError
from t7compat.nested import copy_graph
from t7compat.nn.module import Module
from t7compat.nn.normalization import BatchNormalization
from t7compat.nn.rectifiers import RReLU
from t7compat.nn.resampling import SpatialUpSamplingBilinear, UpSampling
from t7compat.nn.stochastic import Dropout, PlaneDropout
from t7compat.nn.transfer import MulConstant
from t7compat.table import Table, leaves, map_leaves, to_tuples
from t7compat.tensortypes import default_type

Tensor = torch.Tensor
Inputs = tuple[Any, ...]

# Of gradients, relative to their norm: a parameter that got lost is far above it
_OF_GRADIENTS = {torch.float64: 1e-5, torch.float32: 1e-2, torch.float16: 0.1, torch.bfloat16: 0.2}
_NOISE = 0.1


def check_outputs(module: Any, network: torch.nn.Module, example: Example) -> None:
    """Raise Unconvertible unless a copy of the module gives what the network does."""
    try:
        found = compared(module, network, example.once)
    except InputError as error:
        raise Unconvertible(f"the module fails for what the network takes: {error}") from None
    if found and not all(map(torch.equal, *(leaves(run(network, example.once)) for _ in range(2)))):
        raise Unconvertible(
            "the network draws random numbers: from_native(..., check=False) makes the module"
        )
    if found:
        raise Unconvertible(f"the module gives something else than the network: {found}")


def compared(module: Any, network: torch.nn.Module, inputs: Inputs) -> str:
    """How a copy of the module differs from the network in evaluation mode; empty if it does not."""
    want = leaves(run(network, inputs))
    copy = twin(module, *(module.parameters() or ()))
    copy.evaluate()
    got = leaves(copy.forward(as_torch7(inputs)))
    if is_coarse(module):
        want = [tensor.float() for tensor in want]
    if len(got) != len(want):
        return f"{len(got)} tensors instead of {len(want)}"
    found = difference(tuple(g.to(w) for g, w in zip(got, want, strict=True)), tuple(want))
    return "" if found.within else str(found)


def twin(module: Any, *shared: Any) -> Any:
    """A copy of a module, which may go forward instead of it; it has these tensors in common with it."""
    return copy_graph(module, {id(tensor): tensor for tensor in leaves(shared)})


def run(network: torch.nn.Module, inputs: Inputs) -> Any:
    """What a network gives, for a copy of its inputs: layers may work in place."""
    output = network(*cloned(inputs))
    if last_recurrent(network):
        return output[0]  # without the last state
    if not isinstance(output, tuple | list):
        return output
    given = tuple(x for x in output if x is not None)
    return given[0] if len(given) == 1 else given


def is_coarse(module: Any) -> bool:
    """Whether Torch7 has places between the pixels in single precision, for doubles, too."""
    return any(isinstance(part, SpatialUpSamplingBilinear | UpSampling) for part in module.listModules())


def as_torch7(inputs: Inputs) -> Any:
    """Inputs as Torch7 has them: of the type of the modules, indices from 1, several in a table."""

    def converted(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if not value.is_floating_point():
            return value.detach().cpu() + 1
        return value.detach().to("cpu", default_type().dtype, copy=True)

    given = map_leaves(converted, Table.from_python(inputs))
    return given[1] if len(given) == 1 else given


# ---- gradients


def check_gradients(module: Any, network: torch.nn.Module, example: Example, memory: Memory) -> None:
    """Raise Unconvertible unless what the network learns is what the module does.

    Numbers near those of the example show it, unless the network is not defined there.
    """
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    generator = torch.Generator().manual_seed(1)
    for inputs in (to_tuples(lambda x: disturbed(x, generator), example.once), example.once):
        leaf = [x.detach().clone().requires_grad_() for x in floats(inputs)]
        with torch.enable_grad():
            output = run(network, with_floats(inputs, leaf))
        outputs = leaves(output)
        seeds = map_leaves(lambda x: random_like(x, generator), Table.from_python((output,)))
        pairs = [(x, seed) for x, seed in zip(outputs, leaves(seeds), strict=True) if x.requires_grad]
        found = gradients_of(pairs, [*leaf, *trained.values()])
        if all(bool(x.sum().isfinite()) for x in (*outputs, *found) if x is not None):
            break
    else:
        return
    by_name = dict(zip(trained, found[len(leaf) :], strict=True))
    covered(trained, by_name, memory.taken, network)
    compare(module, inputs, seeds, found[: len(leaf)], by_name, trained, memory.taken)


def disturbed(value: Any, generator: torch.Generator) -> Any:
    """Numbers near these, so that no two are the same and none is at a corner of a function."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    return value + _NOISE * random_like(value, generator)


def random_like(value: Tensor, generator: torch.Generator) -> Tensor:
    """Random numbers, as many as a tensor has."""
    return torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value)


def floats(inputs: Any) -> list[Tensor]:
    """The tensors that have gradients: the others are indices."""
    return [x for x in leaves(inputs) if isinstance(x, Tensor) and x.is_floating_point()]


def with_floats(inputs: Inputs, tensors: list[Tensor]) -> Inputs:
    """Inputs with these in the place of their numbers."""
    given = iter(tensors)
    made: Inputs = to_tuples(
        lambda x: next(given) if isinstance(x, Tensor) and x.is_floating_point() else x, inputs
    )
    return made


def gradients_of(pairs: list[tuple[Tensor, Tensor]], sources: list[Tensor]) -> list[Tensor | None]:
    """The gradients of autograd; None for what nothing depends on."""
    if not pairs or not sources:
        return [None] * len(sources)
    outputs, seeds = zip(*pairs, strict=True)
    return list(torch.autograd.grad(outputs, sources, seeds, allow_unused=True))


def covered(
    trained: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None], taken: list[Taken], network: Any
) -> None:
    """Raise Unconvertible unless each number that is trained became one of a parameter, and no other did."""
    for name, parameter in trained.items():
        seen = like_memory(parameter, torch.zeros_like(parameter, dtype=torch.bool))
        for one in taken:
            if (part := part_of(parameter, one.source, seen)) is not None:
                part.fill_(True)
        gradient = gradients[name]
        if gradient is None or bool(seen.all()):
            continue
        if bool(seen.any()) and not bool(gradient[~seen].any()):
            raise Unconvertible(
                f"only a part of the parameter {name} would be trained, as the network uses no more of it at "
                "the size of this example: give a longer one, at which it uses all, if there is one; "
                "requires_grad_(False) says that it need not be trained"
            )
        raise Unconvertible(
            f"the parameter {name} would not be trained: the module has it, or what is computed from it, "
            "as a constant; requires_grad_(False) says that it need not be"
        )
    if not trained and any(True for _ in network.parameters()):
        return  # nothing is to be trained
    for one in taken:
        if not any(part_of(p, one.source, p.detach()) is not None for p in network.parameters()):
            name = next((n for n, b in network.named_buffers() if part_of(b, one.source, b) is not None), "")
            what = f"the buffer {name}" if name else "a weight that is computed from others"
            raise Unconvertible(
                f"{what} would be trained: in the module it is a parameter; make it a Parameter with "
                "requires_grad=False if that does no harm"
            )


def like_memory(tensor: Tensor, values: Tensor) -> Tensor:
    """Values, laid out as a tensor is."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=values.dtype).copy_(values)


def compare(
    module: Any, inputs: Inputs, seeds: Any, of_inputs: list[Tensor | None],
    by_name: Mapping[str, Tensor | None], trained: Mapping[str, Tensor], taken: list[Taken],
) -> None:  # fmt: skip
    """Raise Unconvertible unless a copy of the module has these gradients."""
    copy = training(module)
    given, slopes = as_torch7(inputs), slopes_of(module, copy)
    try:
        with torch.enable_grad():
            copy.forward(given)
            copy.zeroGradParameters()
            got = copy.backward(given, as_torch7(seeds))
    except InputError as error:
        raise Unconvertible(f"the module has no gradients for what the network takes: {error}") from None
    pairs = list[tuple[str, Tensor, Tensor | None]]()
    for x, want in zip(leaves(got) if of_inputs else (), leaves(inputs), strict=False):
        if want.is_floating_point():
            pairs.append(("the input", x, of_inputs[len(pairs)]))
    for name, parameter in trained.items():
        gradient = by_name[name]
        wanted = torch.zeros_like(parameter) if gradient is None else gradient
        values = like_memory(parameter, wanted.detach())
        for one in taken:
            part = part_of(parameter, one.source, values)
            if part is not None and one.slope.data_ptr() in slopes:
                pairs.append((f"the parameter {name}", one.read(slopes[one.slope.data_ptr()]), part))
    norms = [0.0 if want is None else norm(want) for _, _, want in pairs]
    for (name, x, want), size in zip(pairs, norms, strict=True):
        distance = norm(x if want is None else x - want.reshape(x.shape).to(x.device))
        allowed = _OF_GRADIENTS[x.dtype if want is None else want.dtype] * max(size, 1e-3 * sum(norms))
        if distance > allowed:
            raise Unconvertible(
                f"the gradient of {name} is another one: it is used in two ways, or PyTorch's is cut off"
            )


def norm(tensor: Tensor) -> float:
    """The norm of a tensor, in single precision at least."""
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    return float(torch.linalg.vector_norm(tensor, dtype=dtype))


def training(module: Any) -> Any:
    """A copy of a module that can go backward, but draws no random numbers and has no statistics."""
    weights, _ = module.parameters() or ((), ())
    copy = twin(module, weights).replace(without_dropping)
    copy.training()
    for part in copy.listModules():
        if isinstance(part, BatchNormalization | Dropout | RReLU):
            part.evaluate()
    return copy


def without_dropping(part: Any) -> Any:
    """What the dropouts of planes do in evaluation, as they have no backward there."""
    return MulConstant(1 - part.p) if isinstance(part, PlaneDropout) else part


def slopes_of(module: Module, copy: Module) -> dict[int, Tensor]:
    """The gradients in a copy by where those of the module lie."""
    pairs = module.parameters(), copy.parameters()
    if pairs[0] is None or pairs[1] is None:
        return {}
    return {x.data_ptr(): y for x, y in zip(pairs[0][1], pairs[1][1], strict=True)}


# ---- other sizes


def check_sizes(module: Any, network: torch.nn.Module, example: Example) -> None:
    """Raise Unconvertible if the module gives other numbers for an input of another size.

    That the module fails, or that the network does, is no harm.  A batch of one is the smallest: forwards
    branch on it.
    """
    for inputs in variants(example):
        try:
            found = compared(module, network, inputs)
        except Exception:  # whatever a forward may raise at a size that it is not made for
            continue
        if found:
            sizes = ", ".join("x".join(map(str, x.shape)) for x in leaves(inputs))
            raise Unconvertible(
                f"the module depends on a size of the example: for an input of {sizes} it gives something "
                f"else than the network ({found}); from_native(..., fixed_sizes=True) makes it even so"
            )


def variants(example: Example) -> Iterator[Inputs]:
    """The example with other sizes: a batch of one, then longer along each axis, then along all but two."""
    tensors = [x for x in leaves(example.once) if isinstance(x, Tensor) and x.dim()]
    if not tensors:
        return
    sizes = max((x.shape for x in tensors), key=len)
    rank = len(sizes)
    if sizes[0] > 1:
        yield to_tuples(functools.partial(along, axes=(0,), sizes=sizes, other=first_one), example.once)
    for axes in (*((axis,) for axis in range(rank)), tuple(range(2, rank))):
        for longer in (doubled, one_more) if axes else ():
            yield to_tuples(functools.partial(along, axes=axes, sizes=sizes, other=longer), example.once)


def along(value: Any, axes: tuple[int, ...], sizes: Any, other: Any) -> Any:
    """A tensor with `other` of its sizes along those of these axes that have these sizes."""
    if isinstance(value, Tensor):
        for axis in axes:
            if axis < value.dim() and value.shape[axis] == sizes[axis]:
                value = other(value, axis)
    return value


def first_one(value: Tensor, axis: int) -> Tensor:
    """The first slice of a tensor alone."""
    return value.narrow(axis, 0, 1)


def doubled(value: Tensor, axis: int) -> Tensor:
    """A tensor and its mirror image: one that is repeated would hide where a place is counted from."""
    return torch.cat((value, value.flip(axis)), axis)


def one_more(value: Tensor, axis: int) -> Tensor:
    """A tensor with its first slice again at the end."""
    return torch.cat((value, value.narrow(axis, 0, 1)), axis)
