"""A server behind streamable HTTP, of either era: a request is a POST whose own stream answers it.

Headers repeat the outgoing body and never come from a client. Redirects are followed within the
origin only, and reads are limited. Source: the specification's "Transports", 2025-03-26 to
2026-07-28.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import Any, Final, cast

import msgspec

from modelplex.http_client import ConnectFailed, HttpClient, ResponseTooLarge, SendError, Timeouts
from modelplex.http_client import HttpResponse as Answer
from modelplex.mcp.constants import INTERNAL_ERROR, META_VERSION, Era, Json
from modelplex.mcp.servers.address import Address
from modelplex.mcp.servers.header_params import standard_headers
from modelplex.mcp.servers.session import ConnectionLost, Deliver, HttpRefused, PendingRequest, SessionGone
from modelplex.mcp.servers.sse_events import Event, EventReader, EventTooLong
from modelplex.mcp.servers.stdio import LINE_FACTOR, outline, read_json, within

TIMEOUTS: Final = Timeouts(connect=10.0, first_byte=86_400.0, idle=86_400.0)
"""The caller sets the timeout, renewed by progress; a stream of notifications may be silent for a
day.
"""
REDIRECTS: Final = 3
RETRY: Final = 1.0
"""Seconds before a broken stream is resumed, unless the server names a delay."""
MAX_RETRY: Final = 60.0
LEAST_RETRY: Final = 0.1
"""A server that names 0 and ends each stream after an event would keep the gateway busy."""
RESUMES: Final = 5
"""Attempts in a row without an event, after which a broken stream is given up."""
DELETE_SECONDS: Final = 2.0
"""Seconds for the DELETE that ends a session."""
MOST_BACKGROUND: Final = 32
"""Background messages (answers to questions, cancellations) on their way to one server. More are
dropped: each takes a connection.
"""
BACKGROUND_SECONDS: Final = 10.0
"""Seconds for a background message."""
SMALL: Final = 65_536
"""Bytes of an ignored response body, such as an error page."""


class HttpEndpoint:
    """Requests to one address with the config's headers, shared by both HTTP channels."""

    def __init__(
        self,
        client: HttpClient,
        address: Address,
        *,
        headers: Mapping[str, str],
        max_result: int,
        cuts: bool = False,
        hide: Callable[[bytes], bytes] = bytes,
    ) -> None:
        self.address = address
        self.hide = hide
        """Masks the host's credentials in what the server sends."""
        self.max_result = max_result
        self.passed = max_result * LINE_FACTOR if cuts else max_result
        """Bytes of a result that are passed on, to be cut later if `cuts`."""
        self._client = client
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def send(
        self, method: bytes, *, body: bytes = b"", headers: Mapping[str, str], to: Address | None = None
    ) -> Answer:
        """The head of the response. Raises ConnectionLost, ConnectionNotMade or HttpRefused."""
        own = {name.lower().encode() for name in headers}
        lines = [(name.encode(), value.encode()) for name, value in headers.items()]
        lines += [(name, value) for name, value in self._headers if name.lower() not in own]
        at = to or self.address
        for _ in range(REDIRECTS + 1):
            try:
                answer = await self._client.send(
                    at.origin,
                    method=method,
                    target=at.target.encode(),
                    headers=lines,
                    body=body,
                    timeouts=TIMEOUTS,
                )
            except ConnectFailed as error:
                raise ConnectionNotMade(self.describe(error)) from None
            except SendError as error:
                raise ConnectionLost(self.describe(error)) from None
            except ValueError:
                raise ConnectionLost("A header or its address holds what HTTP does not allow.") from None
            if not 300 <= answer.status < 400:
                return answer
            location = (answer.header(b"location") or b"").decode("latin-1")
            answer.close()
            following = at.joined(location) if location else None
            if following is None or answer.status not in {307, 308}:
                raise HttpRefused(
                    "It redirects to another address, which is not followed.", status=answer.status
                )
            at = following
        raise HttpRefused("It redirects in a circle.", status=310)

    async def events(self, answer: Answer, reader: EventReader) -> AsyncGenerator[Event, None]:
        """The events of a stream until it ends. Raises ConnectionLost if it breaks."""
        try:
            while data := await answer.chunk():
                for event in reader.feed(data):
                    yield event
        except SendError as error:
            raise ConnectionLost(self.describe(error)) from None
        except EventTooLong:
            raise ConnectionLost(
                f"It sent an event of more than {self.max_result * LINE_FACTOR} bytes."
            ) from None
        finally:
            answer.close()

    async def refusal(self, answer: Answer) -> Json | None:
        """The JSON-RPC error in a response with a status of 400 and more, or None. Reads the body
        in either case.
        """
        try:
            body = await answer.body(limit=SMALL)
            message = read_json(self.hide(body))
        except (SendError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return None
        if isinstance(message, dict) and isinstance(cast("Json", message).get("error"), dict):
            return cast("Json", message)
        return None

    def describe(self, error: SendError) -> str:
        """An error for agents, without the address."""
        return error.without_address(self.address.origin, name="it")

    def reader(self) -> EventReader:
        return EventReader(limit=self.max_result * LINE_FACTOR)


class ConnectionNotMade(ConnectionLost):
    """No connection was made: nothing was sent."""


class HttpChannel:
    """A conversation with one address. A legacy one has a session, and a separate stream if the
    server offers it.
    """

    pid = None

    def __init__(self, endpoint: HttpEndpoint) -> None:
        self.deliver: Deliver = _nobody
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._endpoint = endpoint
        self._era: Era | None = None
        self._version = ""
        self._session: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<HttpChannel {self._endpoint.address.origin} {self._era or 'unsettled'} session={self._session is not None}>"

    @property
    def cancels_by_message(self) -> bool:
        return self._era == "legacy"

    async def open(self) -> None:
        """Nothing to open: each request has its own connection."""

    def settle(self, era: Era, version: str) -> None:
        self._era, self._version = era, version

    async def carry(self, message: Json, call: PendingRequest) -> Json:
        """As `Channel.carry`; closing the channel ends pending requests."""
        work = asyncio.get_running_loop().create_task(self._posted(message, call))
        try:
            either: set[asyncio.Future[Any]] = {work, self.lost}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait({work})
            raise
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
            raise ConnectionLost(self.lost.result())
        return work.result()

    async def _posted(self, message: Json, call: PendingRequest) -> Json:
        headers = self._request_headers(message, call)
        try:
            answer = await self._endpoint.send(b"POST", body=msgspec.json.encode(message), headers=headers)
        except ConnectionNotMade as error:
            self._fail(error.sentence)
            raise
        try:
            return await self._answered(answer, call)
        finally:
            answer.close()

    async def _answered(self, answer: Answer, call: PendingRequest) -> Json:
        status = answer.status
        if status == 404 and self._session is not None:
            raise SessionGone
        if status >= 400 or status in {202, 204}:
            return await self._refused(answer)
        if call.method == "initialize":
            session = answer.header(b"mcp-session-id")
            self._session = session.decode("latin-1") if session else None
        kind = (answer.header(b"content-type") or b"").partition(b";")[0].strip().lower()
        if kind == b"text/event-stream":
            return await self._streamed(answer, call)
        if kind != b"application/json":
            raise HttpRefused("It answered with neither JSON nor a stream of events.", status=415)
        return await self._whole(answer, call)

    async def _refused(self, answer: Answer) -> Json:
        status = answer.status
        if status < 400:
            raise ConnectionLost("It took a request and answered nothing.")
        message = await self._endpoint.refusal(answer)
        if message is not None and status not in {401, 403, 429} and status < 500:
            return message
        raise refused_by(answer)

    async def _whole(self, answer: Answer, call: PendingRequest) -> Json:
        limit = self._endpoint.max_result
        try:
            body = await answer.body(limit=limit * LINE_FACTOR)
        except ResponseTooLarge as error:
            return {
                "id": call.id,
                "error": {"code": INTERNAL_ERROR, "message": error.sentence, "data": {"reason": "limit"}},
            }
        except SendError as error:
            raise ConnectionLost(self._endpoint.describe(error)) from None
        found = self._take(body, call)
        if found is None:
            raise ConnectionLost("It answered with what is no answer to the request.")
        return found

    def _take(self, data: bytes, call: PendingRequest | None) -> Json | None:
        """Deliver the messages of an event or a body. Returns the response to the request, if it is
        among them.
        """
        found: Json | None = None
        for message in messages_of(self._endpoint.hide(data), limit=self._endpoint.passed):
            if "method" in message:
                self.deliver(message, call)
            elif call is not None and message.get("id") == call.id:
                found = within(message, size=len(data), limit=self._endpoint.passed)
        return found

    async def _streamed(self, answer: Answer, call: PendingRequest) -> Json:
        """Read the request's stream until its response; resume it if events have ids."""
        reader = self._endpoint.reader()
        barren = 0
        while True:
            received = False
            try:
                async with contextlib.aclosing(self._endpoint.events(answer, reader)) as events:
                    async for event in events:
                        received = True
                        if event.data and (found := self._take(event.data, call)) is not None:
                            return found
                broken = "It ended the stream before it had answered."
            except ConnectionLost as lost:
                broken = lost.sentence
            barren = 0 if received else barren + 1
            if not reader.last_id or self._era == "modern" or barren > RESUMES:
                raise ConnectionLost(broken)
            await asyncio.sleep(_pause(reader))
            answer = await self._resumed(reader)

    async def _resumed(self, reader: EventReader) -> Answer:
        answer = await self._endpoint.send(
            b"GET",
            headers={
                **self._session_headers(),
                "Accept": "text/event-stream",
                "Last-Event-ID": reader.last_id,
            },
        )
        if answer.status == 200:
            return answer
        answer.close()
        if answer.status == 404 and self._session is not None:
            raise SessionGone
        raise ConnectionLost(f"It broke the stream, and would not go on with it (status {answer.status}).")

    def _request_headers(self, message: Json, call: PendingRequest) -> dict[str, str]:
        params = cast("Json", message.get("params") or {})
        headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
        meta = params.get("_meta")
        version = cast("Json", meta).get(META_VERSION) if isinstance(meta, dict) else None
        if self._era != "legacy" and isinstance(version, str):
            headers["MCP-Protocol-Version"] = version
            headers.update(standard_headers(call.method, params))
            headers.update(call.headers or {})
            return headers
        return {**headers, **self._session_headers()} if call.method != "initialize" else headers

    def _session_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        if self._session is not None:
            headers["Mcp-Session-Id"] = self._session
        if self._era is not None:
            headers["MCP-Protocol-Version"] = self._version
        return headers

    async def send(self, message: Json) -> None:
        """Modern servers get no notifications: a closed stream is a cancellation."""
        if self._era != "legacy":
            return
        headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
        answer = await self._endpoint.send(
            b"POST", body=msgspec.json.encode(message), headers={**headers, **self._session_headers()}
        )
        with contextlib.suppress(SendError):
            await answer.body(limit=SMALL)
        if message.get("method") == "notifications/initialized" and not self._closed:
            self._aside(self._listen())

    def send_soon(self, message: Json) -> None:
        if len(self._tasks) < MOST_BACKGROUND:
            self._aside(self._send_quietly(message))

    async def _send_quietly(self, message: Json) -> None:
        with contextlib.suppress(ConnectionLost, HttpRefused, TimeoutError):
            async with asyncio.timeout(BACKGROUND_SECONDS):
                await self.send(message)

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self) -> None:
        """Read messages that belong to no request while the session lasts and the server offers the
        stream.
        """
        reader = self._endpoint.reader()
        barren = 0
        while barren <= RESUMES:
            with contextlib.suppress(ConnectionLost):
                headers = {**self._session_headers(), "Accept": "text/event-stream"}
                if reader.last_id:
                    headers["Last-Event-ID"] = reader.last_id
                try:
                    answer = await self._endpoint.send(b"GET", headers=headers)
                except HttpRefused:
                    return
                kind = (answer.header(b"content-type") or b"").lower()
                if answer.status != 200 or not kind.startswith(b"text/event-stream"):
                    answer.close()
                    return  # not offered, or the session is over, as the next request will find
                async with contextlib.aclosing(self._endpoint.events(answer, reader)) as events:
                    async for event in events:
                        barren = 0
                        if event.data:
                            self._take(event.data, None)
            barren += 1
            await asyncio.sleep(_pause(reader))

    def _fail(self, sentence: str) -> None:
        if not self.lost.done():
            self.lost.set_result(sentence)

    async def close(self) -> None:
        self._closed = True
        self._fail("It was left.")
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        if self._era == "legacy" and self._session is not None:
            with contextlib.suppress(ConnectionLost, HttpRefused, TimeoutError):
                async with asyncio.timeout(DELETE_SECONDS):
                    (await self._endpoint.send(b"DELETE", headers=self._session_headers())).close()


