"""optim: what it refuses, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from t7compat import InputError, LuaFunction, Table, optim

METHODS = ("sgd", "nag", "asgd", "adam", "adamax", "adagrad", "adadelta", "rmsprop", "rprop", "cg", "lbfgs")
DE = {"scaleFactor": 0.5, "crossoverRate": 0.5, "popsize": 4, "maxFEs": 8}


def bowl(x: Tensor) -> tuple[float, Tensor]:
    return x.square().sum().item(), 2 * x


def start(n: int = 3) -> Tensor:
    return torch.ones(n).double()


def refuses(message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(InputError) as error:
        call()
    assert message in str(error.value)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((bowl, [1, 2]), "x: expected a "),
        ((bowl, start().long()), "x: expected a "),
        ((bowl, start(), 5), "expected config and state to be tables, got number"),
        ((bowl, start(), {}, 5), "expected config and state to be tables, got number"),
        ((lambda x: 1, start()), "expected opfunc to return f(x) and df/dx, got number"),
        ((lambda x: (1, 2), start()), "expected df/dx to be torch.DoubleTensor of size 3, got number"),
        ((lambda x: (1, x[:2]), start()), "expected df/dx to be torch.DoubleTensor of size 3, got "),
        ((lambda x: (1, x.float()), start()), "expected df/dx to be torch.DoubleTensor of size 3, got "),
    ],
)
def test_refuses(method: str, arguments: tuple[Any, ...], message: str) -> None:
    refuses(f"{method}: {message}", lambda: getattr(optim, method)(*arguments))


@pytest.mark.parametrize(
    ("method", "config", "message"),
    [
        ("sgd", {"learningRate": "0.1"}, "sgd: learningRate: expected a number, got string"),
        ("sgd", {"momentum": True}, "sgd: momentum: expected a number, got boolean"),
        ("sgd", {"nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
        ("sgd", {"learningRates": 0.1}, "learningRates: expected a tensor with 3 elements, got number"),
        (
            "sgd",
            {"weightDecays": start(4)},
            "weightDecays: expected a tensor with 3 elements, got torch.Double",
        ),
        ("sgd", {"momentum": 0.9, "dfdx": start(4)}, "sgd: dfdx: expected torch.DoubleTensor of size 3"),
        ("nag", {"momentum": 0}, "nag: momentum must be positive"),
        ("adam", {"m": start().float()}, "adam: m: expected torch.DoubleTensor of size 3, got torch.Float"),
        ("adam", {"t": 1.5}, "adam: t: expected a whole number, got 1.5"),
        ("adamax", {"max": start()}, "adamax: max: expected torch.DoubleTensor of size 2x3"),
        ("rprop", {"delta": Table()}, "rprop: delta: expected torch.DoubleTensor of size 3, got {}"),
        ("cg", {"x0": start(2)}, "cg: x0: expected torch.DoubleTensor of size 3"),
        ("lbfgs", {"lineSearch": LuaFunction(b"")}, "lineSearch: expected a function such as optim.lswolfe"),
        (
            "lbfgs",
            {"old_dirs": Table(start(2))},
            "old_dirs: expected a table with torch.DoubleTensor of size 3",
        ),
        ("de", {}, "de: maxFEs: expected a number, got nil"),
        ("de", {**DE, "popsize": 2}, "de: popsize: expected 3 or more, got 2"),
        ("de", {**DE, "maxFEs": 11}, "de: maxFEs: expected a multiple of popsize (4), got 11"),
        ("cmaes", {}, "cmaes: sigma: expected a number, got nil"),
        ("cmaes", {"sigma": 1, "popsize": 1}, "cmaes: popsize: expected 2 or more, got 1"),
    ],
)
def test_refuses_options(method: str, config: dict[str, Any], message: str) -> None:
    refuses(message, lambda: getattr(optim, method)(bowl, start(), config))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optim.cg(bowl, torch.ones(2, 2)), "cg: x: expected a 1-D floating point tensor, got "),
        (lambda: optim.cmaes(bowl, torch.ones(0), {"sigma": 1}), "expected at least one number"),
        (lambda: optim.cmaes(bowl, torch.ones(2).half(), {"sigma": 1}), "expected a FloatTensor or Double"),
        (lambda: optim.de(lambda x: "low", start(), DE), "de: f(x): expected a number, got string"),
        (
            lambda: optim.lswolfe(bowl, start(), 1, start(2), 3, start(), -3),
            "lswolfe: d: expected torch.Doub",
        ),
        (
            lambda: optim.lswolfe(bowl, start(), None, start(), 3, start(), -3),
            "t: expected a number, got nil",
        ),
        (lambda: optim.polyinterp(start()), "polyinterp: expected points (x, f, g) as n x 3, got "),
        (
            lambda: optim.polyinterp(torch.zeros(2, 3), 0, 1),
            "there is no one polynomial through these points",
        ),
        (
            lambda: optim.FistaLS(bowl, bowl, print, start(), {"maxiter": 0}),
            "maxiter: expected one iteration",
        ),
        (lambda: optim.FistaLS(lambda *x: 1, bowl, print, start()), 'expected f(x, "dx") to return f and a '),
        (
            lambda: optim.checkgrad(lambda x: 1, start()),
            "checkgrad: expected opfunc to return f(x) and df/dx",
        ),
        (lambda: optim.ConfusionMatrix(0), "expected a number of classes or their names, got number"),
        (lambda: optim.ConfusionMatrix([]), "expected a number of classes or their names, got number"),
        (lambda: optim.ConfusionMatrix(3).add(4, 1), "predictions: expected classes from 1 to 3, got 4"),
        (lambda: optim.ConfusionMatrix(3).add(1, 4), "targets: expected classes from 1 to 3, got 4"),
        (lambda: optim.ConfusionMatrix(3).add(None, 1), "add: prediction: expected a number, got nil"),
        (lambda: optim.ConfusionMatrix(3).add(torch.ones(1, 3), 1), "predictions: expected a 1-D tensor"),
        (
            lambda: optim.ConfusionMatrix(3).batchAdd(torch.ones(2), torch.ones(3)),
            "as many predictions as targ",
        ),
        (lambda: optim.ConfusionMatrix(3).batchAdd(torch.ones(1, 2, 3), torch.ones(1)), "1-D or 2-D tensor"),
        (
            lambda: optim.ConfusionMatrix(3).render("size"),
            "expected the sort mode score or occurrence, got 'size'",
        ),
    ],
)
def test_refuses_arguments(call: Callable[[], Any], message: str) -> None:
    refuses(message, call)


def test_logger_refuses(tmp_path: Path) -> None:
    logger = optim.Logger(tmp_path / "test.log")
    refuses("add: expected a table, got number", lambda: logger.add(5))
    refuses("add: can only log numbers and strings, got boolean", lambda: logger.add([True]))
    logger.setNames(["a", "b"])
    refuses("expected values for the columns of this log, got one for 3", lambda: logger.add([1, 2, 3]))
    refuses("style: expected a string or a table of strings, got number", lambda: logger.style([1]))
    refuses("plot: expected names of columns, got 'c'", lambda: logger.plot("a", "c"))
    assert (tmp_path / "test.log").read_text() == "a\tb\t\n"


def test_unknown_options_are_ignored() -> None:
    x, fs = optim.sgd(bowl, start(), {"learningrate": 5, "learningRate": 0.25, 7: "seven"})
    assert (x.tolist(), list(fs)) == ([0.5, 0.5, 0.5], [3])


def test_an_error_of_opfunc_comes_as_it_is() -> None:
    def fails(x: Tensor) -> tuple[float, Tensor]:
        raise ZeroDivisionError

    for method in METHODS:
        with pytest.raises(ZeroDivisionError):
            getattr(optim, method)(fails, start())


def test_infinity_is_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    """As in Lua, what divides by zero goes on; and it ends."""
    for method in METHODS:
        for value in (float("nan"), float("inf")):
            optim_method = getattr(optim, method)
            x, *_ = optim_method(
                lambda x, value=value: (value, torch.full_like(x, value)), start(), {"maxIter": 3}
            )
            assert x.shape == (3,)
    assert optim.adam(bowl, start(), {"beta1": 1})[0].isnan().all()
    # in Torch7, this line search would never end
    _, fs, _ = optim.cg(lambda x: (-x.sum().item(), -torch.ones_like(x)), start(), {"maxIter": 5})
    assert len(fs) == 1


def test_says_that_it_starts(capsys: pytest.CaptureFixture[str]) -> None:
    for method in ("adagrad", "adadelta", "rprop"):
        getattr(optim, method)(bowl, start())
        assert (
            capsys.readouterr().out
            == f"no state table{',' * (method != 'rprop')} {method.upper()} initializing\n"
        )
        getattr(optim, method)(bowl, start(), {})
        assert capsys.readouterr().out == ""
