"""Complete training runs of Torch7, followed loss by loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from golden import Case, cases, same, unknown_classes

from t7compat import Table


def batches(data: Table, config: Table, iterations: int) -> Iterator[tuple[Any, Any, bool]]:
    """Input, target and whether to forget first, for each iteration of a run of plain gradient descent."""
    for i in range(iterations):
        if data.songs is not None:
            song = i % len(data.songs)
            yield data.songs[song], data.labels[song], False
        elif config.window is not None:
            start = i % config.forget_every * config.window
            yield data.input.narrow(0, start, config.window), data.target, start == 0
        else:
            yield data.input, data.target, False


def runs() -> list[Case]:
    """The cases that are plain gradient descent on the given data."""
    return [
        case
        for case in cases("traces")
        if (trace := case.content).criterion is not None
        and trace.optimiser is None
        and (trace.data.songs is not None or (trace.data.target is not None and trace.config.rho is None))
    ]


@pytest.mark.parametrize("case", runs(), ids=str)
def test_every_loss_is_that_of_torch7(case: Case) -> None:
    trace = case.load()
    if unknown := unknown_classes(trace):
        pytest.skip(f"t7compat has no {', '.join(unknown)}")
    model, criterion, rate = trace.model, trace.criterion, trace.config.learningRate
    losses = []
    for input, target, forgets in batches(trace.data, trace.config, trace.iterations):
        if forgets:
            model.forget()
        output = model.forward(input)
        losses.append(criterion.forward(output, target))
        model.zeroGradParameters()
        model.backward(input, criterion.backward(output, target))
        model.updateParameters(rate)
    torch.testing.assert_close(torch.tensor(losses, dtype=torch.float64), trace.losses, rtol=1e-8, atol=0)
    same(model.parameters()[0], trace.params_final, "parameters at the end")
    if isinstance(trace.predictions, torch.Tensor):
        same(model.forward(trace.data.input), trace.predictions, "predictions")
    if trace.predictions_evaluate is not None:
        model.evaluate()
        same(model.forward(trace.data.input), trace.predictions_evaluate, "predictions in evaluation mode")
    if isinstance(trace.predictions, Table):
        windows = batches(trace.data, trace.config, trace.config.forget_every)
        model.evaluate()
        same(
            Table(*[model.forward(x).clone() for x, _, _ in windows]),
            trace.predictions,
            "predictions of windows",
        )
        model.training()
        first = trace.data.input.narrow(0, 0, trace.config.window)
        same(model.forward(first), trace.after_training_mode, "output after going back to training mode")
