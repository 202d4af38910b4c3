"""A dialect that nobody speaks, small and whole: both halves, passthrough, errors, models, policy.

A request is `{"model", "say", "stream"}`, a response `{"said", "tokens": [in, out]}`. A stream is
lines: `+text`, `#in out`, `.` for the end, `!sentence` for an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from modelplex.core.errors import (
    BadRequest,
    ModelplexError,
    RateLimited,
    Unsupported,
    UpstreamBroken,
    UpstreamReply,
)
from modelplex.core.events import (
    Event,
    ListedModel,
    ResponseEnded,
    ResponseFailed,
    TextDelta,
    Usage,
    UsageReported,
)
from modelplex.core.request import (
    Attempt,
    Change,
    ChatRequest,
    Message,
    ProviderRequest,
    RawRequest,
    TextPart,
)
from modelplex.dialects.core.ledger import Ledger
from modelplex.dialects.core.quota import Quota
from modelplex.dialects.dialect import (
    ClientDialect,
    Dialect,
    ObservedResponse,
    PassthroughDialect,
    ProviderDialect,
    StreamFraming,
)
from modelplex.dialects.form import CONVERSATION, ClientPath, Form
from modelplex.policy.containers import ObjectRule
from modelplex.policy.judge import PolicyTable
from modelplex.policy.leaves import FLAG, MODEL, TEXT
from modelplex.policy.value_rules import RefuseRule, StripRule

NAME = "toy"
LABEL = "text/x-toy"


# --- the client's half


def read_call(ask: RawRequest) -> ChatRequest:
    try:
        said = json.loads(bytes(ask.fields["say"]))
    except KeyError:
        raise BadRequest("The body has no 'say'.", param="say") from None
    messages = (Message("user", (TextPart(said),), path="say"),)
    return ChatRequest(dialect=NAME, model=ask.model, messages=messages, stream=ask.stream)


class Writer:
    media_type = LABEL

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def send(self, event: Event) -> bytes:
        match event:
            case TextDelta():
                return f"+{event.text}\n".encode()
            case UsageReported():
                return f"#{event.usage.input} {event.usage.output}\n".encode()
            case ResponseFailed():
                return f"!{event.error.message}\n".encode()
            case _:
                return b""

    def ping(self) -> bytes:
        return b""

    def end(self) -> bytes:
        return b".\n"


def writer(call: ChatRequest, *, id: str, created: int, model: str) -> Writer:
    del call, id, created, model
    return Writer()


def write_response(
    events: Sequence[Event], call: ChatRequest, *, id: str, created: int, model: str
) -> tuple[bytes, list[Change]]:
    del call, id, created, model
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    usage = next(event.usage for event in reversed(events) if isinstance(event, UsageReported))
    return json.dumps({"said": said, "tokens": [usage.input, usage.output]}).encode(), []


def write_error(error: ModelplexError, *, request_id: str) -> tuple[int, bytes]:
    return error.status, json.dumps({"wrong": error.message, "request": request_id}).encode()


# --- the provider's half


def write_call(call: ChatRequest, attempt: Attempt) -> ProviderRequest:
    said = [part.text for message in call.messages for part in message.parts if isinstance(part, TextPart)]
    if len(said) != sum(len(message.parts) for message in call.messages):
        raise Unsupported("This provider takes text only.")
    ledger = Ledger(call)
    body = {"model": attempt.model, "say": " ".join(said), "stream": call.stream}
    return ProviderRequest(json.dumps(body).encode(), ledger.settle())


def read_response(body: bytes, attempt: Attempt, written: ProviderRequest) -> list[Event]:
    del attempt, written
    found = observe(body)
    if found.error is not None:
        return [ResponseFailed(found.error)]
    assert found.usage is not None
    return [TextDelta(0, json.loads(body)["said"]), UsageReported(found.usage), ResponseEnded("stop")]


class Reader:
    def __init__(self) -> None:
        self.quota = Quota()
        self._kept = b""
        self._over = False

    def feed(self, data: bytes) -> list[Event]:
        *lines, self._kept = (self._kept + data).split(b"\n")
        return [event for line in lines for event in self._read(line.decode())]

    def _read(self, line: str) -> list[Event]:
        match line[:1]:
            case "+":
                return [TextDelta(0, line[1:])]
            case "#":
                return [UsageReported(_usage(line[1:].split()))]
            case "!":
                return [ResponseFailed(UpstreamBroken(line[1:]))]
            case _:
                self._over = True
                return [ResponseEnded("stop")]

    def end(self) -> list[Event]:
        return [] if self._over else [ResponseFailed(UpstreamBroken("The stream has no end."))]


def reader(attempt: Attempt, written: ProviderRequest) -> Reader:
    del attempt, written
    return Reader()


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> ModelplexError:
    kind = {400: BadRequest, 429: RateLimited}.get(status, UpstreamBroken)
    wait = headers.get("retry-after")
    return kind(
        json.loads(body)["wrong"],
        upstream=UpstreamReply(status=status, body=body),
        retry_after=None if wait is None else float(wait),
    )


def read_models(body: bytes) -> list[ListedModel]:
    return [ListedModel(name) for name in json.loads(body)["toys"]]


# --- passthrough


class Observer:
    def __init__(self) -> None:
        self.quota = Quota()
        self.has_output = False
        self.failed: ModelplexError | None = None
        self.error_forwarded = False
        self._reader = Reader()
        self._seen: dict[str, Any] = {}

    @property
    def observed(self) -> ObservedResponse:
        return ObservedResponse(**self._seen, error=self.failed)

    def feed(self, data: bytes) -> bytes:
        return self._observe(self._reader.feed(data), data)

    def end(self) -> bytes:
        return self._observe(self._reader.end(), b"")

    def _observe(self, events: list[Event], data: bytes) -> bytes:
        for event in events:
            match event:
                case TextDelta():
                    self.has_output = True
                case UsageReported():
                    self._seen["usage"] = event.usage
                case ResponseEnded():
                    self._seen["finish"] = event.reason
                case ResponseFailed():
                    self.failed, self.error_forwarded = event.error, self.has_output and bool(data)
                case _:
                    pass
        return data if self.failed is None or self.has_output else b""


def observer(raw_request: RawRequest, *, withhold_usage: bool) -> Observer:
    del raw_request, withhold_usage
    return Observer()


def observe(body: bytes) -> ObservedResponse:
    try:
        answer = json.loads(body)
        return ObservedResponse(finish="stop", usage=_usage(answer["tokens"]))
    except (ValueError, KeyError):
        return ObservedResponse(error=UpstreamBroken("This is no response."))


def _usage(tokens: Sequence[Any]) -> Usage:
    return Usage(fresh=int(tokens[0]), output=int(tokens[1]))


FORM = Form(
    name=NAME,
    bases=("/toy/",),
    paths={"talk": ClientPath("chat/completions")},
    endpoint="chat/completions",
    served_as=CONVERSATION,
    passes=True,
    converses=True,
)
TOY = Dialect(
    form=FORM,
    policy=PolicyTable(
        ObjectRule(
            {
                "model": MODEL,
                "say": TEXT,
                "stream": FLAG,
                "owner": StripRule("identity"),
                "fetch": RefuseRule("web-fetch"),
            }
        )
    ),
    stream="by_default",
    client=ClientDialect(read_call=read_call, write_response=write_response, writer=writer),
    provider=ProviderDialect(
        write_call=write_call,
        read_response=read_response,
        reader=reader,
        read_error=read_error,
        read_models=read_models,
    ),
    passthrough=PassthroughDialect(
        observer=observer,
        observe=observe,
        framing=StreamFraming(LABEL, b"", lambda error, _: f"!{error.message}\n".encode()),
    ),
    write_error=write_error,
    request_id_header=b"toy-id",
    write_models=lambda known: json.dumps({"toys": list(known)}).encode(),
    write_model=lambda name, owner: json.dumps({"toy": name, "owner": owner}).encode(),
)
