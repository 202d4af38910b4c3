"""Members of a body, decoded one by one."""

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from modelplex.core.errors import BadRequest
from modelplex.dialects.core.members import (
    RequestMembers,
    convert_member,
    decode_member,
    is_empty,
    unknown_members,
    without_empty,
)


class _Known(msgspec.Struct):
    first: int = 0


def test_empty_is_what_asks_for_nothing() -> None:
    assert is_empty(Raw(b" [ ] "))
    assert not is_empty(Raw(b"0"))


@pytest.mark.parametrize("text", ["null", "false", "[]", "{ }", '""', "[\n]"])
def test_a_member_without_content_is_no_loss(text: str) -> None:
    assert without_empty({"a": Raw(text.encode())}) == {}


@pytest.mark.parametrize("text", ["0", "true", '"a"', "[0]", '{"a":null}'])
def test_any_other_member_is(text: str) -> None:
    assert set(without_empty({"a": Raw(text.encode())})) == {"a"}


def test_the_presence_of_some_members_is_their_content() -> None:
    assert set(without_empty({"web_search_options": Raw(b"{}")})) == {"web_search_options"}


@pytest.mark.parametrize(
    ("text", "wanted", "param"),
    [
        ('{"a":[1,"x"]}', dict[str, list[int]], "m[...][1]"),
        ('"x"', int, "m"),
        ("[1,", list[int], "m"),
        ('"\\ud800"', str, "m"),
    ],
)
def test_an_error_names_the_place_inside_a_member(text: str, wanted: Any, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode_member(Raw(text.encode()), wanted, path="m")
    assert caught.value.param == param


def test_a_decoded_value_is_converted_with_the_same_errors() -> None:
    assert convert_member({"first": 3}, _Known, path="m").first == 3
    with pytest.raises(BadRequest, match=r"m\.first"):
        convert_member({"first": "x"}, _Known, path="m")


def test_members_that_a_struct_does_not_have_are_named_by_their_path() -> None:
    given = {"first": Raw(b"1"), "second": Raw(b"2"), "third": Raw(b"null")}
    assert unknown_members(given, _Known, within="tool.") == {"tool.second": Raw(b"2")}


def test_what_nobody_read_is_the_rest() -> None:
    members = RequestMembers({"model": Raw(b'"m"'), "a": Raw(b"1"), "b": Raw(b"null"), "c": Raw(b"2")})
    assert members.get("a", int) == 1
    assert members.get("b", int) is None
    assert members.unread("d") is None
    assert members.rest() == {"c": Raw(b"2")}
