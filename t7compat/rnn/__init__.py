"""Element-Research's rnn: recurrent modules, and sequencers that apply them."""

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
    recurrences,
    recurrent,
    seq,
    sequencer,
)

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
]
