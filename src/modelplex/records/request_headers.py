"""The headers of a request for the record, without secrets. Pure.

Values are kept of headers that are known to have none. Of every other header the name is kept:
programs send keys in headers of any name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

ShownHeaders = tuple[tuple[str, str], ...]

NOT_KEPT: Final = "(not kept)"
"""In place of a value."""
MAX_HEADERS: Final = 64
"""Headers that are kept; agents send some twenty."""
MAX_VALUE: Final = 1_024
"""Characters of a value that are kept."""

KEPT: Final = frozenset(
    {
        *("accept", "accept-encoding", "accept-language", "cache-control", "connection", "content-encoding"),
        *(
            "content-length",
            "content-type",
            "expect",
            "host",
            "te",
            "transfer-encoding",
            "upgrade",
            "user-agent",
        ),
        *("anthropic-beta", "anthropic-dangerous-direct-browser-access", "anthropic-version", "openai-beta"),
        *("conversation_id", "idempotency-key", "originator", "session_id", "version", "x-app"),
        *("traceparent", "x-client-request-id", "x-goog-api-client", "x-request-id", "x-title"),
    }
)
"""Headers whose values are no secrets: of HTTP, and of libraries and agents that call models."""
KEPT_PREFIXES: Final = ("x-stainless-", "sec-fetch-", "sec-ch-ua")


def shown_headers(headers: Iterable[tuple[bytes, bytes]]) -> ShownHeaders:
    """In their order, names in lower case."""
    shown: list[tuple[str, str]] = []
    for raw_name, value in headers:
        name = raw_name.decode("latin-1").lower()
        is_kept = name in KEPT or name.startswith(KEPT_PREFIXES)
        shown.append((name[:MAX_VALUE], value.decode("latin-1")[:MAX_VALUE] if is_kept else NOT_KEPT))
        if len(shown) == MAX_HEADERS:
            break
    return tuple(shown)
