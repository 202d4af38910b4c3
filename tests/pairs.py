"""Every client form before every provider dialect: one answer, said in each provider's words, and
what each form's official client makes of it.

An `Answer` is written once. `SPEAKERS` say it as the providers do, streamed and whole, without any
of the gateway's own code. `CLIENTS` ask for it with the official libraries, through a tap, and tell
what they accumulated in one vocabulary, `Told`. Whatever lies between is the gateway's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import anthropic
import httpx
import httpx2
import ollama
import openai
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types

from tests.dialects.anthropic import peer as anthropic_peer
from tests.dialects.openai_responses import peer as openai_responses_peer
from tests.gateways import WAIT_S, Running, gateway, one
from tests.official import Exchange, tap, validate
from tests.upstreams import Act, Scripted, provider, stream
from tests.upstreams import answer as whole_answer

# --- what is said ---------------------------------------------------------------------------------

FRESH, CACHED, OUTPUT, REASONED = 7, 5, 9, 3
"""Tokens of every answer of the corpus. `OUTPUT` includes `REASONED`."""
SIGNATURE = "EqQBCgIYAhIM+sig/w=="


@dataclass(frozen=True)
class Said:
    """A call: its arguments in the pieces that they come in."""

    id: str
    name: str
    pieces: tuple[str, ...]

    @property
    def arguments(self) -> Any:
        return json.loads("".join(self.pieces) or "{}")


@dataclass(frozen=True)
class Answer:
    """`end` is "stop", "calls", "length" or "refusal"; `broken` is "", "error" (told in the stream)
    or "cut" (it just ends).
    """

    text: tuple[str, ...] = ()
    thought: tuple[str, ...] = ()
    signature: str | None = None
    refusal: tuple[str, ...] = ()
    calls: tuple[Said, ...] = ()
    end: str = "stop"
    broken: str = ""


@dataclass
class Told:
    """What a client's library made of an answer. `said` is its text, and a refusal's words where
    the form tells them apart from text.
    """

    said: str = ""
    thought: str = ""
    calls: list[tuple[str, str, Any]] = field(default_factory=list[tuple[str, str, Any]])
    end: str = ""
    usage: tuple[int, int] = (0, 0)
    message: Any = None
    """The answer as this library's users send it back."""


# --- as the providers say it ----------------------------------------------------------------------


def _sse(events: Iterable[dict[str, Any]], *, named: bool = False) -> bytes:
    def one_event(event: dict[str, Any]) -> bytes:
        data = json.dumps(event, ensure_ascii=False).encode()
        return (b"event: %s\n" % event["type"].encode() if named else b"") + b"data: " + data + b"\n\n"

    return b"".join(one_event(event) for event in events)


def _escaped(data: bytes) -> bytes:
    """As Go's and Google's writers of JSON do: what Unicode calls the end of a line is escaped,
    since libraries split at it.
    """
    return data.replace("\u2028".encode(), rb"\u2028")


