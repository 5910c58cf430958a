"""What all layers with a window that moves over the input have in common."""

from __future__ import annotations

from t7compat.nn.module import Module
from t7compat.nn.shapes import window


class Sliding(Module, typename=""):
    """The base of layers with a window.

    Along the axis W the window has the size kW, moves by dW, and starts padW before the input; likewise H, T.
    """

    axes = ""  # in the order of the dimensions
    padT = padW = padH = 0
    dilationT = dilationW = dilationH = 1

    @property
    def kernel(self) -> tuple[int, ...]:
        """The size of the window, in the order of the dimensions, like the following."""
        return window(self, "k")

    @property
    def strides(self) -> tuple[int, ...]:
        return window(self, "d")

    @property
    def paddings(self) -> tuple[int, ...]:
        return window(self, "pad")

    @property
    def dilations(self) -> tuple[int, ...]:
        return window(self, "dilation")
