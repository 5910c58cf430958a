"""The golden data written by the real Torch7: where it is, and the one comparison."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from t7compat import Storage, Table, TorchObject, dumps, load, loads, nn
from t7compat.nested import entries, path_step, type_name, walk

GOLDEN = Path(os.environ.get("T7COMPAT_GOLDEN", Path(__file__).parents[1] / "fixtures" / "golden"))

if not any(GOLDEN.glob("*/*.t7")):
    raise pytest.UsageError(f"no golden data in {GOLDEN}")

TOLERANCES = {torch.float64: 1e-7, torch.float32: 1e-4, torch.float16: 1e-2}


@dataclass(frozen=True)
class Case:
    """One entry of a golden file."""

    area: str
    stem: str
    name: str
    position: int

    def __str__(self) -> str:
        return f"{self.area}/{self.stem}/{self.name}"

    @property
    def content(self) -> Table:
        """The case as all tests have it: to choose by, not to change."""
        return _file(GOLDEN / self.area / f"{self.stem}.t7")[self.position]

    def load(self) -> Table:
        """The case, fresh: what a test does to it is seen by no other."""
        return loads(_saved(self))


@functools.cache
def _file(path: Path) -> Any:
    return load(path)


@functools.cache
def _saved(case: Case) -> bytes:
    """The case alone, as a file: quicker to load than all cases of its class."""
    return dumps(case.content)


@functools.cache
def cases(area: str) -> tuple[Case, ...]:
    """All cases of an area: files that hold a list of tables with a name."""
    return tuple(
        Case(area, path.stem, str(case.name or position), position)
        for path in sorted((GOLDEN / area).glob("*.t7"))
        if isinstance(_file(path), Table)
        for position, case in enumerate(_file(path), 1)
        if isinstance(case, Table)
    )


def one_pass(case: Table) -> bool:
    """Whether it is a module's forward and its backward: no rounds, calls of other methods, or training."""
    others = (case.criterion, case.rounds, case.actions)
    return case.module is not None and case.output is not None and others == (None,) * 3


def unknown_classes(value: Any) -> list[str]:
    """The Torch classes in a nested value that t7compat does not have."""
    return sorted({type_name(found) for found, _ in walk(value) if isinstance(found, TorchObject)})


def same(
    got: Any, want: Any, where: str = "value", tolerances: Mapping[torch.dtype, float] = TOLERANCES
) -> None:
    """Raise AssertionError unless `got` is what Torch7 has: types, shapes, structure and numbers.

    `tolerances` are relative to the numbers and, a tenth of them, to the greatest number of a tensor.
    """
    if isinstance(want, torch.Tensor):
        assert isinstance(got, torch.Tensor), f"{where}: {type_name(got)}, Torch7 has a tensor"
        assert got.dtype == want.dtype, f"{where}: {got.dtype}, Torch7 has {want.dtype}"
        assert got.numel() == want.numel() == 0 or got.shape == want.shape, (
            f"{where}: size {got.shape}, not {want.shape}"
        )
        got = got.detach().cpu()
        if not want.is_floating_point():
            assert torch.equal(got, want), f"{where}: values differ"
            return
        tolerance = tolerances[want.dtype]
        scale = want[want.isfinite()].abs().max().item() if want.isfinite().any() else 0.0
        torch.testing.assert_close(
            got, want, rtol=tolerance, atol=tolerance * 1e-2 + tolerance * 1e-1 * scale, equal_nan=True,
            msg=lambda text: f"{where}: {text}",
        )  # fmt: skip
    elif (content := entries(want)) is not None:
        assert type_name(got) == type_name(want), f"{where}: {type_name(got)}, Torch7 has a {type_name(want)}"
        found = entries(got) or {}
        for key, value in content.items():
            same(found.get(key), value, f"{where}{path_step(key)}", tolerances)
        assert found.keys() == content.keys(), f"{where}: {list(found)}, Torch7 has {list(content)}"
    elif isinstance(want, Storage):
        assert (type_name(got), list(got)) == (type_name(want), list(want)), f"{where}: {got}, not {want}"
    elif isinstance(want, int | float) and not isinstance(want, bool):
        assert isinstance(got, int | float), f"{where}: {type_name(got)}, Torch7 has the number {want}"
        tolerance = 10 * tolerances[torch.float64]
        torch.testing.assert_close(
            float(got), float(want), rtol=tolerance, atol=tolerance * 1e-2, equal_nan=True,
            msg=f"{where}: {got}, not {want}",
        )  # fmt: skip
    else:
        assert got == want, f"{where}: {got!r}, Torch7 has {want!r}"


def over(area: str, *stems: str, having: str = "name") -> pytest.MarkDecorator:
    """Run a test once for each case of these files that has an entry of this name."""
    chosen = [c for c in cases(area) if c.stem in stems and c.content[having] is not None]
    return pytest.mark.parametrize("case", chosen, ids=str)


def parameters(module: nn.Module) -> Table:
    return (module.parameters() or (Table(), Table()))[0]


def gradients(module: nn.Module) -> Table:
    return (module.parameters() or (Table(), Table()))[1]


def layout(tensors: Iterable[torch.Tensor]) -> Table:
    """Where tensors lie in their storages, counted as in Torch7."""
    places = [
        {
            "offset": tensor.storage_offset() + 1,
            "size": list(tensor.shape),
            "stride": list(tensor.stride()),
            "storage_size": tensor.untyped_storage().nbytes() // tensor.element_size(),
        }
        for tensor in tensors
    ]
    return Table.from_python(places)
