"""Scripted providers that play an agent's two turns: a request that has tools is told to call one, and once the result is there, the answer is a text.

Each speaks one dialect, written here by hand and not by the product. A request without tools (a title, a summary, a warm-up) gets a text alone.
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
"""The last turn's text, in the pieces that it is streamed in."""
ASIDE = "A short title"
NDJSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass
class Play:
    """What the model does: one call, or no call at all and a text (`said`). The tool is the first that is offered of `tools`."""

    tools: dict[str, dict[str, Any]]
    said: str = ""
    offered: list[list[str]] = field(default_factory=list[list[str]])
    results: list[str] = field(default_factory=list[str])
    answers: int = 0
    """How often the last turn was given."""

    def turn(self, *, offered: list[str], result: str | None, last_is_result: bool) -> tuple[str, Any]:
        """("call", (name, arguments)) or ("text", pieces)."""
        self.offered.append(offered)
        if result is not None:
            self.results.append(result)
        if last_is_result:
            self.answers += 1
            return "text", FINAL
        for name, arguments in self.tools.items():
            if name in offered:
                return "call", (name, arguments)
        if self.said and not self.tools:
            self.answers += 1
            return "text", (self.said, *FINAL)
        return "text", (ASIDE,)


@asynccontextmanager
async def playing(dialect: Dialect, play: Play) -> AsyncGenerator[Scripted]:
    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = scripted.seen[-1]
        await _ACTS[dialect](asked.target, asked.json, play)(reader, writer)

    async with provider(act) as scripted:
        if dialect in {"ollama", "anthropic"}:
            scripted.url = scripted.url.removesuffix("/v1")
        yield scripted


def _texts(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


# --- OpenAI chat


def _openai(target: str, body: dict[str, Any], play: Play) -> Any:
    messages = body["messages"]
    results = [m for m in messages if m["role"] == "tool"]
    kind, what = play.turn(
        offered=[tool["function"]["name"] for tool in body.get("tools", ()) if tool["type"] == "function"],
        result=_texts(results[-1]["content"]) if results else None,
        last_is_result=messages[-1]["role"] == "tool",
    )
    usage = {"prompt_tokens": 30, "completion_tokens": 7, "total_tokens": 37}
    if kind == "call":
        name, arguments = what
        function = {"name": name, "arguments": json.dumps(arguments)}
        call = {"index": 0, "id": "call_up1", "type": "function", "function": function}
        half = len(function["arguments"]) // 2
        deltas: list[dict[str, Any]] = [
            {"tool_calls": [call | {"function": {"name": name, "arguments": ""}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": function["arguments"][:half]}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": function["arguments"][half:]}}]},
        ]
        message: dict[str, Any] = {"content": None, "tool_calls": [call]}
    else:
        deltas = [{"content": text} for text in what]
        message = {"content": "".join(what)}
    finish = "tool_calls" if kind == "call" else "stop"
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
    results = [b for b in blocks if b["type"] == "tool_result"]
    last: Any = body["messages"][-1]["content"]
    kind, what = play.turn(
        offered=[tool["name"] for tool in body.get("tools", ())],
        result=_texts(results[-1].get("content", "")) if results else None,
        last_is_result=not isinstance(last, str) and last[0]["type"] == "tool_result",
    )
    usage = {"input_tokens": 30, "output_tokens": 7}
    if kind == "call":
        name, arguments = what
        blocks = [{"type": "tool_use", "id": "toolu_up1", "name": name, "input": arguments}]
    else:
        blocks = [{"type": "text", "text": "".join(what)}]
    reason = "tool_use" if kind == "call" else "end_turn"
    head = {"id": "msg_up", "type": "message", "role": "assistant", "model": body["model"]}
    if not body.get("stream"):
        return answer(
            {**head, "content": blocks, "stop_reason": reason, "stop_sequence": None, "usage": usage}
        )
    if kind == "call":
        text = json.dumps(blocks[0]["input"])
        begun: dict[str, Any] = blocks[0] | {"input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", text[:7], text[7:])]
    else:
        begun = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": text} for text in what]
    begin: dict[str, Any] = {
        **head,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": begin},
        {"type": "content_block_start", "index": 0, "content_block": begun},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]
    return stream(*(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events))


# --- Ollama


def _ollama(target: str, body: dict[str, Any], play: Play) -> Any:
    messages = body["messages"]
    results = [m for m in messages if m["role"] == "tool"]
    kind, what = play.turn(
        offered=[tool["function"]["name"] for tool in body.get("tools", ())],
        result=results[-1]["content"] if results else None,
        last_is_result=messages[-1]["role"] == "tool",
    )
    head = {"model": body["model"], "created_at": "2026-01-02T03:04:05Z"}
    if kind == "call":
        name, arguments = what
        said: list[dict[str, Any]] = [
            {"content": "", "tool_calls": [{"function": {"name": name, "arguments": arguments}}]}
        ]
    else:
        said = [{"content": text} for text in what]
    end = {"done": True, "done_reason": "stop", "prompt_eval_count": 30, "eval_count": 7}
    if not body.get("stream", True):
        whole = {"content": "".join(each["content"] for each in said)}
        message = {"role": "assistant", **said[0], **whole}
        return answer({**head, "message": message, **end})
    lines = [{**head, "message": {"role": "assistant", **each}, "done": False} for each in said]
    lines.append({**head, "message": {"role": "assistant", "content": ""}, **end})
    return stream(*(json.dumps(line).encode() + b"\n" for line in lines), head=NDJSON)


_ACTS: dict[str, Any] = {"openai": _openai, "anthropic": _anthropic, "ollama": _ollama}