def chat(answer: Answer, model: str) -> tuple[bytes, bytes]:
    head = {"id": "chatcmpl-1", "created": 1764700000, "model": model}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
    detail = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    deltas += [
        {"reasoning": each, "reasoning_details": [{**detail, "text": each}]} for each in answer.thought
    ]
    if answer.signature:
        deltas.append({"reasoning_details": [{**detail, "signature": answer.signature}]})
    deltas += [{"content": piece} for piece in answer.text]
    deltas += [{"refusal": piece} for piece in answer.refusal]
    for n, call in enumerate(answer.calls):
        named = {
            "index": n,
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": ""},
        }
        deltas.append({"tool_calls": [named]})
    # The arguments of parallel calls may interleave, and here they do.
    for at in range(max((len(call.pieces) for call in answer.calls), default=0)):
        for n, call in enumerate(answer.calls):
            if at < len(call.pieces):
                deltas.append({"tool_calls": [{"index": n, "function": {"arguments": call.pieces[at]}}]})
    finish = {"stop": "stop", "calls": "tool_calls", "length": "length", "refusal": "stop"}[answer.end]
    usage = {
        "prompt_tokens": FRESH + CACHED,
        "completion_tokens": OUTPUT,
        "total_tokens": FRESH + CACHED + OUTPUT,
        "prompt_tokens_details": {"cached_tokens": CACHED},
        "completion_tokens_details": {"reasoning_tokens": REASONED},
    }

    def chunk(delta: dict[str, Any], end: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": end}
        return {**head, "object": "chat.completion.chunk", "choices": [choice], "usage": None}

    out = _sse(chunk(delta) for delta in deltas)
    if answer.broken == "error":
        fault = {"message": "Slow down", "type": "rate_limit_error", "param": None, "code": "slow"}
        out += _sse([{"error": fault}])
    elif not answer.broken:
        last: dict[str, Any] = {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}
        out += _sse([chunk({}, finish), last]) + b"data: [DONE]\n\n"
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(answer.text) or None,
        "refusal": "".join(answer.refusal) or None,
    }
    if answer.thought:
        message["reasoning"] = "".join(answer.thought)
        message["reasoning_details"] = [
            {**detail, "text": message["reasoning"]}
            | ({"signature": answer.signature} if answer.signature else {})
        ]
    if answer.calls:
        message["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": "".join(c.pieces)}}
            for c in answer.calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    body = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
    return out, json.dumps(body, ensure_ascii=False).encode()


def messages(answer: Answer, model: str) -> tuple[bytes, bytes]:
    usage = {
        "input_tokens": FRESH,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": CACHED,
        "output_tokens": OUTPUT,
        "output_tokens_details": {"thinking_tokens": REASONED},
    }
    head: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": model}
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]] = []
    """A block as it starts, its deltas, and the whole of it."""
    if answer.thought:
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in answer.thought]
        deltas.append({"type": "signature_delta", "signature": answer.signature or "c2ln"})
        whole = {
            "type": "thinking",
            "thinking": "".join(answer.thought),
            "signature": answer.signature or "c2ln",
        }
        blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, deltas, whole))
    if answer.text:
        deltas = [{"type": "text_delta", "text": piece} for piece in answer.text]
        blocks.append(({"type": "text", "text": ""}, deltas, {"type": "text", "text": "".join(answer.text)}))
    for call in answer.calls:
        start: dict[str, Any] = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in call.pieces]
        blocks.append((start, deltas, {**start, "input": call.arguments}))
    detail = {"type": "refusal", "category": "cyber", "explanation": "".join(answer.refusal)}
    end = {
        "stop_reason": {"stop": "end_turn", "calls": "tool_use", "length": "max_tokens"}.get(
            answer.end, "refusal"
        ),
        "stop_sequence": None,
        "stop_details": detail if answer.refusal else None,
    }
    begun: dict[str, Any] = {
        **head,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**usage, "output_tokens": 1},
    }
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    for index, (start, deltas, _) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    if answer.broken == "error":
        events.append({"type": "error", "error": {"type": "rate_limit_error", "message": "Slow down"}})
    elif not answer.broken:
        events += [{"type": "message_delta", "delta": end, "usage": usage}, {"type": "message_stop"}]
    body = {**head, "content": [whole for *_, whole in blocks], **end, "usage": usage}
    return _sse(events, named=True), json.dumps(body, ensure_ascii=False).encode()


