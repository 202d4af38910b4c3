"""The way of one attempt through the wires: what goes up, and how what comes down becomes what the client reads.

Above it stands the gateway, which moves the bytes; below it the dialects. A passage is made for one Attempt and thrown away with it. Where client and provider
speak the same dialect the bytes pass and are only watched; across dialects they go through the hub, Call and Event. The gateway cannot tell the
two apart, and need not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from modelplex.call import Ask, Attempt, Call, Change, Completion, Embedding, Written
from modelplex.errors import ModelplexError, Unsupported, UpstreamBroken
from modelplex.event import (
    OUTPUT,
    Argued,
    Began,
    Ended,
    Event,
    Failed,
    Measured,
    Refused,
    Said,
    Thought,
    Usage,
)
from modelplex.wire import anthropic_messages, ollama, openai_chat, openai_completions, openai_embeddings
from modelplex.wire.ask import amended
from modelplex.wire.dialect import PassingDialect, ProviderDialect, Reader, Seen, Watch, Writer
from modelplex.wire.estimate import estimated

_PROVIDERS: dict[str, ProviderDialect] = {
    "openai_chat": openai_chat,
    "anthropic_messages": anthropic_messages,
    "ollama": ollama,
}
_PASSING: dict[str, PassingDialect] = {
    "chat/completions": openai_chat,
    "completions": openai_completions,
}


TEXT = (Said, Thought, Argued, Refused)
"""The output that is as many tokens as it is long."""


def provider_dialect(name: str) -> ProviderDialect:
    """The dialect that a provider speaks, by the name that its row gives it."""
    return _PROVIDERS[name]


class Passage(Protocol):
    """`body` goes up. Of a stream, `feed` and `end` give the bytes that go down; of a whole answer, `whole` does, or raises what it is instead.

    `has_output` is the point of no return. `failed` is set by `feed` or `end` where the answer broke: what they returned still goes down, if
    anything has, and then `in_stream_error` unless `error_was_forwarded`. `complete` tells that the end mark was seen.
    `media_type` is a stream's; empty where the answer is of a kind that nobody here reads, so that it goes down as it comes, whatever it is.
    """

    body: bytes
    changes: tuple[Change, ...]
    passing: bool
    media_type: str
    has_output: bool
    failed: ModelplexError | None
    error_was_forwarded: bool

    @property
    def seen(self) -> Seen: ...
    @property
    def complete(self) -> bool: ...
    def whole(self, body: bytes) -> bytes: ...
    def feed(self, data: bytes) -> bytes: ...
    def end(self) -> bytes: ...
    def ping(self) -> bytes: ...
    def in_stream_error(self, error: ModelplexError, request_id: str) -> bytes: ...


class _Fresh:
    """What every passage begins with."""

    passing = True
    media_type = "text/event-stream"
    body: bytes
    changes: tuple[Change, ...] = ()
    has_output = False
    failed: ModelplexError | None = None
    error_was_forwarded = False


class Passing(_Fresh):
    """Same dialect on both sides: bytes pass, a Watch looks on."""

    def __init__(self, ask: Ask, attempt: Attempt, dialect: PassingDialect) -> None:
        self.changes, self.body, asked_usage = amended(ask, attempt)
        self._ask = ask
        self._dialect = dialect
        self._watch: Watch | None = dialect.watch(ask, withhold_usage=asked_usage) if ask.stream else None
        self._seen = Seen()

    @property
    def seen(self) -> Seen:
        """What the provider did not count is estimated, of an answer that there was; the client gets what came."""
        seen = self._watch.seen if self._watch is not None else self._seen
        if seen.usage is not None or not (self.has_output or seen.finish):
            return seen
        return msgspec.structs.replace(seen, usage=estimated(self._ask, characters=seen.characters))

    @property
    def complete(self) -> bool:
        seen = self._watch.seen if self._watch is not None else self._seen
        return seen.finish is not None and seen.error is None

    def whole(self, body: bytes) -> bytes:
        seen = self._seen = self._dialect.look(body)
        if seen.error is not None:
            raise seen.error
        return body

    def feed(self, data: bytes) -> bytes:
        watch = self._watch
        assert watch is not None
        out = watch.feed(data)
        self.has_output = watch.has_output
        if watch.failed is not None:
            self._fail(watch)
        return out

    def end(self) -> bytes:
        watch = self._watch
        assert watch is not None
        out = watch.end()
        self.has_output = watch.has_output
        if watch.failed is not None:
            self._fail(watch)
        return out

    def _fail(self, watch: Watch) -> None:
        self.failed = watch.failed
        self.error_was_forwarded = watch.error_forwarded

    def ping(self) -> bytes:
        return b": ping\n\n"

    def in_stream_error(self, error: ModelplexError, request_id: str) -> bytes:
        return b"data: " + openai_chat.write_error(error, request_id=request_id)[1] + b"\n\n"


class Unread(_Fresh):
    """Same dialect, and an endpoint whose answers nobody here reads (images, audio, moderations): only model and key are ours."""

    media_type = ""
    complete = False
    """Nobody can tell where an unread answer ends, but its framing."""

    def __init__(self, ask: Ask, attempt: Attempt) -> None:
        self.changes, self.body, _ = amended(ask, attempt)
        self.seen = Seen(model=attempt.model)

    def whole(self, body: bytes) -> bytes:
        return body

    def feed(self, data: bytes) -> bytes:
        self.has_output = True
        return data

    def end(self) -> bytes:
        return b""

    def ping(self) -> bytes:
        return b""

    def in_stream_error(self, error: ModelplexError, request_id: str) -> bytes:
        """Nothing: an unread answer that breaks is cut, which its client sees."""
        del error, request_id
        return b""


class Embeddings(Unread):
    """Vectors: never streamed. The same dialect passes and is looked at; Ollama's are written anew."""

    media_type = "application/json"

    def __init__(self, ask: Ask, attempt: Attempt, asked: Embedding | None) -> None:
        super().__init__(ask, attempt)
        self._ask = ask
        self._asked = asked
        self._model = attempt.model
        if asked is not None:
            written = ollama.write_embedding(asked, attempt)
            self.body, self.changes, self.passing = written.body, written.changes, False

    def whole(self, body: bytes) -> bytes:
        if self._asked is None:
            self.seen = openai_embeddings.look(body)
            if self.seen.error is not None:
                raise self.seen.error
            if self.seen.usage is None:
                self.seen = msgspec.structs.replace(self.seen, usage=estimated(self._ask, characters=0))
            return body
        embedded = ollama.read_embedded(body)
        if embedded.usage.estimated:
            embedded = msgspec.structs.replace(embedded, usage=estimated(self._ask, characters=0))
        self.seen = Seen(model=embedded.model or self._model, usage=embedded.usage)
        return openai_embeddings.write_embedded(embedded, self._asked, self._model)


