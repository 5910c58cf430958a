"""Methods that make one step, or a few, from the gradient: sgd and its relatives.

All are called as `x, fs = optim.sgd(opfunc, x, config, state)`.  `opfunc(x)` returns f(x) and df/dx; x
moves in place; fs has the value at x before the step.  `config` has options, `state` what a method keeps from
call to call, by default beside the options.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from t7compat.errors import InputError
from t7compat.optim.settings import Settings, optimiser
from t7compat.table import Table

Evaluate = Callable[[Tensor], tuple[Any, Tensor]]


def decay(gradient: Tensor, x: Tensor, config: Settings) -> None:
    """Add weightDecay * x to the gradient: to the caller's own tensor, as in Lua."""
    weight = config.number("weightDecay", 0)
    if weight != 0:
        gradient.add_(x, alpha=weight)


def annealed(rate: Any, config: Settings, steps: int) -> Any:
    """The learning rate after so many steps."""
    return rate / (1 + steps * config.number("learningRateDecay", 0))


def average(mean: Tensor, keep: Any, value: Tensor, weight: Any) -> Tensor:
    """mean = keep * mean + weight * value, in one pass over the memory where that is possible."""
    if keep + weight == 1:
        return mean.lerp_(value, weight)
    if weight == 1:
        return torch.add(value, mean, alpha=keep, out=mean)
    return mean.mul_(keep).add_(value, alpha=weight)


@optimiser()
def sgd(opfunc: Evaluate, x: Tensor, config: Settings, state: Settings) -> tuple[Tensor, Table]:
    """Stochastic gradient descent: x -= rate * g, with momentum b = momentum * b + (1 - dampening) * g.

    config: learningRate (1e-3), learningRateDecay (0), weightDecay (0), momentum (0), dampening (momentum),
    nesterov (false), and vectors with a number for each parameter: learningRates, weightDecays.
    state: evalCounter, dfdx (b, which starts as the first gradient).
    """
    rate, momentum = config.number("learningRate", 1e-3), config.number("momentum", 0)
    dampening = config.number("dampening", momentum)
    nesterov = config["nesterov"] is not None
    if nesterov and not (momentum > 0 and dampening == 0):
        raise InputError("sgd: Nesterov momentum requires a momentum and zero dampening")
    rates, decays = config.vector("learningRates", x), config.vector("weightDecays", x)
    steps = state.whole("evalCounter", 0)
    fx, dfdx = opfunc(x)
    if decays is not None and config.number("weightDecay", 0) == 0:
        dfdx.add_(torch.mul(decays, x, out=state.buffer("decayParameters", dfdx)))
    decay(dfdx, x, config)
    if momentum != 0:
        velocity = state.tensor("dfdx", dfdx)
        if velocity is None:
            velocity = state["dfdx"] = dfdx.clone()
        else:
            average(velocity, momentum, dfdx, 1 - dampening)
        dfdx = dfdx.add_(velocity, alpha=momentum) if nesterov else velocity
    if rates is not None:
        dfdx = torch.mul(rates, dfdx, out=state.buffer("deltaParameters", dfdx))
    x.add_(dfdx, alpha=-annealed(rate, config, steps))
    state["evalCounter"] = steps + 1
    return x, Table(fx)


@optimiser()
def nag(opfunc: Evaluate, x: Tensor, config: Settings, state: Settings) -> tuple[Tensor, Table]:
    """Nesterov's accelerated gradient: as `sgd`, but the gradient is taken where the momentum leads to.

    config: learningRate (1e-3), learningRateDecay (0), weightDecay (0), momentum (0.9), learningRates.
    state: evalCounter, dfdx (the last move).  Sutskever et al., ICML 2013
    """
    rate, momentum = config.number("learningRate", 1e-3), config.number("momentum", 0.9)
    if not momentum > 0:
        raise InputError("nag: momentum must be positive for Nesterov's accelerated gradient")
    rates, move = config.vector("learningRates", x), state.tensor("dfdx", x)
    steps = state.whole("evalCounter", 0)
    if move is not None:
        x.add_(move, alpha=momentum)
    fx, dfdx = opfunc(x)
    decay(dfdx, x, config)
    if rates is not None:
        dfdx = torch.mul(rates, dfdx, out=state.buffer("deltaParameters", dfdx))
    rate = annealed(rate, config, steps)
    x.add_(dfdx, alpha=-rate)
    average(state.buffer("dfdx", dfdx), momentum, dfdx, -rate)
    state["evalCounter"] = steps + 1
    return x, Table(fx)


