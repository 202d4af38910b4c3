"""The only outbound HTTP: an HTTP/1.1 client with a pool of connections.

It uses asyncio's transports and TLS, and the httptools parser (llhttp). It knows no models,
providers, dialects or JSON. It follows no redirect, decompresses nothing, and puts no header into
an error. It sends a request a second time in one case only: a kept connection was lost before the
first byte of the response (RFC 9112 9.3.1 and 9.5: the server had most likely closed it already).

Unread data is bounded: above `max_buffer` bytes, the socket is not read until the reader has taken
them. A request needs one Future for the head and at most one for each read of the body, no task,
no lock, and one timer per connection.

Source: RFC 9110 (semantics) and RFC 9112 (HTTP/1.1 framing, keep-alive, incomplete messages).
"""

from modelplex.core.origin import Origin, parse_origin
from modelplex.http_client.connection import UpstreamConnection
from modelplex.http_client.errors import (
    BadResponse,
    ConnectFailed,
    ConnectionCut,
    ResponseTooLarge,
    SendError,
    TimedOut,
    TlsFailed,
)
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
    "UpstreamConnection",
    "parse_origin",
]
