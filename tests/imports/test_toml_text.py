"""Plain values as TOML."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.imports.toml_text import table_text, value

PLAIN = st.recursive(
    st.booleans() | st.integers(-(2**60), 2**60) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), each, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), PLAIN, max_size=4))
def test_a_table_is_read_as_it_was_written(members: dict[str, Any]) -> None:
    assert tomllib.loads(table_text("[t]", members)) == {"t": members}


@pytest.mark.parametrize(("number", "text"), [(3.0, "3.0"), (0.15, "0.15"), (20.0, "20.0"), (100.0, "100.0")])
def test_a_float_is_a_float(number: float, text: str) -> None:
    assert value(number) == text
    assert tomllib.loads(f"n = {text}")["n"] == number


def test_none_is_left_out() -> None:
    assert table_text("[t]", {"a": None, "b.c": 1}) == '[t]\n"b.c" = 1\n'
