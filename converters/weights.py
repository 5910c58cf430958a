"""Writing .safetensors files.

The package safetensors is not used for it: it refuses tensors that share memory, as those of a flattened
network do, and holds everything in memory once more.  Here each tensor goes from where it lies to the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch


def write_safetensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors of any layout and of Torch's types to a new file."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _code(tensor.dtype),
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.detach().cpu().contiguous().numpy().data)


def _code(dtype: torch.dtype) -> str:
    kind = "F" if dtype.is_floating_point else "I" if dtype.is_signed else "U"
    return f"{kind}{dtype.itemsize * 8}"
