"""The only outbound HTTP: an HTTP/1.1 client with a pool of connections.

It uses asyncio's transports, asyncio's TLS and the httptools parser (llhttp). It knows no models,
providers, dialects and JSON; it follows no redirect, decompresses nothing, and puts no header into
an error. It sends a request twice in one case only: a kept connection was lost before one byte of
the response (RFC 9112 9.3.1 and 9.5: most likely it had been closed before it was used).

What a reader leaves unread stays bounded: reading from the socket stops above `max_buffer` bytes
and goes on once the reader has taken them. Per request there is one Future for the head, per body
read at most one, no task, no lock, and one lazily moved timer per connection.

Source: RFC 9110 (semantics) and RFC 9112 (HTTP/1.1 framing, keep-alive, incomplete messages).
"""

from modelplex.http_client.errors import (
    BadResponse,
    ConnectFailed,
    ConnectionCut,
    ResponseTooLarge,
    SendError,
    TimedOut,
    TlsFailed,
)
from modelplex.http_client.origin import Origin, parse_origin
from modelplex.http_client.pool import HttpClient
from modelplex.http_client.request import Timeouts
from modelplex.http_client.response import HttpResponse

__all__ = [
    "BadResponse",
    "ConnectFailed",
    "ConnectionCut",
    "HttpClient",
    "HttpResponse",
    "Origin",
    "ResponseTooLarge",
    "SendError",
    "TimedOut",
    "Timeouts",
    "TlsFailed",
    "parse_origin",
]
