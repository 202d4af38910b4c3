"""OpenAI's Python client, unmodified, and a tap on its connection: what came over the wire is held
to the client's own types.

The client is lenient (it takes any JSON and fills in what is missing), so a test that only uses it
proves little. Here every response that it got, whole or streamed, is read again in pydantic's
strict mode, and against the order of a stream that docs/reference/wire-formats.md#chat-completions
gives.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import httpx2
from openai import AsyncOpenAI, OpenAI
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from tests.gateways import WAIT_S, Running, gateway, one
from tests.upstreams import Act, Scripted, provider

T = TypeVar("T")

EXTENSIONS = {
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "extra_content",
    "estimated",
    "annotations",
}
"""Members that the client's types lack and that are written on purpose
(docs/reference/wire-formats.md#openai-compatible-servers). Annotations it knows in whole answers
only; OpenAI streams them too.
"""
ERROR_MEMBERS = {"message", "type", "param", "code"}


@dataclass
class Exchange:
    """One request as the client sent it, and what came back."""

    request: httpx2.Request
    status: int
    headers: httpx2.Headers
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False

    @property
    def endpoint(self) -> str:
        return self.request.url.path.removeprefix("/models/v1").removeprefix("/v1")

    @property
    def changes(self) -> list[str]:
        """What the gateway says that it could not pass on as it was said."""
        return [change for change in self.headers.get("x-modelplex-changes", "").split(",") if change]

    @property
    def asked(self) -> Any:
        return json.loads(self.request.content) if self.request.content else {}

    @property
    def streamed(self) -> bool:
        return self.headers["content-type"].startswith("text/event-stream")


class _Stream(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    def __init__(self, inner: Any, exchange: Exchange) -> None:
        self._inner = inner
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._inner:
            self._exchange.body += piece
            yield piece
        self._exchange.complete = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._inner:
            self._exchange.body += piece
            yield piece
        self._exchange.complete = True

    def close(self) -> None:
        self._inner.close()

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Tap(httpx2.HTTPTransport):
    def __init__(self, exchanges: list[Exchange], **how: Any) -> None:
        super().__init__(**how)
        self._exchanges = exchanges

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        return _tapped(request, response, self._exchanges)


class _AsyncTap(httpx2.AsyncHTTPTransport):
    def __init__(self, exchanges: list[Exchange], **how: Any) -> None:
        super().__init__(**how)
        self._exchanges = exchanges

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        return _tapped(request, response, self._exchanges)


def tap(exchanges: list[Exchange], **how: Any) -> httpx2.AsyncHTTPTransport:
    """A transport that notes every exchange, for any library that is built on the same
    HTTP client.
    """
    return _AsyncTap(exchanges, **how)


def _tapped(request: httpx2.Request, response: httpx2.Response, exchanges: list[Exchange]) -> httpx2.Response:
    exchange = Exchange(request, response.status_code, response.headers)
    exchanges.append(exchange)
    stream = _Stream(response.stream, exchange)
    return httpx2.Response(
        response.status_code, headers=response.headers, stream=stream, extensions=response.extensions
    )


class Official:
    """The client in one of its four ways: sync or async, over TCP or over the socket."""

    def __init__(
        self, sync: OpenAI | None, asynchronous: AsyncOpenAI | None, exchanges: list[Exchange]
    ) -> None:
        self._sync = sync
        self._async = asynchronous
        self.exchanges = exchanges

    async def do(self, sync: Callable[[Any], T], asynchronous: Callable[[Any], Awaitable[T]]) -> T:
        """Whichever of the two fits this client; each is given an OpenAI or an AsyncOpenAI.

        A sync one runs in a thread, since the gateway shares our loop. The client is of no type
        here: its overloads take hundreds of names, and what matters is what it does with what it
        gets.
        """
        if self._sync is not None:
            return await asyncio.wait_for(asyncio.to_thread(sync, self._sync), WAIT_S)
        assert self._async is not None
        return await asyncio.wait_for(asynchronous(self._async), WAIT_S)

    async def chat(self, **asked: Any) -> ChatCompletion:
        asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | asked
        got: ChatCompletion = await self.do(
            lambda c: c.chat.completions.create(**asked), lambda c: c.chat.completions.create(**asked)
        )
        return got

    async def chunks(self, **asked: Any) -> list[ChatCompletionChunk]:
        """Every chunk of a stream, read to its end."""
        asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True} | asked

        async def read(client: Any) -> list[ChatCompletionChunk]:
            stream = await client.chat.completions.create(**asked)
            return [chunk async for chunk in stream]

        def read_sync(client: Any) -> list[ChatCompletionChunk]:
            stream = client.chat.completions.create(**asked)
            return list(stream)

        return await self.do(read_sync, read)

    async def helper(self, **asked: Any) -> tuple[list[Any], Any]:
        """The streaming helper's events, and the completion that it put together."""
        asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | asked

        async def read(client: Any) -> tuple[list[Any], Any]:
            async with client.chat.completions.stream(**asked) as stream:
                return [event async for event in stream], await stream.get_final_completion()

        def read_sync(client: Any) -> tuple[list[Any], Any]:
            with client.chat.completions.stream(**asked) as stream:
                return list(stream), stream.get_final_completion()

        return await self.do(read_sync, read)

    async def parse(self, **asked: Any) -> Any:
        asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | asked
        return await self.do(
            lambda c: c.chat.completions.parse(**asked), lambda c: c.chat.completions.parse(**asked)
        )

    async def embed(self, **asked: Any) -> CreateEmbeddingResponse:
        got: CreateEmbeddingResponse = await self.do(
            lambda c: c.embeddings.create(**asked), lambda c: c.embeddings.create(**asked)
        )
        return got

    async def complete(self, **asked: Any) -> Any:
        return await self.do(lambda c: c.completions.create(**asked), lambda c: c.completions.create(**asked))


WAYS = ("sync-tcp", "sync-unix", "async-tcp", "async-unix")


@asynccontextmanager
async def official(
    gw: Running, way: str = "async-unix", *, retries: int = 0, base: str = "/models/v1", ours: bool = True
) -> AsyncGenerator[Official]:
    """A client of this gateway. When the block ends well, every response that it got must be of the
    official types.

    Without `ours` the words are a provider's that pass as they come: they may have members that the
    client does not know, and lack what only OpenAI's description asks for.
    """
    kind, transport = way.split("-")
    how: dict[str, Any] = {"uds": gw.socket} if transport == "unix" else {}
    url = "http://localhost" if transport == "unix" else gw.base
    exchanges: list[Exchange] = []
    if kind == "sync":
        http = httpx2.Client(transport=_Tap(exchanges, **how))
        with OpenAI(base_url=url + base, api_key="guest", http_client=http, max_retries=retries) as client:
            yield Official(client, None, exchanges)
    else:
        http_async = httpx2.AsyncClient(transport=_AsyncTap(exchanges, **how))
        async with AsyncOpenAI(
            base_url=url + base, api_key="guest", http_client=http_async, max_retries=retries
        ) as client_async:
            yield Official(None, client_async, exchanges)
    for exchange in exchanges:
        validate(exchange, ours=ours)


@asynccontextmanager
async def in_front_of(
    *scripts: Act, folder: Path, way: str = "async-unix", rules: str = "", retries: int = 0, **row: Any
) -> AsyncGenerator[tuple[Scripted, Running, Official]]:
    """A scripted provider, a gateway before it and a client before that. `row` is the provider's
    table in the config, `rules` follow it.
    """
    async with AsyncExitStack() as stack:
        up = await stack.enter_async_context(provider(*scripts))
        # Anthropic's and Ollama's base URLs are the host's: each has a path of its own below it.
        url = up.url if row.get("type", "openai") == "openai" else up.url.removesuffix("/v1")
        gw = await stack.enter_async_context(gateway(one(url, **row) + rules, folder=folder))
        yield up, gw, await stack.enter_async_context(official(gw, way, retries=retries))


# --- what the official types say ------------------------------------------------------------------


def validate(exchange: Exchange, *, ours: bool = True) -> None:
    """Hold a response to the official types, strictly: nothing required is missing, nothing has
    another type, nothing is unknown.
    """
    body = bytes(exchange.body)
    if exchange.status >= 400:
        _is_error(json.loads(body))
    elif exchange.streamed:
        _is_stream(exchange, ours=ours)
    elif exchange.endpoint == "/chat/completions":
        _is_chat(body, ours=ours)
    elif exchange.endpoint == "/completions":
        strictly(Completion, body, ours=ours)
    elif exchange.endpoint == "/embeddings":
        _is_embeddings(body, ours=ours)
    elif exchange.endpoint == "/models":
        listed = json.loads(body)
        assert listed["object"] == "list"
        for model in listed["data"]:
            strictly(Model, json.dumps(model).encode())
    elif exchange.endpoint.startswith("/models/"):
        strictly(Model, body)
    else:
        raise AssertionError(f"nobody says what {exchange.endpoint} answers")


def strictly(kind: type[BaseModel], body: bytes, *, ours: bool = True) -> Any:
    value = kind.model_validate_json(body, strict=True)
    unknown = set(_unknown(value)) - EXTENSIONS
    assert not unknown or not ours, f"members that {kind.__name__} does not have: {unknown}"
    return value


def _unknown(value: object) -> Iterator[str]:
    """The names of all members that no type of the client declares."""
    if isinstance(value, BaseModel):
        yield from value.model_extra or {}
        for name in type(value).model_fields:
            yield from _unknown(getattr(value, name))
    elif isinstance(value, list):
        for each in cast("list[object]", value):
            yield from _unknown(each)


def _is_error(told: Any) -> None:
    assert set(told) == {"error"}, told
    error = told["error"]
    assert set(error) >= ERROR_MEMBERS, error
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    assert error["param"] is None or isinstance(error["param"], str)
    assert error["code"] is None or isinstance(error["code"], str)


def _is_chat(body: bytes, *, ours: bool) -> None:
    answer: ChatCompletion = strictly(ChatCompletion, body, ours=ours)
    assert answer.choices
    # OpenAI's published description requires these, though the client's types allow for their
    # absence (docs/reference/wire-formats.md#chat-completions).
    for choice in json.loads(body)["choices"] if ours else ():
        assert {"role", "content", "refusal"} <= set(choice["message"])
        assert "logprobs" in choice
    for choice in answer.choices:
        calls = choice.message.tool_calls or []
        if choice.finish_reason != "tool_calls":
            assert not calls or choice.finish_reason == "length", (
                "only a cut call may end as anything but a call"
            )
            continue
        assert calls
        for call in calls:
            if call.type == "function":
                assert isinstance(json.loads(call.function.arguments), dict)


def _is_embeddings(body: bytes, *, ours: bool) -> None:
    answer = json.loads(body)
    for data in answer["data"]:
        if isinstance(data["embedding"], str):
            packed = base64.b64decode(data["embedding"], validate=True)
            data["embedding"] = list(struct.unpack(f"<{len(packed) // 4}f", packed))
    read: CreateEmbeddingResponse = strictly(CreateEmbeddingResponse, json.dumps(answer).encode(), ours=ours)
    assert [data.index for data in read.data] == list(range(len(read.data)))


def events_of(body: bytes) -> list[str]:
    """The data of each event. Nothing but `data:` lines and comments may stand in a chat stream
    (R48, R50).
    """
    found: list[str] = []
    for block in body.decode().split("\n\n"):
        for line in block.split("\n"):
            assert not line or line.startswith(("data: ", ":")), line
            if line.startswith("data: "):
                found.append(line.removeprefix("data: "))
    return found


def _is_stream(exchange: Exchange, *, ours: bool) -> None:
    """A stream's events and their order; one that the client left early is only held to what it
    had.
    """
    events = events_of(bytes(exchange.body))
    if not exchange.complete:
        return
    assert events, "an empty stream"
    last = events.pop()
    kind = ChatCompletionChunk if exchange.endpoint == "/chat/completions" else Completion
    options: dict[str, Any] = exchange.asked.get("stream_options") or {}
    if last == "[DONE]":
        validate_chunks(events, kind=kind, wants_usage=bool(options.get("include_usage")), ours=ours)
        return
    _is_error(json.loads(last))
    ends = [choice["finish_reason"] for event in events for choice in json.loads(event)["choices"]]
    assert not any(ends), "a broken answer has no end"
    _typed(events, kind, ours=ours)


def validate_chunks(
    events: Sequence[str],
    *,
    kind: type[BaseModel] = ChatCompletionChunk,
    wants_usage: bool,
    ours: bool = True,
) -> None:
    """Every chunk of a whole stream, as JSON, without the `[DONE]`."""
    chunks = _typed(events, kind, ours=ours)
    _usage_once(events, chunks, wanted=wants_usage)
    if kind is ChatCompletionChunk:
        for index in {choice.index for chunk in chunks for choice in chunk.choices}:
            _is_whole_choice([c for chunk in chunks for c in chunk.choices if c.index == index])


def _typed(events: Sequence[str], kind: type[BaseModel], *, ours: bool) -> list[Any]:
    chunks: list[Any] = [strictly(kind, _as_typed(event, kind).encode(), ours=ours) for event in events]
    names = {(c.id, c.created, c.model) if ours else c.id for c in chunks}
    assert len(names) <= 1, "one answer, one name"
    return chunks


def _as_typed(event: str, kind: type[BaseModel]) -> str:
    """The type of a text completion is that of a whole one too, and denies the null that OpenAI's
    own streams have until the end.
    """
    if kind is not Completion:
        return event
    told = json.loads(event)
    for choice in told["choices"]:
        choice["finish_reason"] = choice["finish_reason"] or "stop"
    return json.dumps(told)


def _usage_once(events: Sequence[str], chunks: Sequence[Any], *, wanted: bool) -> None:
    """R13: one chunk with usage and without choices, the last, where it was asked for; nowhere
    otherwise.
    """
    without_choices = [at for at, chunk in enumerate(chunks) if not chunk.choices]
    if not wanted:
        assert not without_choices
        return
    assert without_choices == [len(chunks) - 1]
    assert chunks[-1].usage is not None
    for event in events[:-1]:
        told: dict[str, Any] = json.loads(event)
        assert told.get("usage") is None


def _is_whole_choice(parts: list[Any]) -> None:
    """R10, R12, R33: the role once and first, each call named once, one end that fits what came
    before it.
    """
    assert [at for at, part in enumerate(parts) if part.delta.role] == [0]
    ends = [at for at, part in enumerate(parts) if part.finish_reason]
    assert ends == [len(parts) - 1], ends
    arguments: dict[int, str] = {}
    for part in parts:
        calls: list[Any] = part.delta.tool_calls or []
        for call in calls:
            if call.index not in arguments:
                assert call.index == len(arguments), "indices rise without a gap"
                assert call.id
                assert call.type == "function"
                assert call.function.name
                arguments[call.index] = ""
            else:
                assert (call.id, call.type) == (None, None)
                assert call.function is None or call.function.name is None
            if call.function is not None:
                arguments[call.index] += call.function.arguments or ""
    reason = parts[-1].finish_reason
    if reason != "tool_calls":
        assert not arguments or reason == "length", "only a cut call may end as anything but a call"
        return
    assert arguments
    for text in arguments.values():
        assert isinstance(json.loads(text), dict)
