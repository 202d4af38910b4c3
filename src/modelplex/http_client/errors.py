"""The errors of the HTTP client, and the mapping of socket, TLS and parser errors to them."""

from __future__ import annotations

import socket
import ssl
from typing import Final, Literal, TypeAlias

import httptools

from modelplex.core.origin import Origin

NO_ANSWER = "none of its addresses answered"
"""Replaces the message of several failures at once, which lists IP addresses."""

Phase: TypeAlias = Literal["connect", "write", "first_byte", "idle"]
"""The wait that timed out."""


class SendError(Exception):
    """An exchange failed. `sentence` is plain text for a person and never holds a header, a key or
    a body.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence

    def without_address(self, origin: Origin, *, name: str) -> str:
        """The sentence with `name` in place of the server's address, for readers who may not know
        it.
        """
        sentence = self.sentence.replace(f"The name {origin.host} ", f"The name of {name} ")
        sentence = sentence.replace(str(origin), name)
        return sentence[:1].upper() + sentence[1:]


class ConnectFailed(SendError):
    """No connection was made (name, refusal, route). Nothing was sent."""


class TlsFailed(ConnectFailed):
    """The TLS handshake failed. Nothing was sent."""


class TimedOut(SendError):
    """The wait of `phase` was too long. The connection is closed."""

    def __init__(self, sentence: str, *, phase: Phase) -> None:
        super().__init__(sentence)
        self.phase: Phase = phase


class ConnectionCut(SendError):
    """The connection ended before the response did. `started`: a byte of it was received."""

    def __init__(self, sentence: str, *, started: bool) -> None:
        super().__init__(sentence)
        self.started = started


class BadResponse(SendError):
    """The response is not valid HTTP/1.1, or its head exceeds the limits."""


class ResponseTooLarge(SendError):
    """The body is longer than the `limit` (bytes) that the reader set."""

    def __init__(self, sentence: str, *, limit: int) -> None:
        super().__init__(sentence)
        self.limit = limit


def closed_early(origin: Origin) -> ConnectionCut:
    return ConnectionCut(f"The gateway closed the exchange with {origin} before its end.", started=True)


_ACTIONS: Final[dict[Phase, str]] = {
    "connect": "accepted no connection",
    "write": "read no more of the request",
    "first_byte": "sent no response",
    "idle": "sent no more of its response",
}


def timed_out(origin: Origin, phase: Phase, seconds: float) -> TimedOut:
    return TimedOut(f"{origin} {_ACTIONS[phase]} within {seconds:g} seconds.", phase=phase)


def parser_reason(error: Exception) -> str:
    """The parser's message ("Expected HTTP/"), which quotes no received byte."""
    if isinstance(error, httptools.HttpParserUpgrade):
        return "a change of protocol"
    return str(error) or "it cannot be parsed"


def map_connect_error(origin: Origin, error: OSError | ValueError) -> ConnectFailed:
    match error:
        case ssl.SSLCertVerificationError():
            return TlsFailed(f"The certificate of {origin} is not trusted: {error.verify_message}.")
        case ssl.SSLError():
            reason = getattr(error, "reason", None) or "the handshake was aborted"
            return TlsFailed(f"TLS with {origin} failed: {reason}.")
        case ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError() if origin.tls:
            return TlsFailed(f"{origin} closed the connection during the TLS handshake.")
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
