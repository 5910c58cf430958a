"""nn.StochasticGradient, nn.Jacobian and nn.hessian at work."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from golden import over, parameters, same
from torch7 import wave

import t7compat
from t7compat import InputError, Table, nn

# ---- nn.StochasticGradient


def trained(data: Table, dataset: Any) -> Any:
    """A trainer after its training, and what its hooks saw."""
    trainer = nn.StochasticGradient(data.module, data.criterion)
    vars(trainer).update(data.settings.items())
    trainer.verbose = False
    seen = Table(order=Table(), errors=Table(), params=Table())
    numbers = {dataset[i][2]: i for i in range(1, len(data.dataset) + 1)}
    trainer.hookExample = lambda trainer, example: seen.order.insert(numbers[example[2]])

    def after_iteration(trainer: Any, iteration: int, error: float) -> None:
        assert len(seen.errors) == iteration - 1
        seen.errors.insert(error)
        seen.params.insert(Table(*[tensor.clone() for tensor in parameters(trainer.module)]))

    trainer.hookIteration = after_iteration
    t7compat.manualSeed(data.seed)
    trainer.train(dataset)
    return seen


class Dataset:
    """A dataset of the user's own."""

    def __init__(self, examples: Table) -> None:
        self.examples = examples

    def size(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Any:
        return self.examples[index]


@over("nn", "StochasticGradient", having="dataset")
@pytest.mark.parametrize("kind", ["table", "size", "object"])
def test_training(data: Table, kind: str) -> None:
    dataset = data.dataset if kind != "object" else Dataset(data.dataset)
    if kind == "size":  # as in Lua: a function in the table
        dataset["size"] = lambda self: len(self)
    seen = trained(data, dataset)
    same(seen.order, data.order, "order of the examples")
    same(seen.errors, data.errors, "errors")
    same(seen.params, data.params_by_iteration, "parameters")
    same(parameters(data.module), data.final_params, "parameters at the end")


def test_what_training_prints(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = nn.StochasticGradient(nn.Linear(3, 1), nn.MSECriterion())
    trainer.maxIteration = 2
    trainer.train([(wave(3), wave(1)), (wave(3) + 1, wave(1))])
    number = r"\d\.\d+"
    assert re.fullmatch(
        "# StochasticGradient: training\n"
        f"# current error = {number}\n# current error = ({number})\n"
        "# StochasticGradient: you have reached the maximum number of iterations\n"
        r"# training error = \1" + "\n",
        capsys.readouterr().out,
    )


# ---- nn.Jacobian

MODULES = [
    nn.Linear(3, 2),
    nn.Sequential().add(nn.Linear(3, 4)).add(nn.Tanh()).add(nn.Linear(4, 2)),
    nn.CMul(3),
]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_derivatives_agree_with_differences(module: nn.Module) -> None:
    input = wave(2, 3)
    assert nn.Jacobian.testJacobian(module, input) < 1e-7
    assert input.abs().max() <= 2
    assert not torch.equal(input, wave(2, 3))
    for weight, gradient in zip(*module.parameters(), strict=True):
        assert nn.Jacobian.testJacobianParameters(module, input, weight, gradient, -1, 1) < 1e-7
        assert nn.Jacobian.testJacobianUpdateParameters(module, input, weight, -1, 1) < 1e-7
    assert nn.Jacobian.testIO(module, input) == (0, 0)


def test_wrong_derivatives_are_found() -> None:
    module = nn.Tanh()
    module.updateGradInput = lambda input, gradOutput: gradOutput * (1 - input.tanh())
    assert nn.Jacobian.testJacobian(module, wave(3)) > 0.1


def test_ways_to_learn_agree() -> None:
    errors = nn.Jacobian.testAllUpdate(nn.Linear(3, 2), wave(4, 3), "weight", "gradWeight")
    assert list(errors.keys()) == [
        "accGradParameters", "accUpdateGradParameters",
        "accGradParameters [shared]", "accUpdateGradParameters [shared]",
    ]  # fmt: skip
    assert max(errors.values()) < 1e-12


def test_derivatives_of_pairs() -> None:
    """An input of (index, value) pairs has derivatives with respect to the values."""

    class Values(nn.Module):
        def compute(self, input: torch.Tensor) -> torch.Tensor:
            return input[:, 1] ** 2

    pairs = torch.tensor([[1, 0.5], [7, -2]]).double()
    want = torch.tensor([[1.0, 0], [0, -4]]).double()
    torch.testing.assert_close(nn.SparseJacobian.backward(Values(), pairs), want)
    torch.testing.assert_close(nn.SparseJacobian.forward(Values(), pairs), want)
    assert pairs[1].tolist() == [7, -2]
    assert nn.SparseJacobian.testJacobian(Values(), pairs) < 1e-7
    assert pairs[:, 0].tolist() == [1, 7]


# ---- nn.hessian


@pytest.mark.parametrize("module", [nn.Linear(3, 2), nn.SpatialConvolution(2, 3, 2, 2)], ids=str)
def test_second_derivatives_of_linear_modules(module: nn.Module) -> None:
    nn.hessian.enable()
    input = wave(3) if isinstance(module, nn.Linear) else wave(2, 3, 3)
    for of in ("Input", "Weight", "Bias"):
        assert getattr(nn.Jacobian, f"testDiagHessian{of}")(module, input) < 1e-12


def test_flat_second_derivatives() -> None:
    nn.hessian.enable()
    module = nn.Sequential().add(nn.Linear(3, 2)).add(nn.Tanh()).add(nn.Reshape(2, 1))
    assert len(module.getParameters()) == 2
    module.initDiagHessianParameters()
    _, _, flat = module.getParameters()
    module.get(1).diagHessianBias.fill_(7)
    assert flat.tolist() == [0] * 6 + [7, 7]
    module.forward(wave(3))
    assert module.updateDiagHessianInput(wave(3), wave(2, 1)).shape == (3,)


def test_second_derivatives_that_are_not_defined() -> None:
    nn.hessian.enable()
    with pytest.raises(InputError, match=r"nn\.Sigmoid: updateDiagHessianInput is not defined"):
        nn.Sigmoid().updateDiagHessianInput(wave(3), wave(3))
    with pytest.raises(InputError, match=r"nn\.AbsCriterion: updateDiagHessianInput is not defined"):
        nn.AbsCriterion().updateDiagHessianInput(wave(3), wave(3))
