"""Exchanges around another one: they see what it reads, or write it in another form."""

from __future__ import annotations

from modelplex.core.errors import ModelplexError
from modelplex.core.request import Change
from modelplex.dialects.dialect import Framing, ObservedResponse, TokenReader
from modelplex.dialects.exchange import Exchange, Translation


class WrappedExchange:
    """An exchange that leaves everything to another one."""

    def __init__(self, inner: Exchange) -> None:
        self._inner = inner
        self.body = inner.body
        self.is_passthrough = inner.is_passthrough
        self.media_type = inner.media_type

    def withhold_logprobs(self) -> None:
        """The client gets no log probabilities in a response that is translated."""
        if isinstance(self._inner, WrappedExchange | Translation):
            self._inner.withhold_logprobs()

    @property
    def changes(self) -> tuple[Change, ...]:
        return self._inner.changes

    @changes.setter
    def changes(self, changes: tuple[Change, ...]) -> None:
        self._inner.changes = changes

    @property
    def has_output(self) -> bool:
        return self._inner.has_output

    @property
    def failed(self) -> ModelplexError | None:
        return self._inner.failed

    @property
    def error_was_forwarded(self) -> bool:
        return self._inner.error_was_forwarded

    @property
    def observed(self) -> ObservedResponse:
        return self._inner.observed

    @property
    def complete(self) -> bool:
        return self._inner.complete

    def whole(self, body: bytes) -> bytes:
        return self._inner.whole(body)

    def feed(self, data: bytes) -> bytes:
        return self._inner.feed(data)

    def end(self) -> bytes:
        return self._inner.end()

    def ping(self) -> bytes:
        return self._inner.ping()

    def in_stream_error(self, error: ModelplexError, request_id: str) -> bytes:
        return self._inner.in_stream_error(error, request_id)


class TokenExchange(WrappedExchange):
    """An exchange of whose stream the token ids are kept. A whole body goes to `tokens` by whoever
    reads it.
    """

    def __init__(self, inner: Exchange, tokens: TokenReader) -> None:
        super().__init__(inner)
        self.tokens = tokens

    def feed(self, data: bytes) -> bytes:
        self.tokens.feed(data)
        return self._inner.feed(data)


class ReframedExchange(WrappedExchange):
    """An exchange whose stream is written in another framing."""

    def __init__(self, inner: Exchange, framing: Framing) -> None:
        super().__init__(inner)
        self._framing = framing
        self.is_passthrough = False
        self.media_type = framing.media_type

    def feed(self, data: bytes) -> bytes:
        return self._framing.feed(self._inner.feed(data))

    def end(self) -> bytes:
        out = self._framing.feed(self._inner.end())
        return out if self._inner.failed is not None else out + self._framing.end()

    def ping(self) -> bytes:
        """None: a JSON array has no place for one that parsers skip."""
        return b""

    def in_stream_error(self, error: ModelplexError, request_id: str) -> bytes:
        """The error as the last member of the array, which stays open: it is not complete."""
        return self._framing.feed(self._inner.in_stream_error(error, request_id))
