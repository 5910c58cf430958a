"""Torch7 checkpoints as PyTorch models: readable source, weights, and the proof that they are equal."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converters.back import Setting, counterpart, from_native
    from converters.objects import convert
    from converters.report import NetworkReport, Report, Verification
    from converters.text import Unconvertible
    from converters.trial import to_native

__all__ = [
    "NetworkReport",
    "Report",
    "Setting",
    "Unconvertible",
    "Verification",
    "convert",
    "counterpart",
    "from_native",
    "to_native",
]

# They need PyTorch, for which the help and the completion of t7convert should not wait
_HOMES = {
    "NetworkReport": "report",
    "Report": "report",
    "Setting": "back",
    "Unconvertible": "text",
    "Verification": "report",
    "convert": "objects",
    "counterpart": "back",
    "from_native": "back",
    "to_native": "trial",
}


def __getattr__(name: str) -> Any:
    """Import what the package offers when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
