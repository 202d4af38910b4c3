"""Asks a tool server without a token what it wants. Some answer the handshake, and only then want
one.
"""

from __future__ import annotations

from typing import Final

import msgspec

from modelplex import __version__
from modelplex.credentials.source import CredentialError
from modelplex.http_client import HttpClient, SendError, Timeouts
from modelplex.mcp.constants import META_CAPABILITIES, META_CLIENT, META_VERSION, NEWEST, NEWEST_LEGACY, Json
from modelplex.mcp.oauth.challenge import Challenge, read_challenge
from modelplex.mcp.servers.endpoint_url import parse_endpoint_url

TIMEOUTS: Final = Timeouts(connect=10.0, first_byte=30.0, idle=30.0)
_CLIENT: Final[Json] = {"name": "modelplex", "version": __version__}
_META: Final[Json] = {META_VERSION: NEWEST, META_CAPABILITIES: {}, META_CLIENT: _CLIENT}
_REQUESTS: Final[tuple[tuple[str, Json, str], ...]] = (
    (
        "initialize",
        {"protocolVersion": NEWEST_LEGACY, "capabilities": {}, "clientInfo": _CLIENT},
        NEWEST_LEGACY,
    ),
    ("tools/list", {"_meta": _META}, NEWEST),
)


async def challenge_of(client: HttpClient, url: str) -> Challenge | None:
    """The first challenge; None if the server has none. Raises CredentialError if it cannot be
    reached.
    """
    for number, (method, params, version) in enumerate(_REQUESTS, 1):
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        challenge = await _challenge(client, url, message, version)
        if challenge is not None:
            return challenge
    return None


async def _challenge(client: HttpClient, url: str, message: Json, version: str) -> Challenge | None:
    headers = [
        (b"accept", b"application/json, text/event-stream"),
        (b"content-type", b"application/json"),
        (b"mcp-protocol-version", version.encode()),
        (b"mcp-method", str(message["method"]).encode()),
    ]
    try:
        endpoint = parse_endpoint_url(url)
        response = await client.send(
            endpoint.origin,
            method=b"POST",
            target=endpoint.target.encode(),
            headers=headers,
            body=msgspec.json.encode(message),
            timeouts=TIMEOUTS,
        )
    except (SendError, ValueError) as error:
        sentence = error.sentence if isinstance(error, SendError) else str(error)
        raise CredentialError(f"the tool server cannot be reached: {sentence}") from None
    try:
        if response.status != 401:
            return None
        values = [value for name, value in response.headers if name.lower() == b"www-authenticate"]
        return read_challenge(401, values) or Challenge(401)
    finally:
        response.close()