def gemini(answer: Answer, model: str) -> tuple[bytes, bytes]:
    counted = {
        "promptTokenCount": FRESH + CACHED,
        "cachedContentTokenCount": CACHED,
        "candidatesTokenCount": OUTPUT - REASONED,
        "thoughtsTokenCount": REASONED,
        "totalTokenCount": FRESH + CACHED + OUTPUT,
    }
    parts: list[dict[str, Any]] = [{"text": piece, "thought": True} for piece in answer.thought]
    parts += [{"text": piece} for piece in (*answer.text, *answer.refusal)]
    made: list[dict[str, Any]] = [
        {"functionCall": {"id": c.id, "name": c.name, "args": c.arguments}} for c in answer.calls
    ]
    if answer.signature:
        (made or parts)[0]["thoughtSignature"] = answer.signature
    finish = {"length": "MAX_TOKENS", "refusal": "SAFETY"}.get(answer.end, "STOP")

    def chunk(said: list[dict[str, Any]], **end: Any) -> dict[str, Any]:
        candidate = {"content": {"parts": said, "role": "model"}, "index": 0, **end}
        return {
            "candidates": [candidate],
            "usageMetadata": counted,
            "modelVersion": model,
            "responseId": "r3sp0nse",
        }

    events = [chunk([part]) for part in parts]
    if made:
        events.append(chunk(made))
    if answer.broken == "error":
        events.append({"error": {"code": 503, "message": "Slow down", "status": "UNAVAILABLE"}})
    elif not answer.broken:
        events.append(chunk([{"text": ""}], finishReason=finish))
    joined = [
        {**group[0], "text": "".join(part["text"] for part in group)}
        for group in ([p for p in parts if p.get("thought")], [p for p in parts if not p.get("thought")])
        if group
    ]
    whole = json.dumps(chunk([*joined, *made], finishReason=finish), ensure_ascii=False).encode()
    return _escaped(_sse(events)), _escaped(whole)


def ollama_lines(answer: Answer, model: str) -> tuple[bytes, bytes]:
    head = {"model": model, "created_at": "2026-08-21T10:00:00.123456789Z"}
    calls = [
        {"id": c.id, "function": {"index": n, "name": c.name, "arguments": c.arguments}}
        for n, c in enumerate(answer.calls)
    ]
    said = [{"content": "", "thinking": piece} for piece in answer.thought]
    said += [{"content": piece} for piece in (*answer.text, *answer.refusal)]
    lines: list[dict[str, Any]] = [
        {**head, "message": {"role": "assistant", **each}, "done": False} for each in said
    ]
    if calls:
        message = {"role": "assistant", "content": "", "tool_calls": calls}
        lines.append({**head, "message": message, "done": False})
    end = {
        "done": True,
        "done_reason": "length" if answer.end == "length" else "stop",
        "total_duration": 5589157167,
        "prompt_eval_count": FRESH + CACHED,
        "eval_count": OUTPUT,
    }
    if answer.broken == "error":
        lines.append({"error": "Slow down"})
    elif not answer.broken:
        lines.append({**head, "message": {"role": "assistant", "content": ""}, **end})
    whole: dict[str, Any] = {"role": "assistant", "content": "".join((*answer.text, *answer.refusal))}
    if answer.thought:
        whole["thinking"] = "".join(answer.thought)
    if calls:
        whole["tool_calls"] = calls
    out = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
    body = json.dumps({**head, "message": whole, **end}, ensure_ascii=False).encode()
    return _escaped(out), _escaped(body)


