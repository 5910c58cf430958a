"""nn.Jacobian and nn.SparseJacobian: derivatives by backward passes, tested by finite differences."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nn.module import Module
from t7compat.t7file import dumps, loads
from t7compat.table import Table
from t7compat.tensortypes import new_tensor

Tensor = torch.Tensor


class Derivatives:
    """Jacobian matrices of a module, and tests which give how far two ways to compute them are apart.

    A row belongs to an element of the input, or of the parameter `param` (whose gradient is `dparam`), a
    column to an element of the output.  `values` takes the numbers out of an input or gradInput.
    """

    def __init__(self, values: Callable[[Tensor], Tensor]) -> None:
        self.values = values

    # ---- matrices

    def backward(
        self, module: Module, input: Tensor, param: Tensor | None = None, dparam: Tensor | None = None
    ) -> Tensor:
        """The derivatives that the backward passes of the module give."""
        columns = []
        for gradOutput in one_by_one(module, input):
            module.zeroGradParameters()
            gradInput = module.updateGradInput(input, gradOutput)
            module.accGradParameters(input, gradOutput)
            columns.append(self.values(gradInput) if param is None or dparam is None else dparam)
            columns[-1] = columns[-1].flatten().to(new_tensor(), copy=True)
        return torch.stack(columns, 1)

    def backwardUpdate(self, module: Module, input: Tensor, param: Tensor) -> Tensor:
        """The parameter, minus its derivatives as `accUpdateGradParameters` subtracts them."""
        parameters = (module.parameters() or ((), ()))[0]
        originals = [parameter.clone() for parameter in parameters]

        def restore() -> None:
            for parameter, original in zip(parameters, originals, strict=True):
                parameter.copy_(original)

        columns = []
        for gradOutput in one_by_one(module, input):
            restore()
            module.updateGradInput(input, gradOutput)
            module.accUpdateGradParameters(input, gradOutput, 1)
            columns.append(param.flatten().to(new_tensor(), copy=True))
        restore()
        return torch.stack(columns, 1)

    def forward(
        self, module: Module, input: Tensor, param: Tensor | None = None, perturbation: float | None = None
    ) -> Tensor:
        """The derivatives by central differences, each number moved by `perturbation` (1e-6)."""
        values, small = self.values(input) if param is None else param, perturbation or 1e-6
        jacobian = new_tensor(values.numel(), module.forward(input).numel())
        for row, place in zip(jacobian, itertools.product(*map(range, values.shape)), strict=True):
            original = values[place].item()
            values[place] = original - small
            below = module.forward(input).flatten().to(jacobian, copy=True)
            values[place] = original + small
            above = module.forward(input).flatten().to(jacobian, copy=True)
            values[place] = original
            row.copy_((above - below) / (2 * small))
        return jacobian

    def forwardUpdate(
        self, module: Module, input: Tensor, param: Tensor, perturbation: float | None = None
    ) -> Tensor:
        """The parameter, minus its derivatives by central differences."""
        return param.reshape(-1, 1).to(new_tensor()) - self.forward(module, input, param, perturbation)

    def backwardDiagHessian(self, module: Module, input: Tensor, diagHessianParamName: str) -> Any:
        """The second derivatives of half the squared output, as nn.hessian computes them."""
        module.forward(input)
        ones = torch.ones_like(module.output)
        module.diagHessianWeight.zero_()
        module.diagHessianBias.zero_()
        module.updateDiagHessianInput(input, ones)
        module.accDiagHessianParameters(input, ones)
        return getattr(module, diagHessianParamName)

    def linearModuleDiagHessian(self, module: Module, input: Tensor, gradParamName: str) -> Tensor:
        """The same for a linear module: the squares of its first derivatives, summed over the output."""
        total: Any = 0
        for gradOutput in one_by_one(module, input):
            module.zeroGradParameters()
            module.updateGradInput(input, gradOutput)
            module.accGradParameters(input, gradOutput)
            total = total + getattr(module, gradParamName).flatten().square()
        return total

    # ---- tests: the largest difference

    def testJacobian(
        self, module: Module, input: Tensor, minval: float | None = None, maxval: float | None = None,
        perturbation: float | None = None,
    ) -> float:  # fmt: skip
        """Of the derivatives with respect to an input, which is drawn between minval (-2) and maxval (2)."""
        draw(self.values(input), minval, maxval)
        found = self.forward(module, input, None, perturbation)
        return largest(found - self.backward(module, input))

    def testJacobianParameters(
        self, module: Module, input: Tensor, param: Tensor, dparam: Tensor, minval: float | None = None,
        maxval: float | None = None, perturbation: float | None = None,
    ) -> float:  # fmt: skip
        """Of the derivatives with respect to a parameter."""
        draw(self.values(input), minval, maxval)
        draw(param, minval, maxval)
        found = self.backward(module, input, param, dparam)
        return largest(self.forward(module, input, param, perturbation) - found)

    def testJacobianUpdateParameters(
        self, module: Module, input: Tensor, param: Tensor, minval: float | None = None,
        maxval: float | None = None, perturbation: float | None = None,
    ) -> float:  # fmt: skip
        """Of the parameter after `accUpdateGradParameters`."""
        draw(self.values(input), minval, maxval)
        draw(param, minval, maxval)
        found = self.backwardUpdate(module, input, param)
        return largest(self.forwardUpdate(module, input, param, perturbation) - found)

    def testDiagHessian(
        self, module: Module, input: Tensor, gradParamName: str, diagHessianParamName: str,
        minval: float | None = None, maxval: float | None = None,
    ) -> float:  # fmt: skip
        """Of the second derivatives of a linear module."""
        draw(self.values(input), minval, maxval)
        module.initDiagHessianParameters()
        found = self.backwardDiagHessian(module, input, diagHessianParamName)
        return largest(found.flatten() - self.linearModuleDiagHessian(module, input, gradParamName))

    def testDiagHessianInput(self, module: Module, input: Tensor, *limits: float | None) -> float:
        """Of those with respect to the input."""
        return self.testDiagHessian(module, input, "gradInput", "diagHessianInput", *limits)

    def testDiagHessianWeight(self, module: Module, input: Tensor, *limits: float | None) -> float:
        """Of those with respect to the weight."""
        return self.testDiagHessian(module, input, "gradWeight", "diagHessianWeight", *limits)

    def testDiagHessianBias(self, module: Module, input: Tensor, *limits: float | None) -> float:
        """Of those with respect to the bias."""
        return self.testDiagHessian(module, input, "gradBias", "diagHessianBias", *limits)

    def testIO(
        self, module: Module, input: Tensor, minval: float | None = None, maxval: float | None = None
    ) -> tuple[float, float]:
        """Of output and gradInput between a module and what is loaded after saving it."""
        gradOutput = draw(torch.zeros_like(module.forward(input)), minval, maxval)

        def passes(module: Module) -> tuple[Tensor, Tensor]:
            module.forward(input)
            module.zeroGradParameters()
            module.updateGradInput(input, gradOutput)
            module.accGradParameters(input, gradOutput)
            return module.output.clone(), module.gradInput.clone()

        output, gradInput = passes(module)
        if module.clearState() is not module:
            raise InputError(f"clearState of {module}: expected it to return the module")
        output2, gradInput2 = passes(loads(dumps(module)))
        return largest(output - output2), largest(gradInput - gradInput2)

    def testAllUpdate(self, module: Module, input: Tensor, weight: str, gradWeight: str) -> Table:
        """Of a weight after the two ways to learn, alone and shared by two modules: a table with four."""
        rate = mersenne.uniform(0.1, 1)
        lone, at_once = module.clone(), module.clone()
        before = getattr(lone, weight).clone()
        gradOutput = draw(torch.zeros_like(lone.forward(input)), 0, 1)

        def learn(*modules: Module, method: str) -> None:
            for one in modules:
                one.forward(input)
                one.zeroGradParameters()
            for one in modules:
                one.updateGradInput(input, gradOutput)
            for one in modules:
                options = (rate,) if method == "accUpdateGradParameters" else ()
                getattr(one, method)(input, gradOutput, *options)
            for one in modules if method == "accGradParameters" else ():
                one.updateParameters(rate)

        learn(lone, method="accGradParameters")
        learn(at_once, method="accUpdateGradParameters")
        step = getattr(lone, gradWeight) * rate
        errors = Table()
        errors["accGradParameters"] = (before - step - getattr(lone, weight)).norm().item()
        errors["accUpdateGradParameters"] = (getattr(at_once, weight) - getattr(lone, weight)).norm().item()
        for method in ("accGradParameters", "accUpdateGradParameters"):
            pair = module.clone(), module.clone()
            pair[1].share(pair[0], weight)
            learn(*pair, method=method)
            apart = [(before - 2 * step - getattr(one, weight)).norm().item() for one in pair]
            errors[f"{method} [shared]"] = sum(apart)
        return errors


def one_by_one(module: Module, input: Any) -> Iterator[Tensor]:
    """Run the module forward; gradients of its output with a one in one place after the other."""
    output = module.forward(input)
    for i in range(output.numel()):
        gradOutput = torch.zeros(output.numel(), dtype=output.dtype, device=output.device)
        gradOutput[i] = 1
        yield gradOutput.reshape(output.shape)


def draw(tensor: Tensor, minval: float | None, maxval: float | None) -> Tensor:
    """Fill a tensor as `torch.rand(n) * (maxval - minval) + minval` does."""
    low, high = -2 if minval is None else minval, 2 if maxval is None else maxval
    numbers = mersenne.uniform_(new_tensor(tensor.numel()), 0, 1).mul_(high - low).add_(low)
    return tensor.copy_(numbers.reshape(tensor.shape))


def largest(difference: Tensor) -> float:
    """The largest number of a tensor, without its sign; 0 if there is none."""
    return difference.abs().max().item() if difference.numel() else 0.0


Jacobian = Derivatives(lambda input: input)
# of inputs that are lists of (index, value) pairs: (n, 2)
SparseJacobian = Derivatives(lambda input: input.select(1, 1))
