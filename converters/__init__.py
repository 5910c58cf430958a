"""Torch7 checkpoints as PyTorch models: readable source, weights, and the proof that they are equal."""

from converters import contrib, graphs, recurrent, rules, steps
from converters.back import Setting, counterpart, from_native
from converters.native import to_native
from converters.objects import convert
from converters.report import NetworkReport, Report, Verification
from converters.text import Unconvertible

__all__ = [
    "NetworkReport",
    "Report",
    "Setting",
    "Unconvertible",
    "Verification",
    "contrib",
    "convert",
    "counterpart",
    "from_native",
    "graphs",
    "recurrent",
    "rules",
    "steps",
    "to_native",
]
