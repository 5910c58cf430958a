"""What `--to` can be, and how the files end: known without PyTorch, which `formats` needs for the rest."""

from __future__ import annotations

SUFFIXES = {
    "py": ".py",
    "state-dict": ".pt",
    "safetensors": ".safetensors",
    "npz": ".npz",
    "json": ".json",
    "onnx": ".onnx",
    "pt2": ".pt2",
    "t7": ".clean.t7",
    "t7-ascii": ".ascii.t7",
}