class Translating(_Fresh):
    """Two dialects: up through Call, down through Event. A stream has a reader and a writer, a whole answer has `read` and `write`."""

    passing = False

    def __init__(
        self,
        ask: Ask,
        written: Written,
        attempt: Attempt,
        *,
        reader: Reader | None = None,
        writer: Writer | None = None,
        read: Callable[[bytes], list[Event]] | None = None,
        write: Callable[[list[Event]], tuple[bytes, list[Change]]] | None = None,
    ) -> None:
        self.body = written.body
        self.changes = written.changes
        self.media_type = writer.media_type if writer is not None else "application/json"
        self._ask = ask
        self._characters = 0
        self._told = 0  # of the writer's losses, those that are among `changes`
        self._reader, self._writer = reader, writer
        self._read, self._write = read, write
        self._model: str = attempt.model
        self._usage: Usage | None = None
        self._finish: str | None = None

    @property
    def seen(self) -> Seen:
        usage = self._usage
        if usage is None and (self.has_output or self._finish is not None):
            usage = estimated(self._ask, characters=self._characters)
        return Seen(self._model, self._finish, usage, self.failed)

    @property
    def complete(self) -> bool:
        return self._finish is not None and self.failed is None

    def whole(self, body: bytes) -> bytes:
        assert self._read is not None
        assert self._write is not None
        events = self._read(body)
        for event in events:
            self._note(event)
        if self.failed is not None:
            raise self.failed
        if self._usage is None:  # every answer has usage, whoever counted it
            events = [*events, self._estimate()]
        out, changes = self._write(events)
        self.changes += tuple(changes)
        return out

    def feed(self, data: bytes) -> bytes:
        assert self._reader is not None
        return self._carry(self._reader.feed(data))

    def end(self) -> bytes:
        assert self._reader is not None
        assert self._writer is not None
        out = self._carry(self._reader.end())
        if self.failed is None and self._finish is None:
            self.failed = UpstreamBroken("The provider's answer ended before its end.")
        if self.failed is None:
            if self._usage is None:  # a client that asked for usage gets its one chunk (R13)
                out += self._writer.send(self._estimate())
            out += self._writer.end()
        self._keep_losses(self._writer)
        return out

    def _estimate(self) -> Measured:
        self._usage = estimated(self._ask, characters=self._characters)
        return Measured(self._usage)

    def _keep_losses(self, writer: Writer) -> None:
        self.changes += tuple(writer.changes[self._told :])
        self._told = len(writer.changes)

    def _carry(self, events: list[Event]) -> bytes:
        assert self._writer is not None
        out = b""
        for event in events:
            self._note(event)
            if self.failed is not None:
                break
            out += self._writer.send(event)
        if len(self._writer.changes) > self._told:  # at once: nobody knows whether there is an end
            self._keep_losses(self._writer)
        return out

    def _note(self, event: Event) -> None:
        if isinstance(event, OUTPUT):
            self.has_output = True
            if isinstance(event, TEXT):
                self._characters += len(event.text)
        elif isinstance(event, Measured):
            self._usage = event.usage
        elif isinstance(event, Ended):
            self._finish = event.reason
        elif isinstance(event, Failed):
            self.failed = event.error
        elif isinstance(event, Began):
            self._usage = event.usage or self._usage
            self._model = event.model or self._model

    def ping(self) -> bytes:
        return self._writer.ping() if self._writer is not None else b""

    def in_stream_error(self, error: ModelplexError, request_id: str) -> bytes:
        return self._writer.send(Failed(error)) if self._writer is not None else b""


