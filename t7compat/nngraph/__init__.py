"""nngraph: networks as graphs of modules."""

from t7compat.nngraph.graph import gModule

__all__ = ["gModule"]
