"""optim: every golden case, states that go on from a file, and what is refused."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from deviations import DEVIATIONS
from golden import Case, cases, over, same
from torch import Tensor

import t7compat
from t7compat import Table, dumps, loads, nn, optim

# relative, of numbers and of tensors, for trajectories in either type
PRECISE = {
    torch.float64: {torch.float64: 1e-10},
    torch.float32: {torch.float64: 1e-6, torch.float32: 1e-5},
}

METHODS = {case.stem for case in cases("optim") if case.content.steps is not None}


def rosenbrock(x: Tensor) -> tuple[float, Tensor]:
    a, b = x[:-1], x[1:]
    u = b - a * a
    g = torch.zeros_like(x)
    g[:-1] += -400 * a * u + 2 * (a - 1)
    g[1:] += 200 * u
    return 100 * (u * u).double().sum().item() + ((1 - a) ** 2).double().sum().item(), g


def problem(case: Table) -> Callable[[Tensor], tuple[float, Tensor]]:
    if case.problem == "rosenbrock":
        return rosenbrock

    def quadratic(x: Tensor) -> tuple[float, Tensor]:
        Ax, b = case.data.A.to(x.dtype) @ x, case.data.b.to(x.dtype)
        return (0.5 * x.dot(Ax) - b.dot(x)).item(), Ax - b

    return quadratic


def seen(table: Table) -> Table:
    """The part of a config or state that the golden cases have."""
    unset = {"dir_bufs", "stp_bufs", "df3"} | ({"tmp"} if table.ax is not None else set())
    kept = Table.from_items((k, v) for k, v in table.items() if not (callable(v) or k in unset))
    if kept.ro is not None:
        count = len(kept.old_dirs or ())
        kept.ro = kept.ro[:count] if count else None
    return kept


class Run:
    """A golden trajectory, step by step."""

    def __init__(self, case: Table) -> None:
        self.case, self.x, self.calls, self.evaluations = case, case.input, 0, Table()
        self.config = case.config
        if case.lineSearch is not None:
            self.config.lineSearch = getattr(optim, case.lineSearch)
        self.state = Table() if case.separate_state else None
        self.method = getattr(optim, case["class"].removeprefix("optim."))
        self.function = problem(case)
        if case.seed is not None and case.config.learningRate is None:  # others drew the config with it
            t7compat.manualSeed(case.seed)

    def opfunc(self, x: Tensor) -> tuple[float, Tensor]:
        f, g = self.function(x)
        self.calls += 1
        self.evaluations.insert(Table(x=x.clone(), f=f))
        return f, g

    def step(self, want: Table, where: str) -> None:
        x, fs, *rest = self.method(self.opfunc, self.x, self.config, self.state)
        got = Table(x=x, fx=fs, calls=self.calls, same_tensor=x is self.x)
        if want.extra is not None:  # of lbfgs, Torch7 leaves it out when it starts at the minimum
            got.extra = rest[0]
        state, want.state = want.state, None
        same(got, want, where, PRECISE[x.dtype])
        if state is not None:  # it has differences of near numbers
            same(seen(self.config if self.state is None else self.state), seen(state), f"{where} state")


@over("optim", *METHODS, having="steps")
def test_trajectory(case: Case, data: Table) -> None:
    run = Run(data)
    for i, want in enumerate(data.steps, 1):
        if f"{case}:step {i}" in DEVIATIONS:
            return
        run.step(want, f"step {i}")
    same(seen(run.config), seen(data.config_after), "config_after")
    if data.evaluations is not None:
        same(run.evaluations, data.evaluations, "evaluations", PRECISE[torch.float64])


@over("optim", *METHODS, having="steps")
def test_goes_on_from_a_file(case: Case, data: Table) -> None:
    """After each step x, config and state are saved and loaded; here they are also dicts."""
    run = Run(data)
    for i, want in enumerate(data.steps, 1):
        if f"{case}:step {i}" in DEVIATIONS:
            return
        search, run.config.lineSearch = run.config.lineSearch, None
        run.x, config, state = loads(dumps(Table(run.x, run.config, run.state or Table())))
        config.lineSearch = search
        run.config, run.state = config, None if run.state is None else state
        run.step(want, f"step {i}")


@over("optim", *METHODS, having="steps")
def test_tables_may_be_dicts(case: Case, data: Table) -> None:
    if f"{case}:step 1" in DEVIATIONS:
        return
    run = Run(data)
    config = dict(run.config.items())
    state = None if run.state is None else {}
    x = run.method(run.opfunc, run.x, config, state)[0]
    same(x, data.steps[1].x, "x", PRECISE[x.dtype])
    kept = seen(Table.from_python(config if state is None else state))
    if data.steps[1].state is not None:
        same(kept, seen(data.steps[1].state), "state")


@pytest.mark.cuda
@over("optim", *(METHODS - {"cmaes"}), having="steps")
def test_cuda(case: Case, data: Table) -> None:
    """On the GPU the first step is that of the CPU; cmaes draws other numbers there."""
    if f"{case}:step 1" in DEVIATIONS:
        return
    run = Run(data)

    def opfunc(x: Tensor) -> tuple[float, Tensor]:
        f, g = run.opfunc(x.cpu())
        return f, g.cuda()

    x = run.method(opfunc, run.x.cuda(), run.config, run.state)[0]
    assert x.device.type == "cuda"
    same(x, data.steps[1].x, "x")


# ---- line search and its kin


@over("optim", "lswolfe")
def test_lswolfe(case: Case, data: Table) -> None:
    x = data.x0
    found = optim.lswolfe(problem(data), x, data.t0, data.d, data.f0, data.g0, data.g0.dot(data.d).item(), {})
    got = Table.from_items(zip("fgxt", found[:4], strict=True))
    got.evals = found[4]
    same(got, data.output, "output", PRECISE[torch.float64])
    assert found[2] is x


@over("optim", "polyinterp")
def test_polyinterp(case: Case, data: Table) -> None:
    minimum = optim.polyinterp(data.input, *data.args.unpack(2, 3))
    same(Table(*minimum), data.output, "output", PRECISE[torch.float64])


@over("optim", "checkgrad")
def test_checkgrad(case: Case, data: Table) -> None:
    x = data.input.clone()
    difference, exact, estimate = optim.checkgrad(problem(data), x, *data.args)
    same(exact, data.dC, "dC", PRECISE[torch.float64])
    same(estimate, data.dC_est, "dC_est")
    assert torch.equal(x, data.input)
    assert math.isclose(difference, data.diff, rel_tol=0.5) or max(difference, data.diff) < 1e-9


@over("optim", "fista")
def test_fista(case: Case, data: Table) -> None:
    W, y, weight = data.data.W, data.data.y, data.data["lambda"]

    def f(x: Tensor, mode: str | None = None) -> Any:
        r = W @ x - y
        value = 0.5 * r.dot(r).item()
        return (value, W.T @ r) if mode == "dx" else value

    def shrink(x: Tensor, L: float) -> None:
        x.copy_(x.sign() * (x.abs() - weight / L).clamp(min=0))

    start = torch.ones_like(data.xinit)
    x, history = optim.FistaLS(f, lambda x: weight * x.abs().sum().item(), shrink, start, data.config)
    same(x, data.output, "output", PRECISE[torch.float64])
    same(history, data.history, "history", PRECISE[torch.float64])
    same(start, data.xinit, "xinit", PRECISE[torch.float64])
    same(data.config, data.state, "state")


# ---- ConfusionMatrix and Logger


@over("optim", "ConfusionMatrix")
def test_confusion_matrix(case: Case, data: Table) -> None:
    matrix = optim.ConfusionMatrix(*data.args)
    for i, (action, want) in enumerate(zip(data.actions, data.states, strict=True), 1):
        getattr(matrix, action[1])(*action.unpack(2))
        text = str(matrix)
        fields = {name: getattr(matrix, name) for name, _ in want.items() if name != "tostring"}
        same(Table(**fields, tostring=text), want, f"after action {i}")
    if data.farFrr is not None:
        same(Table(*matrix.farFrr()), data.farFrr, "farFrr")
    same(Table.from_items(vars(matrix).items()), Table.from_items(vars(data.after).items()), "fields")
    assert dumps(data.after) == dumps(loads(dumps(data.after)))


def test_confusion_matrix_of_a_file_goes_on() -> None:
    matrix = optim.ConfusionMatrix(Table("cat", "dog"))
    matrix.batchAdd(torch.tensor([1, 2, 2]), torch.tensor([1, 2, 1]))
    again = loads(dumps(matrix))
    del again._mat_flat  # as in old files
    again.add(1, 2)
    assert again.mat.tolist() == [[1, 1], [1, 1]]
    assert "[class: dog]" in str(again)


def test_confusion_matrix_picture() -> None:
    pytest.importorskip("matplotlib")
    matrix = optim.ConfusionMatrix(["cat", "dog", "cow"])
    matrix.batchAdd(torch.tensor([1, 2, 2, 2]), torch.tensor([1, 2, 1, 2]))
    picture = matrix.render(block=30, legendwidth=100)
    assert picture.shape == (3, 90, 190)
    assert picture[0, 2, 2] == 1  # dog, which was always found, comes first
    assert picture[0, 2, 88] == 0
    assert not torch.equal(matrix.render("occurrence", block=30, legendwidth=100), picture)


@over("optim", "Logger")
def test_logger(case: Case, data: Table, tmp_path: Path) -> None:
    path = tmp_path / "new" / "test.log"
    logger = optim.Logger(path)
    for action in data.actions:
        getattr(logger, action[1])(*action.unpack(2))
    assert path.read_text() == data.text
    names = ("symbols", "styles", "names", "idx", "nsymbols", "logscale", "showPlot")
    same(Table(**{name: getattr(logger, name) for name in names}), Table(**{n: data[n] for n in names}))


def test_logger_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    logger = optim.Logger()
    logger.setNames(["a", "b"]).add([1, "x"])
    assert logger.file.getvalue() == (
        "<Logger> warning: no path provided, logging to std out\na\tb\t\n 1.0000e+00\tx\t\n"
    )


@pytest.mark.parametrize("style", ["+", "-", "+-", ".", "~", "|", ["-", "+"], "with lines"])
def test_logger_plots(tmp_path: Path, style: Any) -> None:
    pytest.importorskip("matplotlib").use("agg")
    logger = optim.Logger(tmp_path / "test.log")
    logger.setNames(["train loss", "test loss", "short"])
    for i in range(1, 4):
        logger.add([1 / i, 2 / i])
    logger.style([style, "-"]).setlogscale(True)
    logger.plot()
    picture = (tmp_path / "test.log.eps").read_text()
    assert picture.startswith("%!PS-Adobe")
    logger.plot("test loss")
    assert (tmp_path / "test.log.eps").read_text() != picture


def test_logger_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    logger = optim.Logger(tmp_path / "test.log")
    for loss in (3, 2, 1):
        logger.add({"loss": loss})
        logger.plot()
    assert capsys.readouterr().out.count("cannot plot without matplotlib") == 1


# ---- with networks


def network() -> tuple[nn.Module, Tensor, Callable[[Tensor], tuple[float, Tensor]]]:
    """A small network, its parameters and the usual opfunc, which returns the same tensor in each call."""
    t7compat.manualSeed(1)
    net, criterion = nn.Sequential().add(nn.Linear(3, 8)).add(nn.Tanh()), nn.MSECriterion()
    net.add(nn.Linear(8, 2))
    x, y = torch.eye(3).double(), torch.tensor([[1, 2], [3, 4], [5, 6]]).double() / 6
    w, dw = net.getParameters()

    def opfunc(point: Tensor) -> tuple[float, Tensor]:
        assert point is w
        dw.zero_()
        loss = criterion.forward(net.forward(x), y)
        net.backward(x, criterion.backward(net.output, y))
        return loss, dw

    return net, w, opfunc


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("sgd", {"learningRate": 0.5, "momentum": 0.9}),
        ("nag", {"learningRate": 0.1}),
        ("adam", {"learningRate": 0.05}),
        ("rprop", {}),
        ("lbfgs", {"maxIter": 3, "lineSearch": optim.lswolfe}),
        ("cg", {"maxIter": 3}),
    ],
)
def test_trains_a_network(method: str, options: dict[str, Any]) -> None:
    net, w, opfunc = network()
    for _ in range(60):
        result, losses, *_ = getattr(optim, method)(opfunc, w, options)
    assert result is w
    assert losses[len(losses)] < 2e-3
    assert net.get(1).weight.data_ptr() == w.data_ptr()


def test_checks_the_gradient_of_a_network() -> None:
    _, w, opfunc = network()
    assert optim.checkgrad(opfunc, w, 1e-6)[0] < 1e-7
    assert optim.checkgrad(lambda x: (opfunc(x)[0], 2 * opfunc(x)[1]), w, 1e-6)[0] > 0.3


def test_opfunc_may_use_autograd() -> None:
    x, seen_modes = torch.ones(3).requires_grad_(), []

    def opfunc(x: Tensor) -> tuple[float, Tensor]:
        seen_modes.append(torch.is_grad_enabled())
        f = x.square().sum()
        return f.item(), torch.autograd.grad(f, x)[0]

    optim.sgd(opfunc, x, {"learningRate": 0.5})
    assert x.tolist() == [0, 0, 0]
    assert seen_modes == [True]
