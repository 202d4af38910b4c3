"""Lines of the keys of a TOML document."""

import json
import tomllib
from collections.abc import Iterator
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from modelplex.config.toml_positions import dotted, line_of, places

MAZE = '''\
# [comment]
a = 1
b.c."d.e" = "x" # [no]
[t]
k = """
[x]
q = 3 \\""" ""\\""""
l = [
  1, # one ]
  { z = 2, "y\\u0041" = '}' },
]
m = \'\'\'
n = 1\'\'\'\'\'
d = 1979-05-27 07:32:00
[[p]]
n = 1
[[p.q]]
n = 2
[[ p ]]
[p . 'r']
s = {}
'''


def test_each_key_has_its_line() -> None:
    tomllib.loads(MAZE)
    assert {dotted(path): line for path, line in places(MAZE).items()} == {
        "a": 2,
        "b": 3,
        "b.c": 3,
        'b.c."d.e"': 3,
        "t": 4,
        "t.k": 5,
        "t.l": 8,
        "t.l[0]": 9,
        "t.l[1]": 10,
        "t.l[1].z": 10,
        "t.l[1].yA": 10,
        "t.m": 12,
        "t.d": 14,
        "p": 15,
        "p[0]": 15,
        "p[0].n": 16,
        "p[0].q": 17,
        "p[0].q[0]": 17,
        "p[0].q[0].n": 18,
        "p[1]": 19,
        "p[1].r": 20,
        "p[1].r.s": 21,
    }


def test_a_missing_key_has_the_line_of_its_table() -> None:
    lines = places("\n[[p]]\na = 1")
    assert (line_of(("p", 0, "b"), lines), line_of(("q",), lines)) == (2, None)


_KEYS = st.text(min_size=1, max_size=8)


_LEAVES = st.one_of(st.integers(-(2**40), 2**40), st.booleans(), st.text(max_size=12), st.just(1.5))


_TREES = st.dictionaries(
    _KEYS,
    st.recursive(
        _LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
        max_leaves=12,
    ),
    max_size=4,
)


def _paths(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    steps: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        steps = list(cast("dict[str | int, object]", value).items())
    elif isinstance(value, list):
        steps = list(enumerate(cast("list[object]", value)))
    for step, inner in steps:
        yield (*path, step)
        yield from _paths(inner, (*path, step))


@given(_TREES)
def test_every_key_of_any_document_is_found(tree: dict[str, object]) -> None:
    lines = [f"{_toml(key)} = {_toml(value)}" for key, value in tree.items()]
    text = "\n".join(lines)
    assert tomllib.loads(text) == tree
    found = places(text)
    assert set(found) == set(_paths(tree))
    assert [found[(key,)] for key in tree] == list(range(1, len(tree) + 1))


def _toml(value: object) -> str:
    """JSON's strings are TOML's, but for the character 127."""
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value).items()
        return "{" + ", ".join(f"{_toml(key)} = {_toml(inner)}" for key, inner in pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, cast("list[object]", value))) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
