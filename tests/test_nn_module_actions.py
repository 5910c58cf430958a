"""What Torch7 did with modules, done again.

The cases hold data from before and after an action, but not the action itself: that is in `ACTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from typing import Any

import pytest
import torch
from golden import Case, gradients, layout, over, parameters, same

from t7compat import InputError, Table, nn
from t7compat.nested import type_name
from t7compat.nn.module import clear


@over("nn_module", "updates")
def test_update(case: Case, data: Table) -> None:
    module = data.before
    module.training()
    module.forward(data.input)
    done(case, data)
    same(parameters(module), data.params, "parameters")
    same(gradients(module), data.gradParams, "gradients")
    for mine, torch7s in zip(module.listModules(), data.after.listModules(), strict=True):
        same(mine.output, torch7s.output, f"output of {mine}")
        same(mine.gradInput, torch7s.gradInput, f"gradInput of {mine}")


@over("nn_module", "share_clone", "traversal", "type", "flags", "utils", "container_edit")
def test_action(case: Case, data: Table) -> None:
    done(case, data)


def done(case: Case, data: Table) -> None:
    """Do what Torch7 did; what the action gives must equal the entries of the same names in the case."""
    actions = [action for pattern, action in ACTIONS.items() if fnmatch(f"{case.stem}/{case.name}", pattern)]
    if not actions:
        pytest.skip("the case does not show what was done")
    for name, value in (actions[0](data) or {}).items():
        same(value, data[name], name)


Action = Callable[[Table], dict[str, Any] | None]
ACTIONS: dict[str, Action] = {}


def action(*patterns: str) -> Callable[[Action], Action]:
    """The decorated function does what Torch7 did in the cases whose names are of these patterns."""

    def decorate(function: Action) -> Action:
        ACTIONS.update(dict.fromkeys(patterns, function))
        return function

    return decorate


def types(modules: Iterable[Any]) -> Table:
    return Table(*map(type_name, modules))


@action("share_clone/clone")
def clone(data: Table) -> dict[str, Any]:
    module = data.before
    copy = module.clone()
    copy.modules[1].weight.fill_(1)
    return {"original": module, "clone": copy}


@action("share_clone/clone_sharing_weight")
def clone_sharing_weight(data: Table) -> dict[str, Any]:
    module = data.before
    copy = module.clone("weight")
    module.weight.fill_(3)
    module.bias.fill_(4)
    return {"original": module, "clone": copy, "result": copy.weight, "result_bias": copy.bias}


@action("share_clone/clone_container")
def clone_container(data: Table) -> dict[str, Any]:
    module = data.before
    copy = module.clone("weight", "bias")
    module.modules[1].weight.fill_(3)
    copy.modules[3].bias.fill_(4)
    return {"original": module, "clone": copy}


@action("share_clone/share_module")
def share_module(data: Table) -> dict[str, Any]:
    a, b = data.before.a, data.before.b
    a.share(b, "weight", "gradWeight")
    same(a.weight, data.right_after_share, "right after share")
    b.weight.mul_(2)
    return {"after": Table(a=a, b=b), "result": a.weight}


@action("share_clone/share_container")
def share_container(data: Table) -> dict[str, Any]:
    a, b = data.before.a, data.before.b
    a.share(b, "weight", "bias", "no_such_field")
    b.modules[3].weight.fill_(0.5)
    return {"after": Table(a=a, b=b), "result": parameters(a)}


@action("share_clone/shared_gradients_accumulate")
def shared_gradients_accumulate(data: Table) -> dict[str, Any]:
    module = data.before
    same(module.forward(data.input), data.output, "output")
    module.backward(data.input, data.gradOutput)
    a, b = module.modules
    same(a.gradWeight, data.gradWeight, "gradWeight")
    same(b.gradBias, data.gradBias, "gradBias")
    module.updateParameters(0.1)
    same(parameters(module), parameters(data.after), "updated parameters")
    return {"result": a.weight}


@action("traversal/apply")
def apply(data: Table) -> dict[str, Any]:
    seen: list[Any] = []
    data.module.apply(seen.append)
    return {"order": types(seen)}


@action("traversal/listModules")
def listModules(data: Table) -> dict[str, Any]:
    return {"order": types(data.module.listModules())}


@action("traversal/findModules_self")
def findModules_self(data: Table) -> dict[str, Any]:
    module = nn.Linear(2, 2)
    found, containers = module.findModules("nn.Linear")
    return {
        "found": types(found),
        "containers": types(containers),
        "container_is_self": containers[1] is module,
    }


@action("traversal/findModules_*")
def findModules(data: Table) -> dict[str, Any]:
    found, containers = data.module.findModules(data.name.removeprefix("findModules_"))
    return {"found": types(found), "containers": types(containers), "count": len(found)}


@action("traversal/replace")
def replace(data: Table) -> dict[str, Any]:
    module = data.before.replace(lambda m: nn.ReLU() if type_name(m) == "nn.Tanh" else m)
    return {"after": module, "order": types(module.listModules())}


@action("traversal/replace_root")
def replace_root(data: Table) -> dict[str, Any]:
    seen: list[Any] = []

    def callback(module: nn.Module) -> nn.Module:
        seen.append(module)
        return nn.Identity() if type_name(module) == "nn.ConcatTable" else module

    module = data.before.replace(callback)
    return {"after": module, "callback_order": types(seen), "order": types(module.listModules())}


@action("type/query")
def query_type(data: Table) -> dict[str, Any]:
    module = nn.Sequential().add(nn.Linear(3, 4))
    before = module.type()
    module.float()
    return {"before_type": before, "after_type": module.type(), "child_type": module.get(1).type()}


@action("type/flattened_network")
def convert_flattened(data: Table) -> dict[str, Any]:
    module = data.before.float()
    return {"after": module, "layout": layout(parameters(module)), "result": parameters(module)}


@action("type/tensorCache", "type/no_tensorCache")
def convert_two(data: Table) -> dict[str, Any]:
    a, b = data.before.a, data.before.b
    cache = {} if data.name == "tensorCache" else None
    a.type("torch.FloatTensor", cache)
    b.type("torch.FloatTensor", cache)
    a.weight.fill_(2)
    return {"after": Table(a=a, b=b), "result": b.weight}


@action("type/criterion")
def convert_criterion(data: Table) -> dict[str, Any]:
    return {"after": data.before.float()}


@action("type/*")
def convert(data: Table) -> dict[str, Any]:
    module = data.before
    return {"returns_self": module.type(data.type) is module, "after": module}


@action("updates/*_scale_accumulates")
def scale_accumulates(data: Table) -> None:
    for scale in (1, 0.5, -2):
        data.before.backward(data.input, data.gradOutput, scale)


@action("updates/*_zero_then_update")
def zero_then_update(data: Table) -> None:
    data.before.backward(data.input, data.gradOutput)
    data.before.zeroGradParameters()
    data.before.updateParameters(0.1)


@action("updates/*_update")
def update(data: Table) -> None:
    data.before.backward(data.input, data.gradOutput)
    data.before.updateParameters(0.1)


@action("updates/*_shared_flag", "updates/*_accUpdateOnly")
def accUpdateGradParameters(data: Table) -> None:
    data.before.accUpdateGradParameters(data.input, data.gradOutput, 0.1)


@action("updates/*_accUpdateGradParameters")
def updateGradInput_and_accUpdate(data: Table) -> None:
    data.before.updateGradInput(data.input, data.gradOutput)
    data.before.accUpdateGradParameters(data.input, data.gradOutput, 0.1)


@action("updates/*_backwardUpdate")
def backwardUpdate(data: Table) -> dict[str, Any]:
    return {"gradInput": data.before.backwardUpdate(data.input, data.gradOutput, 0.2)}


@action("updates/two_forwards_one_backward")
def two_forwards_one_backward(data: Table) -> None:
    data.before.forward(torch.ones_like(data.input))
    data.before.backward(data.input, data.gradOutput)


@action("flags/train_evaluate")
def flags(data: Table) -> dict[str, Any]:
    module = nn.Sequential().add(nn.Linear(2, 2)).add(nn.Dropout())
    module.add(nn.Sequential().add(nn.BatchNormalization(2)))

    def trains() -> Table:
        names = {None: "nil", True: "true", False: "false"}
        return Table(*[names[m.train] for m in module.listModules()])

    constructed = trains()
    module.evaluate()
    evaluating = trains()
    module.training()
    order = types(module.listModules())
    return {"constructed": constructed, "evaluate": evaluating, "training": trains(), "order": order}


@action("utils/clear")
def cleared(data: Table) -> dict[str, Any]:
    module = nn.Identity()
    vars(module).update(a=torch.ones(2), b=Table(1, 2), c=5, d=data.result)
    clear(module, "a", "b", "c")
    return {
        "a_elements": module.a.numel(),
        "b_is_empty_table": isinstance(module.b, Table) and not module.b,
        "c_is_nil": "c" not in vars(module),
        "result": module.d,
    }


EDITS: dict[str, Callable[[nn.Sequential], Any]] = {
    "insert_middle": lambda m: m.insert(nn.ReLU(), 2),
    "insert_end_default": lambda m: m.insert(nn.ReLU()),
    "insert_first": lambda m: m.insert(nn.Identity(), 1),
    "insert_out_of_range": lambda m: m.insert(nn.ReLU(), 6),
    "remove_default": lambda m: m.remove(),
    "remove_first": lambda m: m.remove(1),
    "remove_out_of_range": lambda m: m.remove(4),
    "add": lambda m: m.add(nn.ReLU()),
    "get": lambda m: m.get(2),
    "get_missing": lambda m: m.get(9),
    "remove_all": lambda m: [m.remove() for _ in range(3)] and len(m),
}


@action(*(f"container_edit/{name}" for name in EDITS))
def edit(data: Table) -> dict[str, Any]:
    module, change = data.before, EDITS[data.name]
    found: dict[str, Any] = {"error": None, "returned": None}
    try:
        result = change(module)
        found["returned"] = type_name(result) if isinstance(result, nn.Module) else result
    except InputError as error:
        found["error"] = error.message
    found |= {"ok": found["error"] is None, "order": types(module.modules), "size": module.size()}
    return {**found, "after": module}
