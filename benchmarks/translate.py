"""The cost of translation beside passthrough: CPU microseconds of the dialects on one core, in
this process: `make bench`, or `python -m benchmarks.translate` alone.

For each pair of dialects: a streamed chunk, and a 40 KB request (read, and written for the
provider). `benchmarks.run` measures the whole gateway.
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks import bodies
from modelplex.core.request import Attempt, RawRequest
from modelplex.dialects.parsed_request import ParsedRequest
from modelplex.dialects.raw_request import read_request

CHUNKS = 2000
BODIES = 60
ROUNDS = 5

Body = dict[str, Any]


def _sse(*events: Body, named: bool = False) -> list[bytes]:
    return [
        (b"event: %s\n" % e["type"].encode() if named else b"") + b"data: " + json.dumps(e).encode() + b"\n\n"
        for e in events
    ]


def _chat() -> list[bytes]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}

    def chunk(delta: Body, finish: str | None = None) -> Body:
        return {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    words = [chunk({"content": f" word{n}"}) for n in range(CHUNKS)]
    return [
        *_sse(chunk({"role": "assistant", "content": ""}), *words, chunk({}, "stop")),
        b"data: [DONE]\n\n",
    ]


def _messages() -> list[bytes]:
    usage = {"input_tokens": 1, "output_tokens": 1}
    message: Body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    words = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": f" word{n}"}}
        for n in range(CHUNKS)
    ]
    return _sse(
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *words,
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": usage,
        },
        {"type": "message_stop"},
        named=True,
    )


def _gemini() -> list[bytes]:
    def chunk(text: str, **end: str) -> Body:
        candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0, **end}
        counted = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
        return {"candidates": [candidate], "usageMetadata": counted, "modelVersion": "m", "responseId": "r"}

    return _sse(*(chunk(f" word{n}") for n in range(CHUNKS)), chunk("", finishReason="STOP"))


def _ollama() -> list[bytes]:
    head = {"model": "m", "created_at": "2026-08-21T10:00:00Z"}
    lines = [
        {**head, "message": {"role": "assistant", "content": f" word{n}"}, "done": False}
        for n in range(CHUNKS)
    ]
    last = {**head, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
    return [json.dumps(line).encode() + b"\n" for line in [*lines, last]]


def _responses() -> list[bytes]:
    answer = {"id": "resp_1", "object": "response", "created_at": 1, "status": "in_progress", "model": "m"}
    item: Body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "in_progress",
        "content": [],
    }
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    words: list[Body] = [
        {"type": "response.output_text.delta", **at, "delta": f" word{n}", "logprobs": []}
        for n in range(CHUNKS)
    ]
    part: Body = {"type": "output_text", "text": "", "annotations": []}
    events: list[Body] = [
        {"type": "response.created", "response": {**answer, "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **at, "part": part},
        *words,
        {"type": "response.completed", "response": {**answer, "status": "completed", "output": []}},
    ]
    return _sse(*({**event, "sequence_number": n} for n, event in enumerate(events)), named=True)


STREAMS: dict[str, Callable[[], list[bytes]]] = {
    "openai_chat": _chat,
    "anthropic_messages": _messages,
    "gemini": _gemini,
    "ollama": _ollama,
    "openai_responses": _responses,
}
"""A provider's stream in each dialect, as a list of events."""


def _said(request: Body) -> list[tuple[str, str]]:
    return [(each["role"], each["content"]) for each in request["messages"]]


def _tools(request: Body) -> list[Body]:
    return [tool["function"] for tool in request.get("tools", [])]


def _as_messages(chat: Body) -> Body:
    said = [{"role": role, "content": text} for role, text in _said(chat) if role != "system"]
    system = "".join(text for role, text in _said(chat) if role == "system")
    tools = [
        {"name": t["name"], "description": t["description"], "input_schema": t["parameters"]}
        for t in _tools(chat)
    ]
    return {"model": "m", "max_tokens": 100, "system": system, "messages": said, "tools": tools}


def _as_gemini(chat: Body) -> Body:
    said = [
        {"role": "model" if role == "assistant" else "user", "parts": [{"text": text}]}
        for role, text in _said(chat)
        if role != "system"
    ]
    tools = [
        {"name": t["name"], "description": t["description"], "parametersJsonSchema": t["parameters"]}
        for t in _tools(chat)
    ]
    return {"contents": said, "tools": [{"functionDeclarations": tools}]}


def _as_responses(chat: Body) -> Body:
    said = [{"type": "message", "role": role, "content": text} for role, text in _said(chat)]
    tools = [{"type": "function", "strict": False, **t} for t in _tools(chat)]
    return {"model": "m", "input": said, "tools": tools, "store": False}


REQUESTS: dict[str, Callable[[Body], Body]] = {
    "openai_chat": lambda chat: chat,
    "anthropic_messages": _as_messages,
    "gemini": _as_gemini,
    "ollama": lambda chat: chat,
    "openai_responses": _as_responses,
}
"""The same 40 KB conversation in each dialect."""


def ask(form: str, *, stream: bool) -> bytes:
    chat: Body = json.loads(bodies.body(bodies.PLAIN["40 KB"]))
    chat = {name: chat[name] for name in ("model", "messages", "tools") if name in chat}
    body = REQUESTS[form](chat)
    if form != "gemini":
        body = {**body, "stream": stream}
    return json.dumps(body, separators=(",", ":")).encode()


def read(form: str, body: bytes, *, stream: bool) -> RawRequest:
    return read_request(body, endpoint="chat/completions", dialect=form, model="m", stream=stream)


def chunk_us(form: str, dialect: str) -> float:
    """Microseconds per event of a stream, without its request."""
    asked = ParsedRequest(read(form, ask(form, stream=True), stream=True), id="mpx-1", created=1)
    events = STREAMS[dialect]()
    exchange = asked.exchange(Attempt("p", "m", dialect))
    began = time.process_time()
    for event in events:
        exchange.feed(event)
    exchange.end()
    spent = time.process_time() - began
    if exchange.failed is not None:
        raise RuntimeError(f"{form} before {dialect}: {exchange.failed}")
    return spent / len(events) * 1e6


def body_us(form: str, dialect: str) -> float:
    """Microseconds from a request's bytes to the bytes for the provider."""
    body = ask(form, stream=False)
    began = time.process_time()
    for _ in range(BODIES):
        ParsedRequest(read(form, body, stream=False), id="mpx-1", created=1).exchange(
            Attempt("p", "m", dialect)
        )
    return (time.process_time() - began) / BODIES * 1e6


def measure() -> dict[tuple[str, str], tuple[float, float]]:
    """The medians of a chunk and of a body, for each pair of dialects."""
    pairs = [(form, dialect) for form in REQUESTS for dialect in STREAMS]
    rounds = [{pair: (chunk_us(*pair), body_us(*pair)) for pair in pairs} for _ in range(ROUNDS)]
    return {
        pair: (
            statistics.median(each[pair][0] for each in rounds),
            statistics.median(each[pair][1] for each in rounds),
        )
        for pair in pairs
    }


def table() -> str:
    """A Markdown table."""
    measured = measure()
    lines = ["| client's form | provider's dialect | µs a chunk | µs a 40 KB body |", "|---|---|---:|---:|"]
    for (form, dialect), (chunk, body) in measured.items():
        lines.append(f"| {form} | {dialect if dialect != form else 'the same'} | {chunk:.1f} | {body:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
