"""`map_location`: on which device a storage goes when it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from t7compat.tensortypes import TensorType

MapLocation = str | torch.device | Mapping[str, str] | Callable[..., Any] | None
Place = Callable[[torch.Tensor, TensorType], torch.Tensor]


def placing(map_location: MapLocation) -> Place:
    """A function from the 1-D tensor of a storage, on the CPU, to that tensor on its device.

    `map_location` is as in `torch.load`: a device for everything; a dict from location to device; or a
    function of an UntypedStorage and its location that returns a storage, or None to leave the choice.  The
    location is "cuda:0" for CUDA types, else "cpu".  By default tensors go there if the machine has a GPU,
    and else to the CPU.
    """

    cuda = torch.cuda.is_available()

    def location(row: TensorType) -> str:
        return "cuda:0" if row.device == "cuda" else "cpu"

    def home(data: torch.Tensor, row: TensorType) -> torch.Tensor:
        return data.cuda() if cuda and row.device == "cuda" else data

    def by_dict(data: torch.Tensor, row: TensorType) -> torch.Tensor:
        assert isinstance(map_location, Mapping)
        device = map_location.get(location(row))
        return home(data, row) if device is None else data.to(device)

    def by_function(data: torch.Tensor, row: TensorType) -> torch.Tensor:
        assert callable(map_location)
        storage = map_location(data.untyped_storage(), location(row))
        if storage is None:
            return home(data, row)
        return torch.empty(0, dtype=row.dtype, device=storage.device).set_(storage)

    if map_location is None:
        return home
    if isinstance(map_location, str | torch.device):
        return lambda data, row: data.to(map_location)
    return by_dict if isinstance(map_location, Mapping) else by_function