def responses(answer: Answer, model: str) -> tuple[bytes, bytes]:
    head: dict[str, Any] = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1764700000,
        "model": model,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
    }
    usage = {
        "input_tokens": FRESH + CACHED,
        "input_tokens_details": {"cached_tokens": CACHED, "cache_write_tokens": 0},
        "output_tokens": OUTPUT,
        "output_tokens_details": {"reasoning_tokens": REASONED},
        "total_tokens": FRESH + CACHED + OUTPUT,
    }
    items: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []

    def tell(kind: str, **more: Any) -> None:
        events.append({"type": f"response.{kind}", **more})

    def add(item: dict[str, Any], empty: dict[str, Any]) -> dict[str, Any]:
        at = {"output_index": len(items)}
        items.append(item)
        tell("output_item.added", **at, item={**item, **empty})
        return {**at, "item_id": item["id"]}

    def done(where: dict[str, Any]) -> None:
        tell("output_item.done", output_index=where["output_index"], item=items[-1])

    tell("created", response={**head, "status": "in_progress", "output": [], "usage": None})
    tell("in_progress", response={**head, "status": "in_progress", "output": [], "usage": None})
    if answer.thought:
        summary = {"type": "summary_text", "text": "".join(answer.thought)}
        where = add(
            {
                "id": "rs_1",
                "type": "reasoning",
                "summary": [summary],
                "encrypted_content": answer.signature,
            },
            {"summary": [], "encrypted_content": None},
        )
        tell("reasoning_summary_part.added", **where, summary_index=0, part={**summary, "text": ""})
        for piece in answer.thought:
            tell("reasoning_summary_text.delta", **where, summary_index=0, delta=piece)
        tell("reasoning_summary_text.done", **where, summary_index=0, text=summary["text"])
        tell("reasoning_summary_part.done", **where, summary_index=0, part=summary)
        done(where)
    if answer.text or answer.refusal:
        kind, word = ("refusal", "refusal") if answer.refusal else ("output_text", "text")
        pieces = answer.refusal or answer.text
        part: dict[str, Any] = {"type": kind, word: "".join(pieces)}
        if not answer.refusal:
            part |= {"annotations": [], "logprobs": []}
        status = "incomplete" if answer.end == "length" else "completed"
        message = {"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": [part]}
        where = add(message, {"status": "in_progress", "content": []})
        more: dict[str, Any] = {} if answer.refusal else {"logprobs": []}
        tell("content_part.added", **where, content_index=0, part={**part, word: ""})
        for piece in pieces:
            tell(f"{kind}.delta", **where, content_index=0, delta=piece, **more)
        if not answer.broken:
            tell(f"{kind}.done", **where, content_index=0, **{word: "".join(pieces)}, **more)
            tell("content_part.done", **where, content_index=0, part=part)
            done(where)
    for n, call in enumerate(answer.calls):
        arguments = "".join(call.pieces)
        item = {"id": f"fc_{n}", "type": "function_call", "call_id": call.id, "name": call.name}
        where = add(
            {**item, "arguments": arguments, "status": "completed"},
            {"arguments": "", "status": "in_progress"},
        )
        for piece in call.pieces:
            tell("function_call_arguments.delta", **where, delta=piece)
        tell("function_call_arguments.done", **where, arguments=arguments, name=call.name)
        done(where)
    status = "incomplete" if answer.end == "length" else "completed"
    detail = {"reason": "max_output_tokens"} if answer.end == "length" else None
    body = {**head, "status": status, "incomplete_details": detail, "output": items, "usage": usage}
    if answer.broken == "error":
        fault = {"code": "rate_limit_exceeded", "message": "Slow down"}
        tell("failed", response={**head, "status": "failed", "error": fault, "output": [], "usage": None})
    elif not answer.broken:
        tell(status, response=body)
    numbered = [{**event, "sequence_number": n} for n, event in enumerate(events)]
    return _sse(numbered, named=True), json.dumps(body, ensure_ascii=False).encode()


Speaker = Callable[[Answer, str], tuple[bytes, bytes]]
SPEAKERS: Mapping[str, Speaker] = {
    "chat": chat,
    "messages": messages,
    "gemini": gemini,
    "ollama": ollama_lines,
    "responses": responses,
}
"""For each provider dialect the stream and the whole body of an answer."""
ROWS: Mapping[str, dict[str, Any]] = {
    "chat": {"type": "llamacpp", "quirks": {"reasoning_back": "reasoning_details"}},
    "messages": {"type": "anthropic", "api_key": "sk-ours"},
    "gemini": {"type": "gemini", "api_key": "sk-ours"},
    "ollama": {"type": "ollama"},
    "responses": {"type": "openai", "api_key": "sk-ours", "quirks": {"conversations": "responses"}},
}
"""The provider's table in the config."""
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
NDJSON = SSE.replace(b"text/event-stream", b"application/x-ndjson")


def played(dialect: str, data: bytes, *, piece: int = 61, end: bool = True) -> Act:
    """A stream, in pieces that end where no event does, and where a character may be in two of
    them.
    """
    pieces = [data[at : at + piece] for at in range(0, len(data), piece)]
    return stream(*pieces, head=NDJSON if dialect == "ollama" else SSE, end=end)