@optimiser()
def asgd(opfunc: Evaluate, x: Tensor, config: Settings, state: Settings) -> tuple[Tensor, Table, Tensor]:
    """Averaged stochastic gradient descent.  Returns x, the value, and the average of x.

    config: eta0 (1e-4), lambda (1e-4), alpha (0.75), t0 (1e6): the defaults are written into it.
    state: eta_t, mu_t, t, ax (the average).  Bottou's sgd-2.0
    """
    for name, default in (("eta0", 1e-4), ("lambda", 1e-4), ("alpha", 0.75), ("t0", 1e6)):
        config[name] = config.number(name, default)
    eta0, decay_term, power = (config.number(name) for name in ("eta0", "lambda", "alpha"))
    rate, share, steps = state.number("eta_t", eta0), state.number("mu_t", 1), state.whole("t", 0)
    fx, dfdx = opfunc(x)
    x.mul_(1 - decay_term * rate).add_(dfdx, alpha=-rate)
    mean, difference = state.buffer("ax", x), state.buffer("tmp", x)
    if share == 1:
        mean.copy_(x)
    else:
        mean.add_(torch.sub(x, mean, out=difference).mul_(share))
    steps += 1
    state["t"], state["eta_t"] = steps, eta0 / (1 + decay_term * eta0 * steps) ** power
    state["mu_t"] = 1 / max(1, steps - config.number("t0"))
    return x, Table(fx), mean


@optimiser()
def adam(opfunc: Evaluate, x: Tensor, config: Settings, state: Settings) -> tuple[Tensor, Table]:
    """Adam.  config: learningRate (1e-3), learningRateDecay (0), beta1 (0.9), beta2 (0.999),
    epsilon (1e-8, added to the root before the correction of its bias), weightDecay (0).

    state: t, m, v (means of g and g^2), denom.  https://arxiv.org/abs/1412.6980
    """
    beta1, beta2 = config.number("beta1", 0.9), config.number("beta2", 0.999)
    epsilon = config.number("epsilon", 1e-8)
    rate, steps = config.number("learningRate", 1e-3), state.whole("t", 0)
    fx, dfdx = opfunc(x)
    decay(dfdx, x, config)
    mean, square, root = (state.buffer(name, dfdx) for name in ("m", "v", "denom"))
    rate = annealed(rate, config, steps)
    state["t"] = steps = steps + 1
    average(mean, beta1, dfdx, 1 - beta1)
    square.mul_(beta2).addcmul_(dfdx, dfdx, value=1 - beta2)
    torch.sqrt(square, out=root).add_(epsilon)
    x.addcdiv_(mean, root, value=-rate * (1 - beta2**steps) ** 0.5 / (1 - beta1**steps))
    return x, Table(fx)


@optimiser()
def adamax(opfunc: Evaluate, x: Tensor, config: Settings, state: Settings) -> tuple[Tensor, Table]:
    """Adam with the infinity norm.

    config: learningRate (2e-3), beta1 (0.9), beta2 (0.999), epsilon (1e-38), weightDecay (0).
    state: t, m, u (1 x n), max (2 x n: what u is the greater of).  https://arxiv.org/abs/1412.6980
    """
    beta1, beta2 = config.number("beta1", 0.9), config.number("beta2", 0.999)
    epsilon, rate = config.number("epsilon", 1e-38), config.number("learningRate", 2e-3)
    steps = state.whole("t", 0) + 1
    fx, dfdx = opfunc(x)
    decay(dfdx, x, config)
    mean = state.buffer("m", dfdx)
    norm = state["u"] = state.buffer("u", dfdx).view(1, *dfdx.shape)  # as Torch7's max over the rows makes it
    candidates = state.buffer("max", dfdx.expand(2, *dfdx.shape))
    state["t"] = steps
    average(mean, beta1, dfdx, 1 - beta1)
    torch.mul(norm[0], beta2, out=candidates[0])
    torch.abs(dfdx, out=candidates[1]).add_(epsilon)
    torch.maximum(candidates[0], candidates[1], out=norm[0])
    x.addcdiv_(mean, norm[0], value=-rate / (1 - beta1**steps))
    return x, Table(fx)


@optimiser("no state table, ADAGRAD initializing")
def adagrad(opfunc: Evaluate, x: Tensor, config: Settings, state: Settings) -> tuple[Tensor, Table]:
    """Each parameter with a rate that falls with the sum of its squared gradients.

    config: learningRate (1e-3), learningRateDecay (0), weightDecay (0).
    state: evalCounter, paramVariance (the sum), paramStd.
    """
    rate, steps = config.number("learningRate", 1e-3), state.whole("evalCounter", 0)
    fx, dfdx = opfunc(x)
    decay(dfdx, x, config)
    variance, deviation = state.buffer("paramVariance", dfdx), state.buffer("paramStd", dfdx)
    variance.addcmul_(dfdx, dfdx)
    torch.sqrt(variance, out=deviation).add_(1e-10)
    x.addcdiv_(dfdx, deviation, value=-annealed(rate, config, steps))
    state["evalCounter"] = steps + 1
    return x, Table(fx)


