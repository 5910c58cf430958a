"""Many tensors as views of one: the mechanism of `getParameters`."""

from __future__ import annotations

import torch

from t7compat.errors import InputError
from t7compat.tensortypes import new_tensor, tag, type_of, whole_storage

Tensor = torch.Tensor


def flatten(tensors: list[Tensor], followers: list[Tensor]) -> Tensor:
    """Move `tensors` into one storage, where they become views of the flat tensor that is returned.

    Storages are laid out in the order in which they first appear, so that tensors that share memory go on
    sharing it and count once; elements that no tensor uses are left out.  `followers` that lie in the same
    memory move along.
    """
    if not tensors:
        return new_tensor()
    types = {type_of(tensor) for tensor in tensors}
    if len(types) > 1:
        raise InputError(
            f"cannot flatten tensors of different types: {', '.join(sorted(t.tensor for t in types))}"
        )
    starts: dict[int, int] = {}  # where each storage begins in the flat tensor
    parts: list[Tensor] = []
    end = 0
    for tensor in tensors:
        key = tensor.untyped_storage()._cdata
        if key not in starts:
            parts.append(whole_storage(tensor))
            starts[key], end = end, end + parts[-1].numel()
    flat = torch.cat(parts)

    used = torch.zeros_like(flat, dtype=torch.bool)
    for tensor in tensors:
        used.as_strided(tensor.shape, tensor.stride(), _place(tensor, starts)).fill_(True)
    rank = used.cumsum(0) - 1
    flat = flat if used.all() else flat[used]

    wanted = {id(tensor) for tensor in tensors}
    moves: dict[int, tuple[Tensor, int]] = {}
    for tensor in (*tensors, *(t for t in followers if t.untyped_storage()._cdata in starts)):
        place = _place(tensor, starts)
        if used[place : place + _extent(tensor)].all():
            moves[id(tensor)] = tensor, int(rank[place])
        elif id(tensor) in wanted:
            raise InputError("cannot gather tensors that are not compact: their elements are apart in memory")
    for tensor, place in moves.values():
        tensor.set_(flat.untyped_storage(), place, tensor.shape, tensor.stride())  # type: ignore[call-overload]
    return tag(flat, types.pop())


def _place(tensor: Tensor, starts: dict[int, int]) -> int:
    return starts[tensor.untyped_storage()._cdata] + int(tensor.storage_offset())


def _extent(tensor: Tensor) -> int:
    """The number of elements from the first to the last one of a tensor in memory."""
    return 1 + sum(
        (int(n) - 1) * int(stride) for n, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
