"""Scripted providers of an agent's two turns: to a request with tools, the model sends thinking, a
text and two parallel calls of one tool; to their results, a text.

Each dialect is written here by hand and not by the product. A request without tools (a title, a
summary, a warm-up) gets a text only.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.upstreams import Scripted, answer, provider, stream

Dialect = Literal["openai", "anthropic", "ollama"]
FINAL = ("The marker ", "is written: ", "modelplex-äöü-done.")
"""The chunks of the last turn's text."""
TOO_LONG: dict[Dialect, dict[str, Any]] = {
    "openai": {
        "error": {
            "message": "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        }
    },
    "anthropic": {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": "prompt is too long: 210000 tokens > 200000 maximum",
        },
    },
    "ollama": {"error": "the input length exceeds the context length"},
}
"""What each says of a conversation that is too long: dialects/core/context_overflow.toml has their
pages.
"""
ASIDE = "A short title"
THOUGHT, SIGNATURE, WORD = "First the marker, then the answer.", "EqQBCgIYAhIM+sig/one==", "I write it."
NDJSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass
class Play:
    """Two calls of the first offered of `tools`, or only a text; then a text, or the call `ends`.
    The second call has the arguments of `seconds`, or the same. `results` and `thoughts` (with
    their signatures) are those of the last request that had any, `answered` the ids of the results.
    """

    tools: dict[str, dict[str, Any]]
    seconds: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]], kw_only=True)
    text: str = ""
    ends: tuple[str, dict[str, Any]] | None = None
    offered: list[list[str]] = field(default_factory=list[list[str]])
    results: list[str] = field(default_factory=list[str])
    answered: list[str] = field(default_factory=list[str], kw_only=True)
    thoughts: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    request: dict[str, Any] = field(default_factory=dict[str, Any])
    """The last one."""
    answers: int = 0
    """How often the last turn was sent."""
    verdict: str = field(default="", kw_only=True)
    """What Anthropic's check of calls finds, where a request asks for one; "" where it has none."""

    def turn(self, *, offered: list[str], results: list[str], last_is_result: bool) -> tuple[str, Any]:
        """("calls", (name, arguments of each)) or ("text", pieces)."""
        self.offered.append(offered)
        self.results = results or self.results
        if last_is_result:
            self.answers += 1
            return ("calls", (self.ends[0], [self.ends[1]])) if self.ends is not None else ("text", FINAL)
        for name, arguments in self.tools.items():
            if name in offered:
                return "calls", (name, [arguments, self.seconds.get(name, arguments)])
        if self.text and not self.tools:
            self.answers += 1
            return "text", (self.text, *FINAL)
        return "text", (ASIDE,)

    def is_too_long(self, body: dict[str, Any]) -> bool:
        """Whether this request is refused as longer than the model's context."""
        return False


SUMMARY = "A summary: the marker was asked for."


@dataclass
class LongPlay(Play):
    """The second request with tools is too long. After it, the first request whose last message
    asks for a summary gets one, and each other one the last text.
    """

    refusal: tuple[int, dict[str, Any]] | None = field(default=None, kw_only=True)
    """Status and body, where it is not the usual one of the dialect."""
    asked: int = 0
    has_refused: bool = False
    summaries: int = 0
    last: str = ""

    def is_too_long(self, body: dict[str, Any]) -> bool:
        self.last = json.dumps(body["messages"][-1])
        if self.has_refused or not body.get("tools"):
            return False
        self.asked += 1
        self.has_refused = self.asked == 2
        return self.has_refused

    def turn(self, *, offered: list[str], results: list[str], last_is_result: bool) -> tuple[str, Any]:
        if not self.has_refused:
            return super().turn(offered=offered, results=results, last_is_result=last_is_result)
        if not self.summaries and "summary" in self.last.casefold():
            self.summaries += 1
            return "text", (SUMMARY,)
        self.answers += 1
        return "text", FINAL


