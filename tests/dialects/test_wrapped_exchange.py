from __future__ import annotations

import json

import pytest

from modelplex.core.errors import ModelplexError, UpstreamBroken
from modelplex.dialects.wrapped_exchange import TokenExchange, WrappedExchange

from .test_exchange import END, HELLO, TEXT, exchange_of


def test_a_reframed_stream_is_one_json_array() -> None:
    body = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
    exchange = exchange_of("gemini_array", "openai_chat", endpoint="generate_content", body=body)
    out = exchange.feed(TEXT) + exchange.feed(END) + exchange.end()
    assert [part["candidates"][0]["content"]["parts"][0]["text"] for part in json.loads(out)] == ["abcd", ""]
    assert (exchange.media_type, exchange.is_passthrough, exchange.ping()) == ("application/json", False, b"")


@pytest.mark.parametrize("client", ["openai_chat", "anthropic_messages"])
def test_a_wrapped_exchange_is_the_inner_one_to_all(client: str) -> None:
    plain, wrapped = exchange_of(client, "openai_chat"), WrappedExchange(exchange_of(client, "openai_chat"))
    for data in (TEXT, END):
        assert wrapped.feed(data) == plain.feed(data)
    assert wrapped.end() == plain.end()
    for name in (
        "body", "is_passthrough", "media_type", "changes", "has_output", "failed", "error_was_forwarded", "complete"
    ):  # fmt: skip
        assert getattr(wrapped, name) == getattr(plain, name)
    assert wrapped.observed.usage == plain.observed.usage
    assert wrapped.ping() == plain.ping()
    error = UpstreamBroken("It broke.")
    assert wrapped.in_stream_error(error, "mpx-1") == plain.in_stream_error(error, "mpx-1")


def test_a_failure_of_the_inner_exchange_is_that_of_the_outer_one() -> None:
    wrapped = WrappedExchange(exchange_of("anthropic_messages", "openai_chat", body=HELLO, stream=False))
    with pytest.raises(ModelplexError):
        wrapped.whole(b'{"error": {"message": "No."}}')


def test_token_ids_are_read_from_what_passes() -> None:
    class Tokens:
        def __init__(self) -> None:
            self.seen = b""

        def feed(self, data: bytes) -> None:
            self.seen += data

        def whole(self, body: bytes) -> None:
            self.seen += body

        def kept(self) -> bytes | None:
            return self.seen

    tokens = Tokens()
    exchange = TokenExchange(exchange_of("openai_chat", "openai_chat"), tokens)
    assert exchange.feed(TEXT) == TEXT
    assert (tokens.seen, exchange.tokens) == (TEXT, tokens)
