"""Lua-Torch7 checkpoints and the nn library on today's PyTorch."""

from t7compat import contrib, cudnn, distributed, dpnn, foreign, nn, nngraph, optim, optnet, rnn
from t7compat.errors import InputError, T7Error, T7FormatError
from t7compat.mersenne import manualSeed
from t7compat.registry import register
from t7compat.t7file import dumps, load, load_all, loads, save
from t7compat.t7file.fromtorchfile import from_torchfile
from t7compat.t7file.objects import LongStorage, LuaFunction, Storage, TorchObject
from t7compat.table import Table
from t7compat.tensortypes import setdefaulttensortype

__all__ = [
    "InputError",
    "LongStorage",
    "LuaFunction",
    "Storage",
    "T7Error",
    "T7FormatError",
    "Table",
    "TorchObject",
    "contrib",
    "cudnn",
    "distributed",
    "dpnn",
    "dumps",
    "foreign",
    "from_torchfile",
    "load",
    "load_all",
    "loads",
    "manualSeed",
    "nn",
    "nngraph",
    "optim",
    "optnet",
    "register",
    "rnn",
    "save",
    "setdefaulttensortype",
]
