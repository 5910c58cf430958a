"""Many tensors as views of one: the mechanism of `getParameters`."""

from __future__ import annotations

from collections.abc import Iterable

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
            raise InputError(_APART)
    for tensor, place in moves.values():
        tensor.set_(flat.untyped_storage(), place, tensor.shape, tensor.stride())  # type: ignore[call-overload]
    return tag(flat, types.pop())


def stretches(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The memory of some tensors as flat tensors, one for each stretch of it without a gap.

    All that `flatten` has moved into one storage is one stretch.  Storages come in the order in which they
    first appear: one that is the same in another process.
    """
    storages: dict[int, int] = {}
    spans: dict[tuple[int, int, int], Tensor] = {}
    for tensor in tensors:
        if tensor.numel():
            storage = storages.setdefault(tensor.untyped_storage()._cdata, len(storages))
            spans[storage, int(tensor.storage_offset()), _extent(tensor)] = tensor
    found: list[Tensor] = []
    last, begin, end = -1, 0, 0
    for (storage, start, extent), tensor in sorted(spans.items(), key=lambda item: item[0]):
        if extent > tensor.numel():
            raise InputError(_APART)
        if storage == last and start <= end:
            end = max(end, start + extent)
            found[-1] = found[-1].as_strided((end - begin,), (1,))
        else:
            last, begin, end = storage, start, start + extent
            found.append(tensor.as_strided((extent,), (1,)))
    return found


def flat_view(tensors: Iterable[Tensor | None]) -> Tensor | None:
    """The flat tensor that has the memory of some tensors, and nothing else; None if they lie apart."""
    present = [tensor for tensor in tensors if tensor is not None]
    found = stretches(present)
    return tag(found[0], type_of(present[0])) if len(found) == 1 else None


_APART = "cannot gather tensors that are not compact: their elements are apart in memory"


def _place(tensor: Tensor, starts: dict[int, int]) -> int:
    return starts[tensor.untyped_storage()._cdata] + int(tensor.storage_offset())


def _extent(tensor: Tensor) -> int:
    """The number of elements from the first to the last one of a tensor in memory."""
    return 1 + sum(
        (int(n) - 1) * int(stride) for n, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
