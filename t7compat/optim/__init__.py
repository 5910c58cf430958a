"""Lua Torch's optim: minimisers of a function of a flat tensor, and what watches them.

`x, fs = optim.sgd(opfunc, x, config, state)`: opfunc(x) returns f(x) and df/dx; x is changed in place and
returned, with a table of values.  config and state are tables with Lua's names (a Table, a dict or None),
and options that a method does not know are ignored; a state that Torch7 saved goes on where it was.  Some
methods return more, as in Lua: asgd the average of x, cg, lbfgs and cmaes the number of evaluations.
"""

from t7compat.optim.conjugate import cg
from t7compat.optim.evolution import cmaes, de
from t7compat.optim.first_order import adadelta, adagrad, adam, adamax, asgd, nag, rmsprop, rprop, sgd
from t7compat.optim.line_search import lswolfe, polyinterp
from t7compat.optim.monitor import ConfusionMatrix, Logger, checkgrad
from t7compat.optim.proximal import FistaLS
from t7compat.optim.quasi_newton import lbfgs

__all__ = [
    "ConfusionMatrix",
    "FistaLS",
    "Logger",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "asgd",
    "cg",
    "checkgrad",
    "cmaes",
    "de",
    "lbfgs",
    "lswolfe",
    "nag",
    "polyinterp",
    "rmsprop",
    "rprop",
    "sgd",
]
