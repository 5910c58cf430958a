"""Which nodes make a network."""

from __future__ import annotations

from typing import Any

from t7compat.errors import InputError
from t7compat.nested import type_name
from t7compat.nngraph.node import Node, expect_nodes


def expect_network(inputs: Any, outputs: Any) -> tuple[list[Node], list[Node]]:
    """The nodes of two tables; InputError unless they are inputs and outputs of a network without loose ends.

    It is looked at before anything is changed, so that a program may try again with the same nodes.
    """
    inputs, outputs = expect_nodes("inputs", inputs), expect_nodes("outputs", outputs)
    for name, nodes in (("inputs", inputs), ("outputs", outputs)):
        if not nodes:
            raise InputError(f"nn.gModule: expected one node or more as {name}")
    network: dict[Node, None] = {}
    for node in outputs:
        node.bfs(network.setdefault)
    for index, node in enumerate(inputs, 1):
        if len(node.children):
            raise InputError(f"inputs[{index}]: the {_named(node)} has inputs already")
        if node not in network:
            raise InputError(f"inputs[{index}]: the {_named(node)} does not lead to an output")
    for node in network:
        if not len(node.children) and node not in inputs and type_name(node.data.module) != _PARAMETERS:
            raise InputError(f"nn.gModule: the {_named(node)} has no inputs, and is none of the inputs")
        _expect_no_loose_end(node, network)
    return inputs, outputs


_PARAMETERS = "nnop.Parameters"  # a module that needs no input


def _expect_no_loose_end(node: Node, network: dict[Node, None]) -> None:
    successors = list(node.data.reverseMap.keys())
    loose = [successor for successor in successors if successor not in network]
    count = node.data.nSplitOutputs
    if loose and count:
        raise InputError(
            f"nn.gModule: {len(loose)} of the {count} entries that the {_named(node)} gives are unused"
        )
    if loose:
        raise InputError(f"nn.gModule: the {_named(loose[0])} does not lead to an output")


def _named(node: Node) -> str:
    return f"node declared at {node.place}"
