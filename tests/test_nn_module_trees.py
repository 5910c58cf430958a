"""Random networks: one graph for the whole tree gives what Lua gives, which runs module after module."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import t7compat
from t7compat import Table, nn
from t7compat.table import leaves

# A tree maps (batch, columns) to (batch, columns): the module, and its number of columns at the end.
Tree = tuple[nn.Module, int]

ELEMENTWISE: Sequence[Callable[[int], nn.Module]] = (
    lambda n: nn.Tanh(),
    lambda n: nn.Sigmoid(),
    lambda n: nn.ReLU(),
    lambda n: nn.SoftMax(),
    lambda n: nn.Identity(),
    lambda n: nn.Mul(),
    lambda n: nn.Add(n),
    lambda n: nn.CMul(n),
    lambda n: nn.View(-1, n),
    lambda n: nn.Reshape(n, True),
)


def chain(*modules: nn.Module) -> nn.Module:
    return filled(nn.Sequential(), modules)


def filled(container: Any, modules: Sequence[nn.Module]) -> Any:
    for module in modules:
        container.add(module)
    return container


@st.composite
def trees(draw: st.DrawFn, columns: int, depth: int = 3) -> Tree:
    """A tree for so many columns."""
    kinds = [layer, sequence, concat, merged, joined, crossed, nested] if depth else [layer]
    return draw(draw(st.sampled_from(kinds))(columns, depth - 1))


@st.composite
def layer(draw: st.DrawFn, columns: int, depth: int) -> Tree:
    if draw(st.booleans()):
        outputs = draw(st.integers(1, 4))
        return nn.Linear(columns, outputs), outputs
    return draw(st.sampled_from(ELEMENTWISE))(columns), columns


@st.composite
def sequence(draw: st.DrawFn, columns: int, depth: int) -> Tree:
    """Two or three trees, one after the other."""
    modules = []
    for _ in range(draw(st.integers(2, 3))):
        module, columns = draw(trees(columns, depth))
        modules.append(module)
    return chain(*modules), columns


def some_trees(draw: st.DrawFn, columns: int, depth: int) -> list[Tree]:
    return [draw(trees(columns, depth)) for _ in range(draw(st.integers(1, 3)))]


@st.composite
def concat(draw: st.DrawFn, columns: int, depth: int) -> Tree:
    """Trees side by side, in one tensor."""
    branches = some_trees(draw, columns, depth)
    return filled(nn.Concat(2), [m for m, _ in branches]), sum(n for _, n in branches)


@st.composite
def joined(draw: st.DrawFn, columns: int, depth: int) -> Tree:
    """Trees side by side in a table, of which one or all are taken."""
    branches = some_trees(draw, columns, depth)
    table = filled(nn.ConcatTable(), [m for m, _ in branches])
    if draw(st.booleans()):
        index = draw(st.integers(1, len(branches)))
        return chain(table, nn.SelectTable(index)), branches[index - 1][1]
    return chain(table, nn.JoinTable(1, 1)), sum(n for _, n in branches)


@st.composite
def merged(draw: st.DrawFn, columns: int, depth: int) -> Tree:
    """Trees of the same number of columns, added or multiplied."""
    outputs = draw(st.integers(1, 4))
    branches = [chain(m, nn.Linear(n, outputs)) for m, n in some_trees(draw, columns, depth)]
    merge = draw(st.sampled_from([nn.CAddTable, nn.CMulTable]))()
    return chain(filled(nn.ConcatTable(), branches), merge), outputs


@st.composite
def crossed(draw: st.DrawFn, columns: int, depth: int) -> Tree:
    """A table of trees, each followed by one of its own."""
    first = some_trees(draw, columns, depth)
    second = [draw(trees(n, depth)) for _, n in first]
    tables = (
        filled(nn.ConcatTable(), [m for m, _ in first]),
        filled(nn.ParallelTable(), [m for m, _ in second]),
    )
    return chain(*tables, nn.JoinTable(2)), sum(n for _, n in second)


@st.composite
def nested(draw: st.DrawFn, columns: int, depth: int) -> Tree:
    """A table inside a table, made flat; only some of its entries go on."""
    branches = some_trees(draw, columns, depth)
    inner = filled(nn.ConcatTable(), [m for m, _ in branches])
    table = nn.ConcatTable().add(nn.Identity()).add(inner)
    last = len(branches) + 1
    first = draw(st.integers(1, last))
    sizes = [columns, *(n for _, n in branches)][first - 1 :]
    parts = nn.FlattenTable(), nn.NarrowTable(first, last - first + 1), nn.JoinTable(1, 1)
    return chain(table, *parts), sum(sizes)


# ---- Lua's way


def forward(module: nn.Module, input: Any) -> Any:
    """Forward with each layer run alone."""
    if isinstance(module, nn.Sequential):
        for child in module.modules:
            input = forward(child, input)
        module.output = input
    elif isinstance(module, nn.ConcatTable):
        module.output = Table(*[forward(child, input) for child in module.modules])
    elif isinstance(module, nn.ParallelTable):
        module.output = Table(
            *[forward(child, part) for child, part in zip(module.modules, input, strict=True)]
        )
    elif isinstance(module, nn.Concat):
        module.output = torch.cat([forward(child, input) for child in module.modules], 1)
    else:
        module.updateOutput(input)
    return module.output


def backward(module: nn.Module, input: Any, gradOutput: Any, scale: float) -> Any:
    """Backward with each layer run alone."""
    if isinstance(module, nn.Sequential):
        inputs = [input, *[child.output for child in module.modules][:-1]]
        for child, given_input in reversed(list(zip(module.modules, inputs, strict=True))):
            gradOutput = backward(child, given_input, gradOutput, scale)
        module.gradInput = gradOutput
    elif isinstance(module, nn.ConcatTable | nn.Concat):
        parts = list(gradOutput)
        if isinstance(module, nn.Concat):
            parts = gradOutput.split([child.output.shape[1] for child in module.modules], 1)
        gradients = [
            backward(child, input, part, scale) for child, part in zip(module.modules, parts, strict=True)
        ]
        module.gradInput = functools.reduce(added, gradients)
    elif isinstance(module, nn.ParallelTable):
        children = zip(module.modules, input, gradOutput, strict=True)
        module.gradInput = Table(*[backward(*child, scale) for child in children])
    else:
        module.updateGradInput(input, gradOutput)
        module.accGradParameters(input, gradOutput, scale)
    return module.gradInput


def added(a: Any, b: Any) -> Any:
    return a + b if isinstance(a, torch.Tensor) else Table(*map(added, a, b))


def made_opaque(root: nn.Module) -> nn.Module:
    """Each layer overrides the protocol, by methods that do what they did before."""
    for module in root.listModules():
        if not module.children():
            module.updateOutput = functools.partial(type(module).updateOutput, module)
    return root


# ---- the property


def same(got: Any, want: Any) -> None:
    for mine, theirs in zip(leaves(got), leaves(want), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def same_network(got: nn.Module, want: nn.Module) -> None:
    """All modules have the same output and gradInput, and the same gradients."""
    for mine, theirs in zip(got.listModules(), want.listModules(), strict=True):
        same(mine.output, theirs.output)
        same(mine.gradInput, theirs.gradInput)
    same(got.parameters() or (), want.parameters() or ())


@given(st.data(), st.integers(1, 4), st.integers(1, 3), st.integers(0, 9), st.sampled_from([1, 0.5, -2]))
@settings(max_examples=60, deadline=None)
def test_one_graph_for_a_tree(data: st.DataObject, columns: int, batch: int, seed: int, scale: float) -> None:
    t7compat.manualSeed(seed)
    net, outputs = data.draw(trees(columns))
    net.zeroGradParameters()
    random = torch.Generator().manual_seed(seed)
    input = torch.randn(batch, columns, generator=random, dtype=torch.float64)
    gradOutput = torch.randn(batch, outputs, generator=random, dtype=torch.float64)
    by_hand, opaque, separate = net.clone(), made_opaque(net.clone()), net.clone()

    net.forward(input)
    net.backward(input, gradOutput, scale)
    forward(by_hand, input)
    backward(by_hand, input, gradOutput, scale)
    same_network(net, by_hand)
    opaque.forward(input)
    opaque.backward(input, gradOutput, scale)
    same_network(net, opaque)
    with torch.no_grad():
        separate.forward(input)
    separate.updateGradInput(input, gradOutput)
    separate.accGradParameters(input, gradOutput, scale)
    same_network(net, separate)
