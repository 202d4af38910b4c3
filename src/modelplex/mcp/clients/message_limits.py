"""Parses a client's message within limits of size and depth."""

from __future__ import annotations

from typing import Any, Final

from modelplex.core.errors import BadRequest
from modelplex.dialects.core.bounds import check_values
from modelplex.dialects.core.surrogates import mended
from modelplex.mcp.clients import checks
from modelplex.mcp.clients.checks import ProtocolRefusal
from modelplex.mcp.constants import INVALID_REQUEST

MAX_VALUES: Final = 50_000
"""JSON values of one message: this many take about 20 ms to read and to check. The arguments of a
call have some dozens, and a file's text is one.
"""


def read(body: bytes | bytearray, *, max_depth: int) -> Any | ProtocolRefusal:
    """The JSON value of a body or a line; a ProtocolRefusal if it is invalid, has too many values,
    or is nested deeper than `max_depth`. A lone surrogate becomes U+FFFD, as in a model request.
    """
    whole = bytes(body)
    try:
        check_values(whole, most=MAX_VALUES)
    except BadRequest as fault:
        return ProtocolRefusal(400, INVALID_REQUEST, fault.message.replace("The body", "The message", 1))
    return checks.read(mended(whole), max_depth=max_depth)
