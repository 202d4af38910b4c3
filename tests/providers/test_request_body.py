"""Bodies in the form of one service."""

from __future__ import annotations

from modelplex.providers.request_body import vertex_body, with_added


def test_the_model_leaves_the_body_and_the_version_enters() -> None:
    body = (
        b'{"model": "m", "max_tokens": 1.0, "messages": [ {"role":"user"} ], "big": 12345678901234567890123}'
    )
    assert vertex_body(body, version="v") == (
        b'{"max_tokens":1.0,"messages":[ {"role":"user"} ],"big":12345678901234567890123,"anthropic_version":"v"}'
    )


def test_a_version_of_the_body_is_replaced() -> None:
    assert vertex_body(b'{"anthropic_version":"mine"}', version="v") == b'{"anthropic_version":"v"}'


def test_members_of_the_owner_are_joined_and_take_precedence() -> None:
    body = b'{"a":1.0,"b":{"x":1.0,"y":2},"c":[ 1 ]}'
    added: dict[str, object] = {"b": {"x": 3, "z": {}}, "d": {"e": "f"}, "g": "h"}
    assert with_added(body, added) == b'{"a":1.0,"b":{"x":3,"y":2,"z":{}},"c":[ 1 ],"d":{"e":"f"},"g":"h"}'


def test_members_that_a_request_does_not_have_are_left_out() -> None:
    added: dict[str, object] = {"b": {"x": 3, "z": 4}}
    assert with_added(b"{}", added, left_out=["b.z"]) == b'{"b":{"x":3}}'
