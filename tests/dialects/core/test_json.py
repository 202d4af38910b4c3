"""JSON that a strict decoder refuses and servers send."""

import msgspec
import pytest

from modelplex.dialects.core.json import (
    as_list,
    as_object,
    as_text,
    decode_mended,
    is_given,
    mend,
    parses,
)

decode = msgspec.json.Decoder(dict[str, float | str | None]).decode


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a":1}', {"a": 1}),
        (b'{"a":"\\ud83d"}', {"a": "�"}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"a":NaN}', {"a": None}),
        (b'{"a":-Infinity}', {"a": None}),
        (b'{"a":"\xff"}', {"a": "�"}),
        (b'{"a":[1]}', None),
        (b'{"a":', None),
        (b"", None),
        (b"[" * 200_000, None),
    ],
)
def test_json_is_decoded_mended_where_needed(data: bytes, value: object) -> None:
    assert decode_mended(data, decode) == value


def test_what_is_no_json_cannot_be_mended() -> None:
    assert mend(b"<html>") is None
    assert mend(b'{"a":Infinity}') == b'{"a": null}'


@pytest.mark.parametrize(
    ("text", "is_whole"), [('{"a":1}', True), ('"\ud83d"', True), ("NaN", True), ("{", False), ("1 2", False)]
)
def test_a_text_is_one_whole_value_or_not(text: str, is_whole: bool) -> None:
    assert parses(text) is is_whole


def test_values_of_other_types_are_nothing() -> None:
    assert [as_text(value) for value in ("x", 7, True, 1.5, None)] == ["x", "7", None, None, None]
    empty_list: list[object] = []
    empty_object: dict[str, object] = {}
    assert [as_object(value) for value in ({"a": 1}, empty_list, "x")] == [{"a": 1}, None, None]
    assert [as_list(value) for value in ([1], empty_object, None)] == [[1], [], []]
    assert [is_given(msgspec.Raw(raw)) for raw in (b"", b"null", b"0", b"false")] == [
        False,
        False,
        True,
        True,
    ]
