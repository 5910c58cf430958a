"""Element-Research's dpnn: REINFORCE, noise contrastive estimation, Inception, layers for images.

What the package adds to every module is in t7compat.nn: descent.py, serializing.py and stepping.py there.
"""

from t7compat.dpnn import augmentation, inception, misc, nce, reinforce, rewards, vision

__all__ = ["augmentation", "inception", "misc", "nce", "reinforce", "rewards", "vision"]