class Asked:
    """One Ask and what was read of it, so that it is understood at most once however many candidates are tried.

    `id` and `created` (Unix seconds) are what an answer is called that its provider gave no name.
    """

    def __init__(self, ask: Ask, *, id: str, created: int) -> None:
        self.ask = ask
        self._id = id
        self._created = created
        self._call: Call | None = None
        self._completion: Completion | None = None
        self._embedding: Embedding | None = None

    @property
    def call(self) -> Call:
        """The chat call, understood. Raises BadRequest."""
        if self._call is None:
            self._call = openai_chat.read_call(self.ask)
        return self._call

    def passage(self, attempt: Attempt, *, call: Call | None = None) -> Passage:
        """The way to this candidate. `call` stands for the Ask where it had to be changed. Raises BadRequest or Unsupported."""
        ask = self.ask
        if attempt.dialect == "openai_chat" and call is None:
            if (looked_at := _PASSING.get(ask.endpoint)) is not None:
                return Passing(ask, attempt, looked_at)
            return Embeddings(ask, attempt, None) if ask.endpoint == "embeddings" else Unread(ask, attempt)
        if ask.endpoint == "chat/completions":
            return self._chat(call or self.call, attempt)
        if ask.endpoint == "completions" and attempt.dialect == "ollama":
            return self._continuation(attempt)
        if ask.endpoint == "embeddings" and attempt.dialect == "ollama":
            if self._embedding is None:
                self._embedding = openai_embeddings.read_embedding(ask)
            return Embeddings(ask, attempt, self._embedding)
        raise Unsupported(
            f"The provider {attempt.provider} has no {ask.endpoint}; ask for a model of one that does.",
            param="model",
        )

    def _chat(self, call: Call, attempt: Attempt) -> Passage:
        dialect = _PROVIDERS[attempt.dialect]
        written = dialect.write_call(call, attempt)
        name = attempt.model
        if call.stream:
            writer = openai_chat.writer(call, id=self._id, created=self._created, model=name)
            return Translating(
                self.ask, written, attempt, reader=dialect.reader(attempt, written), writer=writer
            )
        return Translating(
            self.ask,
            written,
            attempt,
            read=lambda body: dialect.read_answer(body, attempt, written),
            write=lambda events: openai_chat.write_answer(
                events, call, id=self._id, created=self._created, model=name
            ),
        )

    def _continuation(self, attempt: Attempt) -> Passage:
        if self._completion is None:
            self._completion = openai_completions.read_completion(self.ask)
        asked = self._completion
        written = ollama.write_completion(asked, attempt)
        name = attempt.model
        if asked.stream:
            writer = openai_completions.writer(asked, id=self._id, created=self._created, model=name)
            lines = ollama.completion_reader(attempt, written)
            return Translating(self.ask, written, attempt, reader=lines, writer=writer)
        return Translating(
            self.ask,
            written,
            attempt,
            read=lambda body: ollama.read_completion(body, attempt, written),
            write=lambda events: openai_completions.write_answer(
                events, asked, id=self._id, created=self._created, model=name
            ),
        )
