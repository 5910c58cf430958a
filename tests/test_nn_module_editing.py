"""The tree of modules: walking over it, finding in it, changing it."""

from __future__ import annotations

from typing import Any

import pytest
from golden import gradients
from torch7 import gives, wave

import t7compat
from t7compat import InputError, nn
from t7compat.nested import type_name
from t7compat.table import leaves

x, g = wave(2, 3), wave(2, 2) + 0.5
PARENTS_FIRST = "Sequential Linear ConcatTable Sequential Tanh Linear Identity JoinTable Concat Linear"


def net() -> nn.Sequential:
    t7compat.manualSeed(7)
    first = nn.Linear(3, 3)
    inner = nn.Sequential().add(nn.Tanh()).add(nn.Linear(3, 2))
    branches = nn.ConcatTable().add(inner).add(nn.Identity())
    last = nn.Concat(2).add(nn.Linear(5, 2))
    return nn.Sequential().add(first).add(branches).add(nn.JoinTable(1, 1)).add(last)


def types(modules: Any) -> str:
    return " ".join(type_name(module).removeprefix("nn.") for module in modules)


def test_parents_come_first() -> None:
    m, seen = net(), []
    m.apply(seen.append)
    assert types(seen) == PARENTS_FIRST
    assert list(m.listModules()) == seen


@pytest.mark.parametrize(
    ("name", "found", "containers"),
    [
        ("nn.Linear", "Linear Linear Linear", "Sequential Sequential Concat"),
        ("nn.Sequential", "Sequential Sequential", "Sequential ConcatTable"),
        ("nn.ReLU", "", ""),
        ("nn.Module", "", ""),
        ("nn.Container", "", ""),
    ],
)
def test_find_modules(name: str, found: str, containers: str) -> None:
    assert tuple(map(types, net().findModules(name))) == (found, containers)


def test_replace_a_layer() -> None:
    m, seen = net(), []

    def relu_for_tanh(module: nn.Module) -> nn.Module:
        seen.append(module)
        return nn.ReLU() if isinstance(module, nn.Tanh) else module

    assert m.replace(relu_for_tanh) is m
    assert types(seen) == PARENTS_FIRST
    gives(m.forward(x), "0.00435734 0.193563 0.367681 0.0655322")
    gives(m.backward(x, g), "-0.126276 -0.151015 0.0522339 -0.172947 -0.130826 -0.048572")


def test_replace_a_container() -> None:
    """The modules of a replacement are not replaced in turn."""
    other = nn.ConcatTable().add(nn.Identity()).add(nn.Tanh())
    m = net().replace(lambda module: other if isinstance(module, nn.ConcatTable) else module)
    assert types(m.listModules()) == "Sequential Linear ConcatTable Identity Tanh JoinTable Concat Linear"


def test_replace_the_root() -> None:
    root = net()
    m = root.replace(lambda module: nn.Sequential().add(module) if module is root else module)
    assert types(m.listModules()).startswith("Sequential Sequential Linear ConcatTable")


def test_insert_and_remove() -> None:
    m = net()
    m.forward(x)
    m.remove()
    m.insert(nn.Tanh(), 1)
    m.add(nn.Linear(5, 2))
    assert (m.size(), len(m), m.get(6)) == (5, 5, None)
    m.zeroGradParameters()
    gives(m.forward(x), "0.682371 0.270574 -0.112634 0.00496238")
    gives(m.backward(x, g), "-0.116829 -0.0960073 0.584711 -0.0740089 -0.140848 0.50403")
    gives(
        gradients(m),
        "0.247721 0.20071 0.119751 0.896127 0.470421 0.0667433 0.712848 0.364842 0.0396662 "
        "0.508771 1.98419 1.58364 0.530558 0.0408427 0.135444 0.622767 0.00131867 0.104443 "
        "-1.13554 -1.33149 0.319803 0.494774 -1.26786 -0.23278 -0.510753 0.0169329 0.214708 "
        "-1.17808 0.0593995 -0.139996 2.50743 2.32044",
    )


def test_emptied() -> None:
    m = nn.Sequential()
    assert (m.size(), m.get(1), m.output.numel()) == (0, None, 0)
    m.add(nn.Tanh())
    m.forward(x)
    m.remove(1)
    assert (m.size(), m.output.numel(), m.gradInput.numel()) == (0, 0, 0)
    for index in (0, 3):
        with pytest.raises(InputError, match="index should be contiguous"):
            m.insert(nn.Tanh(), index)
        with pytest.raises(InputError, match="index out of range"):
            m.remove(index)


def test_calls_reach_all_modules() -> None:
    m = net()
    m.evaluate()
    assert {module.train for module in m.listModules()} == {False}
    m.training()
    assert {module.train for module in m.listModules()} == {True}
    m.forward(x)
    m.clearState()
    for module in m.listModules():
        assert all(tensor.numel() == 0 for tensor in leaves([module.output, module.gradInput]))
