"""Rules that the error bodies of all dialects share. Imports no dialect."""

from __future__ import annotations

from collections.abc import Callable

from modelplex.core.errors import ClientError, GatewayFault, ModelplexError, UpstreamAuth
from modelplex.dialects.core.foreign_errors import QUOTED


def forwarded_body(error: ModelplexError, *, is_own: Callable[[bytes], bool]) -> bytes | None:
    """The provider's error body where it goes to the client unchanged: it blames the client, and
    has the form of the client's dialect.
    """
    body = error.upstream.body
    return body if body is not None and isinstance(error, ClientError) and is_own(body) else None


def message_with_id(error: ModelplexError, request_id: str) -> str:
    """The message. One about a fault of the gateway names the request, to be found in the log."""
    if isinstance(error, GatewayFault) and request_id:
        return f"{error.message} (request {request_id})"
    return error.message


def provider_message(kind: type[ModelplexError], status: int, message: str) -> str:
    """The message of a provider's error as a client reads it; `status` is 0 inside a 200. A message
    about the gateway's API key may repeat the key, and is left out.
    """
    answered = f"The provider answered {status}" if status else "The provider's answer is an error"
    if kind is UpstreamAuth:
        return f"{answered}: it rejected the API key that the gateway has for it, or what that key may do."
    if issubclass(kind, ClientError):
        return message[:QUOTED] or f"{answered}."
    return f"{answered}: {message[:QUOTED]}" if message else f"{answered}."
