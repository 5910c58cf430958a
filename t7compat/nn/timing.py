"""Printing how long the children of a container take: dpnn's `profile`."""

from __future__ import annotations

import time
from typing import Any

import torch

PRINTED = ("updateOutput", "updateGradInput", "accGradParameters", "accUpdateGradParameters", "backward")


class Timed:
    """A module whose passes print how long they took; in all else it is the module itself."""

    __slots__ = ("_module",)

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        if name not in PRINTED:
            return value

        def timed(*arguments: Any) -> Any:
            start = _now()
            result = value(*arguments)
            print(f"{self._module.__typename__} {name}: {_now() - start:.14g} s")
            return result

        return timed

    def __str__(self) -> str:
        return str(self._module)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
