"""One training step of char-rnn beside plain PyTorch.  `python benchmarks/charrnn.py [threads [device]]`

The program of Karpathy, 2015: an LSTM built from nodes of nngraph, a clone of it for each step in time, all
with the same parameters, and RMSprop on the flat parameters.  What is inside the clones is computed again if
a program looks at it; the second row is for clones that keep it all, as in Lua.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from compare import Task, compare

import t7compat
from t7compat import Table, nn, optim, optnet

SYMBOLS, LAYERS, UNITS, STEPS, BATCH = 65, 2, 128, 50, 50
LEARNING_RATE, DECAY, LIMIT = 2e-3, 0.95, 5


def cell() -> nn.Module:
    """{symbols, c1, h1, c2, h2, ...} -> {c1, h1, c2, h2, ..., log probabilities of the next symbols}"""
    inputs = [nn.Identity()() for _ in range(2 * LAYERS + 1)]
    outputs = []
    x, size = nn.OneHot(SYMBOLS)(inputs[0]), SYMBOLS
    for before, hidden in zip(inputs[1::2], inputs[2::2], strict=True):
        sums = nn.CAddTable()(nn.Linear(size, 4 * UNITS)(x), nn.Linear(UNITS, 4 * UNITS)(hidden))
        n1, n2, n3, n4 = nn.SplitTable(2)(nn.Reshape(4, UNITS)(sums)).split(4)
        write, forget, read, new = nn.Sigmoid()(n1), nn.Sigmoid()(n2), nn.Sigmoid()(n3), nn.Tanh()(n4)
        after = nn.CAddTable()(nn.CMulTable()(forget, before), nn.CMulTable()(write, new))
        x, size = nn.CMulTable()(read, nn.Tanh()(after)), UNITS
        outputs += [after, x]
    return nn.gModule(inputs, [*outputs, nn.LogSoftMax()(nn.Linear(UNITS, SYMBOLS)(x))])


def ours(x: torch.Tensor, y: torch.Tensor, device: str, keeps_all: bool = False) -> Callable[[], object]:
    """A training step with t7compat."""
    network, criterion = cell(), nn.ClassNLLCriterion()
    if device == "cuda":
        network.cuda()
        criterion.cuda()
    w, dw = network.getParameters()
    clones = [network.clone("weight", "bias", "gradWeight", "gradBias") for _ in range(STEPS)]
    for clone in clones if keeps_all else ():
        optnet.removeOptimization(clone)
    criterions = [criterion.clone() for _ in range(STEPS)]
    zeros = [torch.zeros(BATCH, UNITS, device=device) for _ in range(2 * LAYERS)]
    config = {"learningRate": LEARNING_RATE, "alpha": DECAY}

    def feval(w: torch.Tensor) -> tuple[float, torch.Tensor]:
        dw.zero_()
        inputs, outputs, loss, states = [], [], 0.0, zeros
        for t in range(STEPS):
            inputs.append(Table(x[t], *states))
            outputs.append(clones[t].forward(inputs[t]))
            *states, prediction = outputs[t]
            loss += criterions[t].forward(prediction, y[t])
        gradients = zeros
        for t in reversed(range(STEPS)):
            gradient = criterions[t].backward(outputs[t][2 * LAYERS + 1], y[t])
            _, *gradients = clones[t].backward(inputs[t], Table(*gradients, gradient))
        return loss / STEPS, dw.clamp_(-LIMIT, LIMIT)

    return lambda: optim.rmsprop(feval, w, config)


class Cell(torch.nn.Module):
    """The same in PyTorch."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.i2h, self.h2h = torch.nn.Linear(inputs, 4 * UNITS), torch.nn.Linear(UNITS, 4 * UNITS)

    def forward(
        self, x: torch.Tensor, before: torch.Tensor, hidden: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        n1, n2, n3, n4 = (self.i2h(x) + self.h2h(hidden)).chunk(4, 1)
        after = torch.sigmoid(n2) * before + torch.sigmoid(n1) * torch.tanh(n4)
        return after, torch.sigmoid(n3) * torch.tanh(after)


def native(x: torch.Tensor, y: torch.Tensor, device: str) -> Callable[[], object]:
    """The same with PyTorch."""
    sizes = [SYMBOLS, *[UNITS] * (LAYERS - 1)]
    cells = torch.nn.ModuleList(map(Cell, sizes)).to(device)
    decoder = torch.nn.Linear(UNITS, SYMBOLS).to(device)
    weights = [*cells.parameters(), *decoder.parameters()]
    optimizer = torch.optim.RMSprop(weights, lr=LEARNING_RATE, alpha=DECAY)
    zeros = torch.zeros(BATCH, UNITS, device=device)

    def step() -> float:
        optimizer.zero_grad()
        states = [(zeros, zeros)] * LAYERS
        losses = []
        for t in range(STEPS):
            value = F.one_hot(x[t] - 1, SYMBOLS).float()
            for layer, cell in enumerate(cells):
                states[layer] = cell(value, *states[layer])
                value = states[layer][1]
            losses.append(F.nll_loss(F.log_softmax(decoder(value), 1), y[t] - 1))
        loss = torch.stack(losses).mean()
        loss.backward()
        torch.nn.utils.clip_grad_value_(weights, LIMIT)
        optimizer.step()
        return loss.item()

    return step


if __name__ == "__main__":
    t7compat.setdefaulttensortype("torch.FloatTensor")
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    device = sys.argv[2] if len(sys.argv) > 2 else "cpu"
    x, y = (torch.randint(1, SYMBOLS + 1, (STEPS, BATCH), device=device) for _ in range(2))
    name, other = f"char-rnn {LAYERS}x{UNITS} T={STEPS} B={BATCH}", native(x, y, device)
    compare(
        Task(name, ours(x, y, device), "plain PyTorch", other),
        Task(f"{name}, all kept", ours(x, y, device, keeps_all=True), "plain PyTorch", other),
    )