# --- as the official clients take it --------------------------------------------------------------


@dataclass
class Peers:
    """Each form's official client before one gateway, and what went through their taps."""

    openai: openai.AsyncOpenAI
    anthropic: anthropic.AsyncAnthropic
    genai: genai.Client
    ollama: ollama.AsyncClient
    exchanges: list[Exchange]

    @property
    def last(self) -> Exchange:
        return self.exchanges[-1]


class _OllamaTap(httpx.AsyncHTTPTransport):
    """The same tap, for the one library that is built on another HTTP client."""

    def __init__(self, exchanges: list[Exchange], **how: Any) -> None:
        super().__init__(**how)
        self._exchanges = exchanges

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        exchange = Exchange(cast("Any", request), response.status_code, cast("Any", response.headers))
        self._exchanges.append(exchange)
        inner = cast("httpx.AsyncByteStream", response.stream)

        class Tapped(httpx.AsyncByteStream):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                async for piece in inner:
                    exchange.body += piece
                    yield piece
                exchange.complete = True

            async def aclose(self) -> None:
                await inner.aclose()

        return httpx.Response(response.status_code, headers=response.headers, stream=Tapped())


@asynccontextmanager
async def peers(gw: Running) -> AsyncGenerator[Peers]:
    """The clients, over the Unix socket, as they come: nothing is retried, so that each thing asked
    is one exchange.
    """
    seen: list[Exchange] = []

    def http() -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=tap(seen, uds=gw.socket))

    options = genai_types.HttpOptions(
        base_url="http://localhost", async_client_args={"transport": tap(seen, uds=gw.socket)}
    )
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        google = genai.Client(api_key="guest", http_options=options)
        stack.push_async_callback(google.aio.aclose)
        stack.callback(google.close)
        lines = ollama.AsyncClient("http://localhost", transport=_OllamaTap(seen, uds=gw.socket))
        await enter(cast("httpx.AsyncClient", lines._client))
        yield Peers(
            await enter(
                openai.AsyncOpenAI(
                    base_url="http://localhost/v1", api_key="guest", http_client=http(), max_retries=0
                )
            ),
            await enter(
                anthropic.AsyncAnthropic(
                    base_url="http://localhost", api_key="guest", http_client=http(), max_retries=0
                )
            ),
            google,
            lines,
            seen,
        )


TOOLS = ("get_weather", "get_time")
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
_OPENAI_TOOLS = [
    {"type": "function", "function": {"name": n, "description": "A tool", "parameters": SCHEMA}}
    for n in TOOLS
]
_RESPONSES_TOOLS = [
    {"type": "function", "name": n, "description": "A tool", "parameters": SCHEMA, "strict": False}
    for n in TOOLS
]
_MESSAGES_TOOLS = [{"name": n, "description": "A tool", "input_schema": SCHEMA} for n in TOOLS]
_GEMINI_TOOLS = [
    genai_types.Tool(
        function_declarations=[
            genai_types.FunctionDeclaration(name=n, description="A tool", parameters_json_schema=SCHEMA)
            for n in TOOLS
        ]
    )
]


def arguments(text: str) -> Any:
    """A call's arguments; the bare text where an output limit cut them."""
    try:
        return json.loads(text)
    except ValueError:
        return text


class Broken(Exception):
    """The client's library showed that the answer broke."""


Ask = Callable[..., Awaitable[Told]]
"""`ask(peers, model, stream=..., history=None)`: one question, and what its client makes of the
answer. `history` is in the form's own words.
"""


