"""HTTP requests to one tool server: shared by the channels of Streamable HTTP and HTTP+SSE.

Redirects are followed within the origin only, and reads are limited.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Final, cast

import msgspec

from modelplex.credentials.source import CredentialError
from modelplex.http_client import (
    ConnectFailed,
    HttpClient,
    HttpResponse,
    ResponseTooLarge,
    SendError,
    Timeouts,
)
from modelplex.mcp.constants import Json
from modelplex.mcp.oauth.challenge import Challenge, read_challenge
from modelplex.mcp.oauth.source import ServerTokens
from modelplex.mcp.servers.background import BackgroundTasks
from modelplex.mcp.servers.channel import Channel, ConnectionLost, HttpRefused, SignInNeeded
from modelplex.mcp.servers.endpoint_url import EndpointUrl
from modelplex.mcp.servers.messages import MessageReader, read_json
from modelplex.mcp.servers.sse_events import Event, EventReader, EventTooLong

TIMEOUTS: Final = Timeouts(connect=10.0, first_byte=86_400.0, idle=86_400.0)
"""The caller sets the timeout, which progress renews. A notification stream may be silent for a
day.
"""
MAX_REDIRECTS: Final = 3
MAX_BACKGROUND: Final = 32
"""Background messages (responses to the server's requests, cancellations) in flight to one server.
More are dropped: each takes a connection.
"""
BACKGROUND_SECONDS: Final = 10.0
"""Timeout of a background message."""
MAX_IGNORED_BODY: Final = 65_536
"""Bytes of a body that is not used, such as an error page."""
EVENT_STREAM: Final = b"text/event-stream"
JSON_HEADERS: Final = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


class ConnectionNotMade(ConnectionLost):
    """No connection was made. Nothing was sent."""


class HttpEndpoint:
    """Sends requests to one URL with the headers of the config, and with a token of `tokens`."""

    def __init__(
        self,
        client: HttpClient,
        url: EndpointUrl,
        *,
        headers: Mapping[str, str],
        messages: MessageReader,
        tokens: ServerTokens | None = None,
    ) -> None:
        self.url = url
        self._tokens = tokens
        self.messages = messages
        self._client = client
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def send(
        self, method: bytes, *, body: bytes = b"", headers: Mapping[str, str], to: EndpointUrl | None = None
    ) -> HttpResponse:
        """The head of the response. Raises ConnectionLost, ConnectionNotMade or HttpRefused."""
        own = {name.lower().encode() for name in headers}
        lines = [(name.encode(), value.encode()) for name, value in headers.items()]
        lines += [(name, value) for name, value in self._headers if name.lower() not in own]
        url = to or self.url
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._authorized(url, method, lines, body)
            if not 300 <= response.status < 400:
                return response
            location = (response.header(b"location") or b"").decode("latin-1")
            response.close()
            following = url.resolve(location) if location else None
            if following is None or response.status not in {307, 308}:
                raise HttpRefused(
                    "It redirects to another address, which is not followed.", status=response.status
                )
            url = following
        raise HttpRefused("It redirects in a circle.", status=310)

    async def _authorized(
        self, url: EndpointUrl, method: bytes, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> HttpResponse:
        """Send with a token. A request that was refused for its token was not processed: it is sent
        once more with another one, if there is another.
        """
        if self._tokens is None:
            return await self._send(url, method, headers, body)
        try:
            token = await self._tokens.token()
        except CredentialError:
            raise SignInNeeded(self._tokens.not_renewed, status=401) from None
        response = await self._send(url, method, [*headers, *_bearer(token)], body)
        for left in (1, 0):
            challenge = _challenge(response)
            if challenge is None:
                return response
            response.close()
            token = await self._tokens.renewed(token, challenge)
            if not token or not left:
                raise SignInNeeded(self._tokens.needed(challenge), status=response.status)
            response = await self._send(url, method, [*headers, *_bearer(token)], body)
        return response

    async def _send(
        self, url: EndpointUrl, method: bytes, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> HttpResponse:
        try:
            return await self._client.send(
                url.origin,
                method=method,
                target=url.target.encode(),
                headers=headers,
                body=body,
                timeouts=TIMEOUTS,
            )
        except ConnectFailed as error:
            raise ConnectionNotMade(self._describe(error)) from None
        except SendError as error:
            raise ConnectionLost(self._describe(error)) from None
        except ValueError:
            raise ConnectionLost("A header or its address holds what HTTP does not allow.") from None

    async def post(
        self, message: Json, headers: Mapping[str, str], *, to: EndpointUrl | None = None
    ) -> HttpResponse:
        return await self.send(b"POST", body=msgspec.json.encode(message), headers=headers, to=to)

    async def events(self, response: HttpResponse, reader: EventReader) -> AsyncGenerator[Event, None]:
        """The events of a stream until it ends. Raises ConnectionLost if it breaks."""
        try:
            while data := await response.chunk():
                for event in reader.feed(data):
                    yield event
        except SendError as error:
            raise ConnectionLost(self._describe(error)) from None
        except EventTooLong:
            raise ConnectionLost(f"It sent an event of more than {self.messages.max_read} bytes.") from None
        finally:
            response.close()

    async def body(self, response: HttpResponse) -> bytes:
        """Raises ConnectionLost, or ResponseTooLarge above `max_read` bytes."""
        try:
            return await response.body(limit=self.messages.max_read)
        except ResponseTooLarge:
            raise
        except SendError as error:
            raise ConnectionLost(self._describe(error)) from None

    async def read_error(self, response: HttpResponse) -> Json | None:
        """The message with a JSON-RPC error in the body of an error response, or None."""
        try:
            message: object = read_json(self.messages.hide(await response.body(limit=MAX_IGNORED_BODY)))
        except (SendError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return None
        if isinstance(message, dict) and isinstance(cast("Json", message).get("error"), dict):
            return cast("Json", message)
        return None

    def _describe(self, error: SendError) -> str:
        """An error for agents, without the address."""
        return error.without_address(self.url.origin, name="it")

    def reader(self) -> EventReader:
        return EventReader(limit=self.messages.max_read)


def _bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", f"Bearer {token}".encode("latin-1"))] if token else []


def _challenge(response: HttpResponse) -> Challenge | None:
    """The challenge of a response that another token may change; None for all other responses."""
    if response.status not in {401, 403}:
        return None
    values = [value for name, value in response.headers if name.lower() == b"www-authenticate"]
    challenge = read_challenge(response.status, values)
    if response.status == 401:
        return challenge or Challenge(401)
    return challenge if challenge is not None and challenge.wants_more else None


def is_event_stream(response: HttpResponse) -> bool:
    return response.status == 200 and content_type(response) == EVENT_STREAM


def content_type(response: HttpResponse) -> bytes:
    return (response.header(b"content-type") or b"").partition(b";")[0].strip().lower()


async def discard(response: HttpResponse) -> None:
    """Read a body that is not used, so that the connection can be reused."""
    with contextlib.suppress(SendError):
        await response.body(limit=MAX_IGNORED_BODY)


def refused(response: HttpResponse) -> HttpRefused:
    """The error for a response without a message."""
    sentence = f"It answered with status {response.status}."
    if response.status == 401:
        sentence += " It accepts no credential of its `headers` in the config."
    value = response.header(b"retry-after") or b""
    seconds = float(value) if value.isdigit() and len(value) < 9 else None
    return HttpRefused(sentence, status=response.status, retry_after=seconds)


def send_in_background(channel: Channel, message: Json, tasks: BackgroundTasks) -> None:
    """Send a message without waiting; dropped above MAX_BACKGROUND."""

    async def send() -> None:
        with contextlib.suppress(ConnectionLost, HttpRefused, TimeoutError):
            async with asyncio.timeout(BACKGROUND_SECONDS):
                await channel.send(message)

    if len(tasks) < MAX_BACKGROUND:
        tasks.start(send())
