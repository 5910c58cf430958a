"""Table: Lua's table in Python."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from t7compat import InputError, LongStorage, Table, nn
from t7compat.nested import walk
from t7compat.table import leaves, map_leaves, to_tuples

keys = st.one_of(
    st.integers(-3, 6), st.sampled_from(["x", "y", "1"]), st.booleans(), st.sampled_from([0.5, 2.0])
)
values = st.one_of(st.none(), st.integers(), st.text(max_size=3))


class Model:
    """The entries of a Lua table, kept in the plainest way: a list of pairs."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Any, Any]] = []

    def set(self, key: Any, value: Any) -> None:
        same = [
            i
            for i, (k, _) in enumerate(self.pairs)
            if isinstance(k, bool) == isinstance(key, bool) and k == key
        ]
        if same and value is not None:
            self.pairs[same[0]] = (self.pairs[same[0]][0], value)
        elif same:
            del self.pairs[same[0]]
        elif value is not None:
            self.pairs.append((key, value))


@given(st.lists(st.tuples(keys, values)))
def test_is_lua_s_table(assignments: list[tuple[Any, Any]]) -> None:
    table, model = Table(), Model()
    for key, value in assignments:
        table[key] = value
        model.set(key, value)
        border = len(table)
        assert border == 0 or table[border] is not None
        assert table[border + 1] is None
    assert list(table.items()) == model.pairs
    assert [type(key) is bool for key, _ in table.items()] == [type(key) is bool for key, _ in model.pairs]
    assert list(table) == [table[i] for i in range(1, len(table) + 1)]
    for key, value in model.pairs:
        assert table[key] == value
        assert key in table


def test_keys() -> None:
    table = Table("first")
    assert table[1] == table[1.0] == "first"
    table[True], table["1"], table[2.0] = "truth", "text", "second"
    assert list(table.keys()) == [1, True, "1", 2]
    assert len(table) == 2
    assert (table[True], table["1"], table[False], table[3]) == ("truth", "text", None, None)


def test_objects_are_keys_by_identity() -> None:
    one, other, tensor = Table(1), Table(1), torch.ones(2)
    table = Table.from_items([(one, "one"), (tensor, "tensor")])
    assert (table[one], table[other], table[tensor], table[tensor.clone()]) == ("one", None, "tensor", None)
    assert one != other


@pytest.mark.parametrize("key", [None, float("nan")])
def test_impossible_keys(key: Any) -> None:
    with pytest.raises(InputError, match="cannot be a table key"):
        Table()[key] = 1
    with pytest.raises(InputError, match="cannot be a table key"):
        Table()[key]


def test_named_entries() -> None:
    table = Table(3, weight=5)
    table.bias = 7
    assert (table.weight, table["bias"], table.nothing, table._private) == (5, 7, None, None)
    del table.weight
    assert table.weight is None
    assert "weight" not in table
    table.insert, table["keys"] = 1, 2
    assert (table["insert"], table["keys"]) == (1, 2)
    assert callable(table.insert)


def test_python_protocols_are_not_entries() -> None:
    """A table that answers None to `__array_struct__` breaks numpy."""
    with pytest.raises(AttributeError):
        Table().__array_struct__  # noqa: B018
    assert not hasattr(Table(a=1), "__len_hint__")


def test_length_with_holes() -> None:
    table = Table(1, None, 3)
    assert len(table) == 3  # as in Lua: the constructor counts its values
    table[3] = None
    assert len(table) == 1
    table[2], table[3] = 2, 3
    assert list(table) == [1, 2, 3]
    assert len(Table(a=1)) == 0
    assert Table(a=1)
    assert not Table()


def test_a_list_has_no_holes_and_no_names() -> None:
    assert Table(1, 2).is_list()
    assert Table(1, None, 3, x=5).to_python() == {1: 1, 3: 3, "x": 5}
    table = Table(1, 2, 3)
    table[2] = None
    assert not table.is_list()


def test_insert_and_remove() -> None:
    table = Table("b", "c")
    table.insert("d")
    table.insert(1, "a")
    assert list(table) == ["a", "b", "c", "d"]
    assert (table.remove(), table.remove(1), table.remove(7), list(table)) == ("d", "a", None, ["b", "c"])
    assert Table().remove() is None
    with pytest.raises(InputError, match="wrong number of arguments"):
        table.insert()


