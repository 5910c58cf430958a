"""Element-Research's rnn: recurrent modules, and sequencers that apply them."""

from t7compat.rnn import cells, masking, misc, recurrences, recurrent, seq, sequencer

__all__ = ["cells", "masking", "misc", "recurrences", "recurrent", "seq", "sequencer"]