@asynccontextmanager
async def playing(dialect: Dialect, play: Play) -> AsyncGenerator[Scripted]:
    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = scripted.seen[-1]
        play.request = request.json
        if play.is_too_long(request.json):
            refusal = play.refusal if isinstance(play, LongPlay) else None
            status, body = refusal or (400, TOO_LONG[dialect])
            await answer(body, status=status)(reader, writer)
            return
        await _ACTS[dialect](request.target, request.json, play)(reader, writer)

    async with provider(act) as scripted:
        if dialect in {"ollama", "anthropic"}:
            scripted.url = scripted.url.removesuffix("/v1")
        yield scripted


def _texts(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


# --- OpenAI chat


def _openai(target: str, body: dict[str, Any], play: Play) -> Any:
    messages = body["messages"]
    play.answered = [m["tool_call_id"] for m in messages if m["role"] == "tool"] or play.answered
    kind, what = play.turn(
        offered=[tool["function"]["name"] for tool in body.get("tools", ()) if tool["type"] == "function"],
        results=[_texts(m["content"]) for m in messages if m["role"] == "tool"],
        last_is_result=messages[-1]["role"] == "tool",
    )
    usage = {"prompt_tokens": 30, "completion_tokens": 7, "total_tokens": 37}
    if kind != "text":
        name, texts = what[0], [json.dumps(arguments) for arguments in what[1]]
        calls: list[dict[str, Any]] = [
            {
                "index": n,
                "id": f"call_up{len(play.offered)}{n}",
                "type": "function",
                "function": {"name": name, "arguments": text},
            }
            for n, text in enumerate(texts)
        ]
        deltas: list[dict[str, Any]] = [{"reasoning_content": THOUGHT}, {"content": WORD}]
        for n, (call, text) in enumerate(zip(calls, texts, strict=True)):
            half = len(text) // 2
            pieces = ({"arguments": text[:half]}, {"arguments": text[half:]})
            deltas.append({"tool_calls": [call | {"function": {"name": name, "arguments": ""}}]})
            deltas += [{"tool_calls": [{"index": n, "function": piece}]} for piece in pieces]
        message: dict[str, Any] = {"content": WORD, "reasoning_content": THOUGHT, "tool_calls": calls}
    else:
        deltas = [{"content": text} for text in what]
        message = {"content": "".join(what)}
    finish = "tool_calls" if kind != "text" else "stop"
    head = {"id": "chatcmpl-up", "created": 1_700_000_000, "model": body["model"]}
    if not body.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
        return answer({**head, "object": "chat.completion", "choices": [choice], "usage": usage})

    def chunk(choices: list[Any], **more: Any) -> bytes:
        event = {**head, "object": "chat.completion.chunk", "choices": choices, **more}
        return b"data: " + json.dumps(event).encode() + b"\n\n"

    return stream(
        chunk([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]),
        *(chunk([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in deltas),
        chunk([{"index": 0, "delta": {}, "finish_reason": finish}]),
        chunk([], usage=usage),
        b"data: [DONE]\n\n",
    )


# --- Anthropic Messages


def _anthropic(target: str, body: dict[str, Any], play: Play) -> Any:
    if target.partition("?")[0].endswith("count_tokens"):
        return answer({"input_tokens": 30})
    blocks = [b for m in body["messages"] if isinstance(m["content"], list) for b in m["content"]]
    thoughts = [(b["thinking"], b["signature"]) for b in blocks if b["type"] == "thinking"]
    play.thoughts = thoughts or play.thoughts
    play.answered = [b["tool_use_id"] for b in blocks if b["type"] == "tool_result"] or play.answered
    last: Any = body["messages"][-1]["content"]
    kind, what = play.turn(
        offered=[tool["name"] for tool in body.get("tools", ())],
        results=[_texts(b.get("content", "")) for b in blocks if b["type"] == "tool_result"],
        last_is_result=not isinstance(last, str) and last[0]["type"] == "tool_result",
    )
    usage = {"input_tokens": 30, "output_tokens": 7}
    if kind != "text":
        name, calls = what
        blocks = [
            {"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE},
            {"type": "text", "text": WORD},
            *(
                {
                    "type": "tool_use",
                    "id": f"toolu_up{len(play.offered)}{n}",
                    "name": name,
                    "input": arguments,
                }
                for n, arguments in enumerate(calls)
            ),
        ]
    else:
        blocks = [{"type": "text", "text": "".join(what)}]
    ended: dict[str, Any] = {
        "stop_reason": "tool_use" if kind != "text" else "end_turn",
        "stop_sequence": None,
    }
    if play.verdict and "safeguards" in body:
        found = {"type": "evaluated", "outcome": play.verdict}
        uses = {block["id"]: found for block in blocks if block["type"] == "tool_use"}
        status = {"type": "available", "tool_uses": uses}
        ended["safeguard_results"] = [{"type": body["safeguards"][0]["type"], "status": status}]
    head = {
        "id": f"msg_up{len(play.offered)}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
    }
    if not body.get("stream"):
        return answer({**head, "content": blocks, **ended, "usage": usage})
    begin: dict[str, Any] = {
        **head,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": begin},
        *(event for n, block in enumerate(blocks) for event in _block(n, block, what)),
        {"type": "message_delta", "delta": ended, "usage": usage},
        {"type": "message_stop"},
    ]
    return stream(*(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events))


def _block(index: int, block: dict[str, Any], pieces: Any) -> list[dict[str, Any]]:
    match block["type"]:
        case "thinking":
            begun: dict[str, Any] = block | {"thinking": "", "signature": ""}
            deltas = [
                {"type": "thinking_delta", "thinking": THOUGHT},
                {"type": "signature_delta", "signature": SIGNATURE},
            ]
        case "tool_use":
            text = json.dumps(block["input"])
            begun = block | {"input": {}}
            deltas = [
                {"type": "input_json_delta", "partial_json": piece} for piece in ("", text[:7], text[7:])
            ]
        case _:
            begun = block | {"text": ""}
            texts = [WORD] if block["text"] == WORD else pieces
            deltas = [{"type": "text_delta", "text": text} for text in texts]
    return [
        {"type": "content_block_start", "index": index, "content_block": begun},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


# --- Ollama


def _ollama(target: str, body: dict[str, Any], play: Play) -> Any:
    messages = body["messages"]
    kind, what = play.turn(
        offered=[tool["function"]["name"] for tool in body.get("tools", ())],
        results=[m["content"] for m in messages if m["role"] == "tool"],
        last_is_result=messages[-1]["role"] == "tool",
    )
    head = {"model": body["model"], "created_at": "2026-01-02T03:04:05Z"}
    if kind != "text":
        made = [{"function": {"name": what[0], "arguments": arguments}} for arguments in what[1]]
        chunks: list[dict[str, Any]] = [
            {"content": "", "thinking": THOUGHT},
            {"content": WORD},
            *({"content": "", "tool_calls": [call]} for call in made),
        ]
    else:
        chunks = [{"content": text} for text in what]
    end = {"done": True, "done_reason": "stop", "prompt_eval_count": 30, "eval_count": 7}
    if not body.get("stream", True):
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(each["content"] for each in chunks),
        }
        if kind != "text":
            calls = [call for each in chunks for call in each.get("tool_calls", ())]
            message |= {"thinking": THOUGHT, "tool_calls": calls}
        return answer({**head, "message": message, **end})
    lines = [{**head, "message": {"role": "assistant", **each}, "done": False} for each in chunks]
    lines.append({**head, "message": {"role": "assistant", "content": ""}, **end})
    return stream(*(json.dumps(line).encode() + b"\n" for line in lines), head=NDJSON)


_ACTS: dict[str, Any] = {"openai": _openai, "anthropic": _anthropic, "ollama": _ollama}