def test_concat_sort_unpack() -> None:
    table = Table(3, 1.5, "x", 1e15)
    assert table.concat(", ") == "3, 1.5, x, 1e+15"
    assert table.concat("-", 2, 3) == "1.5-x"
    with pytest.raises(InputError, match=r"invalid value \(boolean\) at index 2"):
        Table(1, True).concat()
    numbers = Table(2, 3, 1)
    numbers.sort()
    assert list(numbers) == [1, 2, 3]
    numbers.sort(lambda a, b: a > b)
    assert numbers.unpack() == (3, 2, 1)
    assert Table(1, 2).unpack(2, 4) == (2, None, None)


nested = st.recursive(
    st.one_of(st.integers(), st.text(max_size=3), st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=2), inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(nested, max_size=4))
def test_to_and_from_python(value: list[Any]) -> None:
    table = Table.from_python(value)
    assert table.to_python() == value
    assert Table.from_python(table.to_python()).to_python() == value
    assert pickle.loads(pickle.dumps(table)).to_python() == value
    assert copy.copy(table).to_python() == value


def test_cycles_and_depth() -> None:
    table = Table(name="self")
    table.me, table.twins = table, Table(table, table)
    twin = copy.deepcopy(table)
    assert twin is not table
    assert twin.me is twin
    assert twin.twins[1] is twin.twins[2] is twin
    python = table.to_python()
    assert python["me"] is python
    assert repr(table) == "Table(name='self', me=Table(...), twins=Table(Table(...), Table(...)))"
    deep = Table()
    for _ in range(100_000):
        deep = Table(deep)
    assert sum(1 for _ in walk(copy.deepcopy(deep))) == 100_001
    assert sum(1 for _ in walk(Table.from_python(deep.to_python()))) == 100_001


def test_deep_copy_keeps_shared_storages_shared() -> None:
    base = torch.arange(6.0)
    layer = nn.Linear(2, 2)
    table = Table(base, base[2:4], Table(base.view(2, 3)), layer=layer, again=layer)
    twin = copy.deepcopy(table)
    twin[1].fill_(7)
    assert twin[2].tolist() == [7, 7]
    assert twin[3][1].tolist() == [[7] * 3] * 2
    assert base.tolist() == [0, 1, 2, 3, 4, 5]
    assert twin.layer is twin.again
    assert twin.layer is not layer
    assert twin.layer.weight.data_ptr() != layer.weight.data_ptr()


def test_prints_as_th() -> None:
    """The text of `print(t)` in th, Torch's interpreter."""
    inner = Table(1, Table(2, Table(3, Table(4, Table(5)))))
    table = Table(
        9, "two", x=0.1, s=LongStorage([3, 4]), t=torch.zeros(2, 3), e=torch.zeros(0), b=inner, a=Table()
    )
    table[True] = 1e15
    assert str(table).splitlines() == [
        "{",
        "  1 : 9",
        '  2 : "two"',
        "  x : 0.1",
        "  s : LongStorage - size: 2",
        "  t : FloatTensor - size: 2x3",
        "  e : FloatTensor - empty",
        "  b : ",
        "    {",
        "      1 : 1",
        "      2 : ",
        "        {",
        "          1 : 2",
        "          2 : ",
        "            {",
        "              1 : 3",
        "              2 : ",
        "                {",
        "                  1 : 4",
        "                  2 : {...}",
        "                }",
        "            }",
        "        }",
        "    }",
        "  a : {...}",
        "  true : 1e+15",
        "}",
    ]
    assert str(Table()) == "{}"


def test_representation() -> None:
    table = Table(1, "a", x=None, y=Table(b=2))
    table[0] = True
    assert repr(table) == "Table(1, 'a', y=Table(b=2), [0]=True)"


@given(st.lists(nested, max_size=4))
def test_mapped_leaves(value: list[Any]) -> None:
    table = Table.from_python(value)
    assert map_leaves(lambda x: x, table).to_python() == table.to_python()
    tuples = to_tuples(lambda x: [x], table)
    assert Table.from_python(to_tuples(lambda x: x, table)).to_python() == table.to_python()
    assert leaves(table) == leaves(value)
    assert isinstance(tuples, tuple)
