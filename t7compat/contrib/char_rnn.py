"""karpathy/char-rnn, and the projects that took over its OneHot: neuraltalk2, word-rnn, ..."""

from __future__ import annotations

from typing import Any

import torch

from t7compat.nn import formats
from t7compat.nn.shapes import expect
from t7compat.tensortypes import new_tensor


class OneHot(formats.OneHot, typename="OneHot"):
    """For each index i of 1..outputSize, a row with 1 at place i.  (n) -> (n, outputSize)

    The indices may be a tensor of any type.  There is no gradient: gradInput stays empty.
    """

    ends_gradient = True

    def __init__(self, outputSize: int) -> None:
        super().__init__(outputSize)
        self._eye = torch.eye(outputSize, out=new_tensor())

    def prepare(self, input: Any) -> None:
        expect(input, 1)