@optimiser("no state table, ADADELTA initializing")
def adadelta(opfunc: Evaluate, x: Tensor, config: Settings, state: Settings) -> tuple[Tensor, Table]:
    """Steps as large as the last ones were, times the gradient by its own size: needs no learning rate.

    config: rho (0.9), eps (1e-6), weightDecay (0).
    state: evalCounter, paramVariance, paramStd, delta, accDelta.  https://arxiv.org/abs/1212.5701
    """
    rho, eps = config.number("rho", 0.9), config.number("eps", 1e-6)
    steps = state.whole("evalCounter", 0)
    fx, dfdx = opfunc(x)
    decay(dfdx, x, config)
    names = ("paramVariance", "paramStd", "delta", "accDelta")
    variance, deviation, move, moves = (state.buffer(name, dfdx) for name in names)
    variance.mul_(rho).addcmul_(dfdx, dfdx, value=1 - rho)
    torch.add(variance, eps, out=deviation).sqrt_()
    torch.add(moves, eps, out=move).sqrt_().div_(deviation).mul_(dfdx)
    x.sub_(move)
    moves.mul_(rho).addcmul_(move, move, value=1 - rho)
    state["evalCounter"] = steps + 1
    return x, Table(fx)


@optimiser()
def rmsprop(opfunc: Evaluate, x: Tensor, config: Settings, state: Settings) -> tuple[Tensor, Table]:
    """The gradient divided by the root of the mean of its squares.

    config: learningRate (1e-2), alpha (0.99), epsilon (1e-8), weightDecay (0), initialMean (0).
    state: m (the mean), tmp.
    """
    alpha, epsilon = config.number("alpha", 0.99), config.number("epsilon", 1e-8)
    rate, start = config.number("learningRate", 1e-2), config.number("initialMean", 0)
    fx, dfdx = opfunc(x)
    decay(dfdx, x, config)
    square, root = state.buffer("m", dfdx, start), state.buffer("tmp", dfdx)
    square.mul_(alpha).addcmul_(dfdx, dfdx, value=1 - alpha)
    torch.sqrt(square, out=root).add_(epsilon)
    x.addcdiv_(dfdx, root, value=-rate)
    return x, Table(fx)


@optimiser("no state table RPROP initializing")
def rprop(opfunc: Evaluate, x: Tensor, config: Settings, state: Settings) -> tuple[Tensor, Table]:
    """Steps of a size of its own for each parameter, which grows while the sign of its gradient stays.

    Where the sign changes, the gradient (the caller's tensor) is set to zero.
    config: stepsize (0.1), etaplus (1.2), etaminus (0.5), stepsizemax (50), stepsizemin (1e-6), niter (1).
    state: delta (the last gradient), stepsize (a tensor), sign, psign, nsign, zsign, dminmax.
    """
    grow, shrink = config.number("etaplus", 1.2), config.number("etaminus", 0.5)
    greatest, least = config.number("stepsizemax", 50), config.number("stepsizemin", 1e-6)
    # with one table for both, this is an option at first and then the tensor
    start = config.number("stepsize", 0.1) if state["delta"] is None else 0
    values = Table()
    for _ in range(config.whole("niter", 1)):
        fx, dfdx = opfunc(x)
        if state["delta"] is None:
            state["stepsize"] = torch.full_like(dfdx, start)
        last, size, sign = (state.buffer(name, dfdx) for name in ("delta", "stepsize", "sign"))
        torch.mul(dfdx, last, out=sign)
        rises, falls = sign > 0, sign < 0
        size.copy_(torch.where(rises, size * grow, torch.where(falls, size * shrink, size)))
        size.masked_fill_(size > greatest, greatest)
        is_small = size < least
        size.masked_fill_(is_small, least)
        dfdx.masked_fill_(falls, 0)
        torch.sign(dfdx, out=sign)
        x.addcmul_(sign, size, value=-1)
        last.copy_(dfdx)
        masks = {"psign": rises, "nsign": falls, "zsign": ~(rises | falls), "dminmax": is_small}
        for name, mask in masks.items():
            state[name] = mask.byte()
        values.insert(fx)
    return x, values
