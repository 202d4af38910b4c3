"""Paths of values in a body."""

from __future__ import annotations

import pytest

from modelplex.policy.path import KEY_LIMIT, Path, dotted, pointer, steps
from modelplex.policy.verdict import Amend
from tests.policy.judging import judge_body


def test_a_pointer_shows_no_more_of_a_key_than_is_good_in_a_header() -> None:
    verdict = judge_body({"model": "m", "messages": [], "a/b~\r\n,=é" + "x" * 500: 1}, "openai_chat")
    assert isinstance(verdict, Amend)
    (item,) = verdict.stripped
    assert item.pointer.startswith("/a~1b~0%0D%0A%2C%3D%C3%A9x")
    assert item.pointer.isascii()
    assert len(item.pointer) < 120


PATH: Path = ((((None, "input"), 2), "content"), 0)


def test_a_path_is_a_chain_of_keys_from_the_body_inward() -> None:
    assert steps(None) == ()
    assert steps(PATH) == ("input", 2, "content", 0)


def test_a_path_has_two_written_forms() -> None:
    assert (dotted(PATH), pointer(PATH)) == ("input[2].content[0]", "/input/2/content/0")
    assert (dotted(None), pointer(None)) == ("", "")
    assert dotted((None, 3)) == "[3]"


@pytest.mark.parametrize(
    ("key", "escaped"),
    [("a/b", "a~1b"), ("a~b", "a~0b"), ("a b", "a%20b"), ("\r\n", "%0D%0A"), ("é", "%C3%A9"), ("\ud800", "%3F"), ("$ref", "$ref")],
)  # fmt: skip
def test_a_key_is_escaped(key: str, escaped: str) -> None:
    assert pointer((None, key)) == f"/{escaped}"
    assert dotted((None, key)) == escaped


def test_a_long_key_is_cut() -> None:
    assert pointer((None, "k" * (KEY_LIMIT + 1))) == "/" + "k" * KEY_LIMIT