async def ask_chat(clients: Peers, model: str, *, stream: bool, history: Any = None) -> Told:
    asked: dict[str, Any] = {
        "model": model,
        "messages": history
        or [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "tools": _OPENAI_TOOLS,
    }
    create: Any = clients.openai.chat.completions
    try:
        if stream:
            asked["stream_options"] = {"include_usage": True}
            async with create.stream(**asked) as events:
                async for _ in events:
                    pass
                try:
                    got = await events.get_final_completion()
                # It refuses to hand out what it would have to parse, but has it.
                except (openai.LengthFinishReasonError, openai.ContentFilterFinishReasonError):
                    got = events.current_completion_snapshot
        else:
            got = await create.create(**asked)
    except openai.APIConnectionError:
        raise
    except openai.APIError as error:
        raise Broken(str(error)) from error
    choice: Any = got.choices[0]
    message: Any = choice.message
    ends = {"tool_calls": "calls", "content_filter": "refusal"}
    end = ends.get(str(choice.finish_reason), str(choice.finish_reason))
    back = message.model_dump(exclude_none=True)
    for call in back.get("tool_calls", ()):
        call.pop("index", None)
        call["function"].pop("parsed_arguments", None)
    back.pop("parsed", None)
    return Told(
        (message.content or "") + (message.refusal or ""),
        getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None) or "",
        [
            (c.id, c.function.name, arguments(c.function.arguments))
            for c in cast("list[Any]", message.tool_calls or [])
        ],
        "refusal" if message.refusal else end,
        (got.usage.prompt_tokens, got.usage.completion_tokens),
        [back],
    )


async def ask_messages(clients: Peers, model: str, *, stream: bool, history: Any = None) -> Told:
    asked: dict[str, Any] = {
        "model": model,
        "max_tokens": 1000,
        "system": "Be brief.",
        "messages": history or [{"role": "user", "content": "Hi"}],
        "tools": _MESSAGES_TOOLS,
    }
    create: Any = clients.anthropic.messages
    try:
        if stream:
            async with create.stream(**asked) as events:
                async for _ in events:
                    pass
                got = await events.get_final_message()
        else:
            got = await create.create(**asked)
    except anthropic.APIConnectionError:
        raise
    except anthropic.APIError as error:
        raise Broken(str(error)) from error
    told = Told(
        message=[{"role": "assistant", "content": [b.model_dump(exclude_none=True) for b in got.content]}]
    )
    for block in got.content:
        match block.type:
            case "text":
                told.said += block.text
            case "thinking":
                told.thought += block.thinking
            case "tool_use":
                told.calls.append((block.id, block.name, block.input))
            case _:
                pass
    if not told.said and got.stop_details is not None:
        told.said = got.stop_details.explanation or ""
    ends = {"end_turn": "stop", "tool_use": "calls", "max_tokens": "length"}
    told.end = ends.get(str(got.stop_reason), str(got.stop_reason))
    used = got.usage
    taken = used.input_tokens + (used.cache_read_input_tokens or 0) + (used.cache_creation_input_tokens or 0)
    told.usage = (taken, used.output_tokens)
    return told


async def ask_gemini(clients: Peers, model: str, *, stream: bool, history: Any = None) -> Told:
    asked: dict[str, Any] = {
        "model": model,
        "contents": history or "Hi",
        "config": genai_types.GenerateContentConfig(
            system_instruction="Be brief.",
            tools=cast("Any", _GEMINI_TOOLS),
            automatic_function_calling=genai_types.AutomaticFunctionCallingConfig(disable=True),
        ),
    }
    create: Any = clients.genai.aio.models
    try:
        if stream:
            chunks: list[Any] = [chunk async for chunk in await create.generate_content_stream(**asked)]
        else:
            chunks = [await create.generate_content(**asked)]
    except genai_errors.APIError as error:
        raise Broken(str(error)) from error
    told = Told()
    parts: list[Any] = []
    for chunk in chunks:
        for candidate in cast("list[Any]", chunk.candidates or []):
            parts += cast("list[Any]", (candidate.content.parts if candidate.content else None) or [])
            if candidate.finish_reason is not None:
                told.end = {"STOP": "stop", "MAX_TOKENS": "length", "CONTINUATION": "length"}.get(
                    candidate.finish_reason.value, "refusal"
                )
        if chunk.usage_metadata is not None:
            used = chunk.usage_metadata
            made = (used.candidates_token_count or 0) + (used.thoughts_token_count or 0)
            told.usage = (used.prompt_token_count or 0, made)
    for part in parts:
        if part.function_call is not None:
            told.calls.append((part.function_call.id, part.function_call.name, part.function_call.args or {}))
        elif part.thought:
            told.thought += part.text or ""
        else:
            told.said += part.text or ""
    if not told.end:
        raise Broken("no finish reason")
    if not told.said:  # the library leaves this out, unless it talks to Vertex
        *_, last = answers_of(clients.last)
        told.said = last["candidates"][0].get("finishMessage", "")
    if told.calls and told.end == "stop":
        told.end = "calls"
    told.message = [genai_types.Content(role="model", parts=parts)]
    return told


