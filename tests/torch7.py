"""Small programs that were run in Torch7 too: the tensors they start from, and what Torch7 printed."""

from __future__ import annotations

import math
import re
from typing import Any

import torch

from t7compat import Table
from t7compat.table import leaves


def wave(*size: int) -> torch.Tensor:
    """`torch.range(1, n):mul(0.7):sin():resize(size)`: numbers that need no random generator."""
    return torch.arange(1, math.prod(size) + 1, dtype=torch.float64).mul(0.7).sin().reshape(size)


def gives(value: Any, printed: str) -> None:
    """Raise AssertionError unless a nested value has the numbers that Torch7 printed, to six digits."""
    found = [tensor.double().reshape(-1) for tensor in leaves(value)]
    wanted = torch.tensor([float(number) for number in printed.split()], dtype=torch.float64)
    torch.testing.assert_close(torch.cat(found), wanted, rtol=1e-5, atol=1e-6)


def given(text: str) -> Any:
    """A value written as "2x3", "f2x3" (float), "i2:1/3" (long, these values), "{2x3;3}", "nil", "number"."""
    if text in ("nil", "number"):
        return {"nil": None, "number": 5}[text]
    if text.startswith("{"):
        parts = re.findall(r"(?:\{[^}]*\}|[^;{}])+", text[1:-1])
        return Table(*[given(part) for part in parts])
    kind, size, values = re.fullmatch(r"([fib]?)([\dx]+)(?::(.*))?", text).groups()
    shape = [int(n) for n in size.split("x")]
    tensor = wave(*shape)
    if values:
        tensor = torch.tensor([float(v) for v in values.split("/")], dtype=torch.float64).reshape(shape)
    return tensor.to({"": torch.float64, "f": torch.float32, "i": torch.int64, "b": torch.uint8}[kind])


def size_text(value: Any) -> str:
    """The size of a tensor, or those in a table, written as in `given`."""
    if isinstance(value, Table):
        return "{" + ";".join(map(size_text, value)) + "}"
    return "x".join(map(str, value.shape))


def tensor(*values: Any) -> torch.Tensor:
    """Numbers as a torch.DoubleTensor."""
    return torch.tensor(values, dtype=torch.float64)
