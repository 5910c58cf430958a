"""nngraph: networks as graphs of modules."""

from t7compat.nngraph import graph

__all__ = ["graph"]
