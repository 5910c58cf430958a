"""Element-Research's rnn: recurrent modules, and sequencers that apply them."""

import sys

from t7compat import nn
from t7compat.rnn import (
    attention,
    bidirectional,
    cells,
    criterions,
    flat,
    fork,
    hidden,
    masking,
    misc,
    nestedtensors,
    recurrences,
    recurrent,
    seq,
    sequencer,
)
from t7compat.rnn.nestedtensors import *  # noqa: F403

vars(nn)["rnn"] = sys.modules[__name__]  # as in Lua, where programs say nn.rnn.recursiveCopy

__all__ = [
    "attention",
    "bidirectional",
    "cells",
    "criterions",
    "flat",
    "fork",
    "hidden",
    "masking",
    "misc",
    "recurrences",
    "recurrent",
    "seq",
    "sequencer",
    *nestedtensors.__all__,
]
