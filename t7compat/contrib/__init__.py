"""Classes that well-known Torch projects defined beside nn, one file for each project.

Their checkpoints load into them as those of nn do.
"""

from t7compat.contrib import char_rnn, fast_neural_style, opennmt, perceptual, torch_rnn

__all__ = ["char_rnn", "fast_neural_style", "opennmt", "perceptual", "torch_rnn"]
