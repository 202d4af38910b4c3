"""The errors of the HTTP client. Errors of sockets, TLS and the parser are mapped to them here.

A sentence is plain text for a person and never holds a header, a key or a body.
"""

from __future__ import annotations

import socket
import ssl
from typing import Literal, TypeAlias

import httptools

from modelplex.http_client.origin import Origin

NO_ANSWER = "none of its addresses answered"
"""What is said of several failures at once, whose own words are a list of IP addresses."""

Phase: TypeAlias = Literal["connect", "write", "first_byte", "idle"]
"""The wait that was too long."""


class SendError(Exception):
    """An exchange failed. `sentence` is plain text for a person and never holds a header, a key or
    a body.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence

    def without_address(self, origin: Origin, *, name: str) -> str:
        """The sentence for those who may not learn where the other side is: `name` stands in place
        of its address.
        """
        sentence = self.sentence.replace(f"The name {origin.host} ", f"The name of {name} ")
        sentence = sentence.replace(str(origin), name)
        return sentence[:1].upper() + sentence[1:]


class ConnectFailed(SendError):
    """No connection came about (name, refusal, route), so nothing was sent."""


class TlsFailed(ConnectFailed):
    """The TLS handshake failed, so nothing was sent."""


class TimedOut(SendError):
    """The wait named by `phase` was too long; the connection is gone."""

    def __init__(self, sentence: str, *, phase: Phase) -> None:
        super().__init__(sentence)
        self.phase: Phase = phase


class ConnectionCut(SendError):
    """The connection ended before the response did. `started`: a byte of the response had
    arrived.
    """

    def __init__(self, sentence: str, *, started: bool) -> None:
        super().__init__(sentence)
        self.started = started


class BadResponse(SendError):
    """What came back is not HTTP/1.1, or its head is beyond the limits."""


class ResponseTooLarge(SendError):
    """The body is longer than the `limit` (bytes) that the reader set."""

    def __init__(self, sentence: str, *, limit: int) -> None:
        super().__init__(sentence)
        self.limit = limit


def closed_early(origin: Origin) -> ConnectionCut:
    return ConnectionCut(f"The exchange with {origin} was closed on this side before its end.", started=True)


def parser_reason(error: Exception) -> str:
    """The parser's own fixed words ("Expected HTTP/"), which quote nothing of what was received."""
    if isinstance(error, httptools.HttpParserUpgrade):
        return "a change of protocol"
    return str(error) or "it cannot be parsed"


def map_connect_error(origin: Origin, error: OSError | ValueError) -> ConnectFailed:
    """Foreign errors are mapped here, and nowhere else."""
    match error:
        case ssl.SSLCertVerificationError():
            return TlsFailed(f"The certificate of {origin} is not trusted: {error.verify_message}.")
        case ssl.SSLError():
            return TlsFailed(f"TLS with {origin} failed: {error.reason or 'the handshake broke off'}.")
        case ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError() if origin.tls:
            return TlsFailed(f"{origin} hung up during the TLS handshake.")
        case ConnectionRefusedError():
            return ConnectFailed(f"{origin} refused the connection.")
        case FileNotFoundError() if origin.ca_file is not None and origin.unix is None:
            return TlsFailed(f"The file of certificate authorities for {origin} does not exist.")
        case FileNotFoundError():
            return ConnectFailed(f"There is no file at {origin}.")
        case socket.gaierror() | ValueError():
            return ConnectFailed(f"The name {origin.host} could not be resolved.")
        case _:
            return ConnectFailed(f"{origin} could not be reached: {error.strerror or NO_ANSWER}.")