async def ask_ollama(clients: Peers, model: str, *, stream: bool, history: Any = None) -> Told:
    asked: dict[str, Any] = {
        "model": model,
        "messages": history
        or [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "tools": _OPENAI_TOOLS,
    }
    create: Any = clients.ollama
    try:
        if stream:
            lines = [line async for line in await create.chat(**asked, stream=True)]
        else:
            lines = [await create.chat(**asked)]
    except ollama.ResponseError as error:
        raise Broken(str(error)) from error
    told = Told()
    made: list[Any] = []
    for line in lines:
        told.said += line.message.content or ""
        told.thought += line.message.thinking or ""
        made += line.message.tool_calls or []
    # The official types leave out a call's id, which Ollama itself has; it is read off the wire.
    ids = [
        call.get("id") for row in _json_lines(clients.last) for call in row["message"].get("tool_calls", ())
    ]
    told.calls = [
        (id_, c.function.name, dict(c.function.arguments)) for id_, c in zip(ids, made, strict=True)
    ]
    last = lines[-1]
    if not last.done:
        raise Broken("no last line")
    told.end = "calls" if made and last.done_reason == "stop" else last.done_reason
    told.usage = (last.prompt_eval_count or 0, last.eval_count or 0)
    said: dict[str, Any] = {"role": "assistant", "content": told.said}
    if told.thought:
        said["thinking"] = told.thought
    if made:
        said["tool_calls"] = [call.model_dump() for call in made]
    told.message = [said]
    return told


def _json_lines(exchange: Exchange) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in bytes(exchange.body).splitlines())


async def ask_responses(clients: Peers, model: str, *, stream: bool, history: Any = None) -> Told:
    asked: dict[str, Any] = {
        "model": model,
        "instructions": "Be brief.",
        "input": history or "Hi",
        "tools": _RESPONSES_TOOLS,
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }
    create: Any = clients.openai.responses
    try:
        if stream:
            async with create.stream(**asked) as events:
                kinds = [event async for event in events]
            last = kinds[-1]
            if last.type in {"response.failed", "error"}:
                raise Broken(str(last))
            assert last.type in {"response.completed", "response.incomplete"}, last.type
            got = last.response
        else:
            got = await create.create(**asked)
    except openai.APIConnectionError:
        raise
    except openai.APIError as error:
        raise Broken(str(error)) from error
    told = Told(message=[_sendable(item) for item in got.output])
    refused = False
    for item in got.output:
        match item.type:
            case "message":
                for part in item.content:
                    refused = refused or part.type == "refusal"
                    told.said += part.refusal if part.type == "refusal" else part.text
            case "reasoning":
                thoughts: list[Any] = [*item.summary, *(item.content or [])]
                told.thought += "".join(part.text for part in thoughts)
            case "function_call":
                told.calls.append((item.call_id, item.name, arguments(item.arguments)))
            case _:
                pass
    reason = got.incomplete_details.reason if got.incomplete_details else None
    told.end = "calls" if told.calls else "stop"
    if got.status == "incomplete":
        told.end = "length" if reason == "max_output_tokens" else "refusal"
    if refused:
        told.end = "refusal"
    told.usage = (got.usage.input_tokens, got.usage.output_tokens)
    return told