def messages_of(data: bytes, *, limit: int) -> list[Json]:
    """The messages of a body or an event; a batch has several. Skips invalid ones. Above `limit`
    bytes, only ids of responses.
    """
    try:
        value: object = read_json(data) if len(data) <= limit else outline(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return []
    values = cast("list[object]", value) if isinstance(value, list) else [value]
    return [cast("Json", one) for one in values if isinstance(one, dict)]


def _pause(reader: EventReader) -> float:
    return min(MAX_RETRY, RETRY if reader.retry is None else max(LEAST_RETRY, reader.retry))


def refused_by(answer: Answer) -> HttpRefused:
    """The error for a response without a message. Source: RFC 9728 5.1, the challenge of a resource
    that requires OAuth.
    """
    sentence = f"It answered with status {answer.status}."
    challenge = (answer.header(b"www-authenticate") or b"").lower()
    if answer.status == 401 and b"resource_metadata" in challenge:
        sentence += " It asks for OAuth, which the gateway does not do: its `headers` in the config must bring a token."
    return HttpRefused(sentence, status=answer.status, retry_after=retry_after(answer))


def retry_after(answer: Answer) -> float | None:
    value = answer.header(b"retry-after") or b""
    return float(value) if value.isdigit() and len(value) < 9 else None


def _nobody(message: Json, call: PendingRequest | None) -> None:
    """Default until a session takes the messages."""
