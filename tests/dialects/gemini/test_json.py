"""Gemini's JSON in both spellings."""

import base64

import msgspec
import pytest

from modelplex.core.errors import BadRequest
from modelplex.core.request import OpaqueState
from modelplex.dialects.gemini.json import (
    REDACTED,
    as_signature,
    camel,
    is_snake_case,
    members_of,
    read,
    read_list,
    read_open,
    read_signature,
    spelling,
    standard,
)


class Blob(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    mime_type: str
    data: str = ""


def raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


@pytest.mark.parametrize(
    ("snake", "name"), [("system_instruction", "systemInstruction"), ("topK", "topK"), ("_x", "_x"), ("", "")]
)
def test_a_name_in_camel_case(snake: str, name: str) -> None:
    assert camel(snake) == name


def test_an_object_is_read_in_either_spelling() -> None:
    assert read(raw('{"mimeType":"a/b"}'), Blob, path="x") == Blob("a/b")
    assert read(raw('{"mime_type":"a/b","data":null}'), Blob, path="x") == Blob("a/b")
    assert members_of(raw('{"a_b":1,"c":null}'), path="x") == {"aB": raw("1")}
    with pytest.raises(BadRequest) as refused:
        read(raw('{"mime_type":7}'), Blob, path="x")
    assert refused.value.param == "x.mimeType"


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        ('{"mimeType":"a/b"}', {}),
        ('{"mimeType":"a/b","videoMetadata":1}', {"videoMetadata": raw("1")}),
        ('{"mime_type":"a/b","video_metadata":1}', {"video_metadata": raw("1")}),
    ],
)
def test_unread_members_have_the_clients_names(text: str, unread: dict[str, msgspec.Raw]) -> None:
    assert read_open(raw(text), Blob, path="x") == (Blob("a/b"), unread)


def test_a_path_is_spelt_as_the_client_spells_it() -> None:
    snake = raw('{"function_call":{"name":"a_b"}}')
    assert spelling(snake, "functionCall.name") == "function_call.name"
    assert is_snake_case(snake)
    quoted = raw('{"functionCall":{"args":{"x":"\\"function_call\\""}}}')
    assert spelling(quoted, "functionCall.name") == "functionCall.name"
    assert not is_snake_case(quoted)


def test_one_object_stands_for_a_list() -> None:
    one = raw(' {"a":1}')
    assert read_list(one, path="x") == [one]
    assert read_list(raw("[1,2]"), path="x") == [raw("1"), raw("2")]
    with pytest.raises(BadRequest):
        read_list(raw("7"), path="x")


def test_a_signature_is_googles_or_has_its_origin() -> None:
    assert standard("-_+/") == "+/+/"
    assert read_signature("c2ln") == OpaqueState("google-gemini-v1", "c2ln")
    assert read_signature("no base64!") == OpaqueState("google-gemini-v1", "no base64!")
    state = OpaqueState("anthropic-claude-v1", "EqQB", provider="claude", account="k1")
    wrapped = as_signature(state)
    assert base64.urlsafe_b64decode(wrapped)
    assert read_signature(wrapped) == state
    assert read_signature(wrapped.replace("-", "+").replace("_", "/")) == state
    assert read_signature(as_signature(state, redacted=True)).id == REDACTED