def _sendable(item: Any) -> dict[str, Any]:
    row: dict[str, Any] = item.model_dump(exclude_none=True, exclude_unset=True)
    row.pop("parsed_arguments", None)
    for part in row.get("content", ()) if row["type"] == "message" else ():
        part.pop("parsed", None)
    return row


CLIENTS: Mapping[str, Ask] = {
    "chat": ask_chat,
    "messages": ask_messages,
    "gemini": ask_gemini,
    "ollama": ask_ollama,
    "responses": ask_responses,
}


# --- both, with a gateway between -----------------------------------------------------------------


@dataclass
class World:
    """One gateway, a scripted provider for each dialect (its model bears the dialect's name), and
    the clients.
    """

    gw: Running
    clients: Peers
    providers: dict[str, Scripted]

    async def ask(
        self,
        form: str,
        dialect: str,
        *acts: Act,
        stream: bool = True,
        history: Any = None,
        model: str | None = None,
    ) -> Told:
        """What this form's client makes of it when the provider of this dialect does that."""
        self.providers[dialect].scripts[:] = acts
        self.providers[dialect].seen.clear()
        asked = CLIENTS[form](self.clients, model or f"m-{dialect}", stream=stream, history=history)
        return await asyncio.wait_for(asked, WAIT_S)

    def body(self, dialect: str) -> Any:
        return self.providers[dialect].seen[-1].json


def row(dialect: str, url: str, **more: Any) -> str:
    """The provider of this dialect at a scripted provider's URL."""
    settings: dict[str, Any] = {"models": f'["m-{dialect}"]', "name": dialect, **ROWS[dialect], **more}
    quirks: dict[str, Any] = settings.pop("quirks", {})
    base = url if settings["type"] in {"openai", "llamacpp"} else url.removesuffix("/v1")
    rows = "".join(f"{name} = {json.dumps(value)}\n" for name, value in quirks.items())
    return one(base, **settings) + (f"[providers.quirks]\n{rows}" if rows else "")


@asynccontextmanager
async def world(
    folder: Path, *dialects: str, rules: str = "", rows: Mapping[str, dict[str, Any]] = {}
) -> AsyncGenerator[World]:
    """`rows` adds to, or replaces, what each provider's table says."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        providers = {dialect: await enter(provider()) for dialect in dialects}
        config = "".join(row(dialect, up.url, **rows.get(dialect, {})) for dialect, up in providers.items())
        gw = await enter(gateway(config + rules, folder=folder))
        yield World(gw, await enter(peers(gw)), providers)


def spoken(dialect: str, answer: Answer, *, stream: bool) -> Act:
    """The answer, as a provider of this dialect gives it."""
    streamed, whole = SPEAKERS[dialect](answer, f"m-{dialect}")
    return played(dialect, streamed) if stream else whole_answer(whole)


def answers_of(exchange: Exchange) -> Sequence[Any]:
    """Every JSON value of what a client got."""
    text = bytes(exchange.body).decode()
    if exchange.headers["content-type"].startswith("text/event-stream"):
        return [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {")]
    return [json.loads(line) for line in text.split("\n") if line]


# --- what the wire itself must be, however lenient a library is -----------------------------------


def check(form: str, exchange: Exchange, *, ours: bool) -> None:
    """Hold every byte of an answer to the form's official types, strictly. Without `ours` they are
    a provider's, and the library's word is enough.
    """
    if not ours:
        return
    body = bytes(exchange.body)
    streamed = exchange.headers["content-type"].startswith("text/event-stream")
    match form:
        case "chat":
            validate(exchange)
        case "messages" if streamed:
            anthropic_peer.checked(body)
        case "messages":
            anthropic.types.Message.model_validate_json(body, strict=True)
        case "gemini":
            for each in answers_of(exchange):
                genai_types.GenerateContentResponse.model_validate(each)
        case "ollama":
            for line in answers_of(exchange):
                ollama.ChatResponse.model_validate(line, strict=True)
        case "responses" if streamed:
            openai_responses_peer.accepted_by_the_official_client(body)
        case _:
            openai_responses_peer.check_response(json.loads(body))
