"""What the tests of Anthropic's dialect share: requests as its clients write them, and Anthropic's
own client library as the judge of our answers.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import anthropic
import httpx2
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from pydantic import TypeAdapter

from modelplex.core.events import Event
from modelplex.core.request import Attempt, ChatRequest, ModelFacts, ProviderRequest, RawRequest
from modelplex.dialects.anthropic import dialect as anthropic_dialect
from modelplex.dialects.core.sse import SseEvent, SseReader
from modelplex.dialects.dialect import ProviderDialect
from modelplex.dialects.raw_request import read_request
from modelplex.dialects.registry import provider_dialect, write_request

TRANSCRIPTS = Path(__file__).resolve().parents[2] / "transcripts"
HOME = Attempt(
    provider="anthropic",
    model="claude-sonnet-4-5",
    dialect="anthropic_messages",
    account="k1",
    facts=ModelFacts(max_output=64000, thinking="adaptive"),
)
PROVIDERS: dict[str, ProviderDialect] = {
    name: provider_dialect(name) for name in ("anthropic_messages", "openai_chat", "ollama")
}
HELLO = [{"role": "user", "content": "Hi"}]

_REQUEST: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)
_EVENT: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
_HIDDEN = {"stream", "temperature", "top_p", "top_k", "context_management"}
"""Members that the types of this client's newest version leave out of a plain request."""


def make_ask(messages: object = None, *, endpoint: Any = "messages", **more: Any) -> RawRequest:
    members = {"model": "claude", "max_tokens": 1000, "messages": HELLO if messages is None else messages}
    body = json.dumps({name: value for name, value in (members | more).items() if value is not ...}).encode()
    return read_request(body, endpoint=endpoint, dialect="anthropic_messages")


def make_call(messages: object = None, **more: Any) -> ChatRequest:
    return anthropic_dialect.read_call(make_ask(messages, **more))


def sent_home(call: ChatRequest, attempt: Attempt = HOME) -> tuple[dict[str, Any], ProviderRequest]:
    """The body that Anthropic gets, held to the client's types."""
    written = write_request(call, attempt)
    body: dict[str, Any] = json.loads(written.body)
    _REQUEST.validate_python({name: value for name, value in body.items() if name not in _HIDDEN})
    return body, written


def read_provider(
    dialect: str, data: bytes, *, piece: int = 1 << 20, attempt: Attempt | None = None
) -> list[Event]:
    """A provider's stream as Events."""
    attempt = attempt or Attempt("acme", "m-up", dialect, account="k1")
    reader = PROVIDERS[dialect].reader(attempt, ProviderRequest(b"{}"))
    events: list[Event] = []
    for start in range(0, len(data), piece):
        events += reader.feed(data[start : start + piece])
    return events + reader.end()


def written(events: Sequence[Event], call: ChatRequest | None = None, *, id: str = "msg_ours") -> bytes:
    """The stream that the client gets."""
    writer = anthropic_dialect.AnthropicStreamWriter(
        call or make_call(stream=True), id=id, created=1, model="m"
    )
    return b"".join([writer.send(event) for event in events]) + writer.end()


def whole(events: Sequence[Event], call: ChatRequest | None = None) -> dict[str, Any]:
    """The whole answer that the client gets, held to the client's type."""
    body, _ = anthropic_dialect.write_response(
        events, call or make_call(), id="msg_ours", created=1, model="m"
    )
    Message.model_validate_json(body)
    return cast("dict[str, Any]", json.loads(body))


def told(data: bytes) -> list[SseEvent]:
    return SseReader().feed(data)


def checked(data: bytes) -> list[dict[str, Any]]:
    """The events of a stream, each held to the client's types, and all of them to the order of
    docs/reference/wire-formats.md#messages (R11, R48).
    """
    events: list[dict[str, Any]] = []
    open_: int | None = None
    started = 0
    for event in told(data):
        members = json.loads(event.data)
        assert event.event == members["type"]
        if members["type"] in {"ping", "error"}:
            continue
        _EVENT.validate_python(members, strict=True)
        match members["type"]:
            case "content_block_start":
                assert open_ is None, "two blocks are open"
                assert members["index"] == started
                open_, started = started, started + 1
            case "content_block_delta" | "content_block_stop":
                assert members["index"] == open_
                if members["type"] == "content_block_stop":
                    open_ = None
            case _:
                assert open_ is None
        events.append(members)
    assert [event["type"] for event in events].count("message_start") == 1
    assert events[0]["type"] == "message_start"
    return events


def accumulated(data: bytes) -> Message:
    """What Anthropic's client makes of the stream. Raises what it raises; a warning is an error."""
    transport = httpx2.MockTransport(
        lambda _request: httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=data)
    )
    client = anthropic.Anthropic(
        api_key="none",
        max_retries=0,
        http_client=httpx2.Client(transport=transport, base_url="http://gateway"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with (
            client,
            client.messages.stream(
                model="m", max_tokens=10, messages=[{"role": "user", "content": "Hi"}]
            ) as stream,
        ):
            for _event in stream:
                pass
            return stream.get_final_message()


def blocks(message: Message) -> list[dict[str, Any]]:
    """The content as the client sends it back."""
    return [block.model_dump(exclude_none=True, mode="json") for block in message.content]


def sse_bytes(*events: dict[str, Any]) -> bytes:
    """Events of this form as a provider sends them."""
    return b"".join(
        b"event: %s\ndata: %s\n\n" % (event["type"].encode(), json.dumps(event).encode()) for event in events
    )


def joined(deltas: Iterable[dict[str, Any]], name: str) -> str:
    return "".join(delta["delta"].get(name, "") for delta in deltas if delta["type"] == "content_block_delta")
