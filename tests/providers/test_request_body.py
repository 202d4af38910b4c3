"""Bodies in the form of one service."""

from __future__ import annotations

from modelplex.providers.request_body import vertex_body


def test_the_model_leaves_the_body_and_the_version_enters() -> None:
    body = (
        b'{"model": "m", "max_tokens": 1.0, "messages": [ {"role":"user"} ], "big": 12345678901234567890123}'
    )
    assert vertex_body(body, version="v") == (
        b'{"max_tokens":1.0,"messages":[ {"role":"user"} ],"big":12345678901234567890123,"anthropic_version":"v"}'
    )


def test_a_version_of_the_body_is_replaced() -> None:
    assert vertex_body(b'{"anthropic_version":"mine"}', version="v") == b'{"anthropic_version":"v"}'
