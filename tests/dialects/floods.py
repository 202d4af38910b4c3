"""Streams of a provider that never come to an end, in pieces: what each keeps a gateway busy with.

A flood is a generator; who reads it takes as much as it likes. All of a flood's pieces are what its
provider may send by the letter of its protocol, or nearly so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

Flood = Callable[[], Iterator[bytes]]
WORD = "word " * 100
"""Half a KB of text."""


def _sse(data: Any, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def _after(*first: bytes) -> Callable[[Flood], Flood]:
    def begun(flood: Flood) -> Flood:
        def pieces() -> Iterator[bytes]:
            yield from first
            yield from flood()

        return pieces

    return begun


def _forever(make: Callable[[int], bytes]) -> Flood:
    return lambda: (make(n) for n in count())


# --- what all streams of events have in common

FRAMES: dict[str, Flood] = {
    "blank lines": _forever(lambda _: b"\n" * 4096),
    "blank lines of two bytes": _forever(lambda _: b"\r\n" * 4096),
    "comments": _forever(lambda _: b": " + WORD.encode() + b"\n\n"),
    "comments in one event": _forever(lambda _: b": " + WORD.encode() + b"\n"),
    "fields": _forever(lambda n: b"id: %d\n" % n * 64),
    "names": _forever(lambda n: b"event: e%d\n" % n * 64),
    "unknown fields": _forever(lambda n: b"x%d: 1\n" % n * 64),
    "a line without an end": _after(b"data: ")(_forever(lambda _: WORD.encode())),
    "empty data lines": _forever(lambda _: b"data:\n" * 256),
    "data lines": _forever(lambda _: b"data: " + WORD.encode() + b"\n"),
    "empty events": _forever(lambda _: b"data:\n\n" * 256),
}

# --- OpenAI chat completions


def _chat(delta: Any, index: int = 0) -> bytes:
    return _sse({"id": "c", "model": "m", "choices": [{"index": index, "delta": delta}]})


def _call(n: int, arguments: str, *, name: str | None = "f") -> dict[str, Any]:
    return {
        "tool_calls": [
            {
                "index": n,
                "id": f"c{n}",
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
        ]
    }


def _more(text: str, n: int = 0) -> dict[str, Any]:
    return {"tool_calls": [{"index": n, "function": {"arguments": text}}]}


CHAT: dict[str, Flood] = {
    "arguments": _after(_chat(_call(0, '{"a":"')))(_forever(lambda _: _chat(_more(WORD)))),
    "arguments of no tool": _forever(lambda _: _chat(_more(WORD))),
    "calls": _forever(lambda n: _chat(_call(n, "{}"))),
    "half calls": _forever(lambda n: _chat(_call(n, "{"))),
    "calls without names": _forever(lambda n: _chat(_call(n, "{}", name=None))),
    "calls of one index": _forever(
        lambda n: _chat(
            {"tool_calls": [{"index": 0, "id": f"c{n}", "function": {"name": "f", "arguments": "{"}}]}
        )
    ),
    "calls and a long one": _after(_chat(_call(0, '{"a":"' + WORD * 100)))(
        _forever(lambda n: _chat(_call(n + 1, "{")) + _chat(_more("}")))
    ),
    "old calls": _after(_chat({"function_call": {"name": "f", "arguments": '{"a":"'}}))(
        _forever(lambda _: _chat({"function_call": {"arguments": WORD}}))
    ),
    "sealed reasoning": _forever(
        lambda n: _chat(
            {"reasoning_details": [{"type": "reasoning.encrypted", "data": f"{n}{WORD}", "index": n}]}
        )
    ),
    "signatures": _forever(
        lambda n: _chat({"extra_content": {"google": {"thought_signature": f"{n}{WORD}"}}})
    ),
    "choices": _forever(lambda n: _chat({"content": "x"}, index=n)),
    "a choice far out": _after(_chat({"content": "x"}, index=10**9))(
        _forever(lambda _: _chat({"content": WORD}))
    ),
    "citations": _forever(
        lambda n: _chat(
            {
                "content": "x",
                "annotations": [
                    {"type": "url_citation", "url_citation": {"url": f"https://a/{n}", "title": WORD}}
                ],
            }
        )
    ),
    "empty chunks": _forever(lambda _: _sse({"id": "c", "model": "m", "choices": [], "x": WORD})),
}

# --- OpenAI Responses


def _response(kind: str, **members: Any) -> bytes:
    return _sse({"type": kind, **members}, kind)


_BEGUN = _response("response.created", response={"id": "resp_1", "status": "in_progress", "model": "m"})


def _item(n: int, **members: Any) -> bytes:
    item = {"type": "function_call", "id": f"fc_{n}", "call_id": f"c{n}", "name": "f", **members}
    return _response("response.output_item.added", output_index=n, item=item)


RESPONSES: dict[str, Flood] = {
    "arguments": _after(_BEGUN, _item(0))(
        _forever(
            lambda _: _response(
                "response.function_call_arguments.delta", output_index=0, item_id="fc_0", delta=WORD
            )
        )
    ),
    "calls": _after(_BEGUN)(_forever(_item)),
    "names of items": _after(_BEGUN)(
        _forever(lambda n: _response("response.output_text.delta", item_id=f"m{n}", delta="x"))
    ),
    "thoughts of one item": _after(_BEGUN)(
        _forever(
            lambda n: _response(
                "response.reasoning_summary_text.delta",
                output_index=0,
                item_id="r",
                summary_index=n,
                delta="x",
            )
        )
    ),
    "sealed reasoning": _after(_BEGUN)(
        _forever(
            lambda n: _response(
                "response.output_item.done",
                output_index=n,
                item={
                    "type": "reasoning",
                    "id": f"r{n}",
                    "summary": [],
                    "encrypted_content": f"{n}{WORD}",
                },
            )
        )
    ),
}

# --- Anthropic Messages


def _event(kind: str, **members: Any) -> bytes:
    return _sse({"type": kind, **members}, kind)


_START = _event(
    "message_start",
    message={"id": "msg_1", "model": "m", "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}},
)


def _block(n: int, **block: Any) -> bytes:
    return _event("content_block_start", index=n, content_block=block)


def _delta(n: int, **delta: Any) -> bytes:
    return _event("content_block_delta", index=n, delta=delta)


MESSAGES: dict[str, Flood] = {
    "arguments": _after(_START, _block(0, type="tool_use", id="c", name="f", input={}))(
        _forever(lambda _: _delta(0, type="input_json_delta", partial_json=WORD))
    ),
    "blocks": _after(_START)(_forever(lambda n: _block(n, type="tool_use", id=f"c{n}", name="f", input={}))),
    "closed blocks": _after(_START)(
        _forever(
            lambda n: (
                _block(n, type="tool_use", id=f"c{n}", name="f", input={})
                + _event("content_block_stop", index=n)
            )
        )
    ),
    "signatures": _after(_START)(
        _forever(
            lambda n: (
                _block(n, type="thinking", thinking="")
                + _delta(n, type="signature_delta", signature=f"{n}{WORD}")
                + _event("content_block_stop", index=n)
            )
        )
    ),
    "citations": _after(_START, _block(0, type="text", text=""))(
        _forever(lambda _: _delta(0, type="citations_delta", citation={"type": "x", "cited_text": WORD}))
    ),
    "usage": _after(_START)(
        _forever(lambda n: _event("message_delta", delta={}, usage={f"tokens_{n}": WORD}))
    ),
    "pings": _after(_START)(_forever(lambda _: _event("ping", x=WORD))),
}

# --- Gemini


def _gemini(parts: list[Any], index: int = 0) -> bytes:
    return _sse({"candidates": [{"index": index, "content": {"parts": parts}}]})


GEMINI: dict[str, Flood] = {
    "calls": _forever(lambda _: _gemini([{"functionCall": {"name": "f", "args": {"a": WORD}}}])),
    "signatures": _forever(lambda n: _gemini([{"text": "x", "thoughtSignature": f"{n}{WORD}"}])),
    "candidates": _forever(lambda n: _gemini([{"text": "x"}], index=n)),
    "a candidate far out": _after(_gemini([{"text": "x"}], index=10**9))(
        _forever(lambda _: _gemini([{"text": WORD}]))
    ),
    "turns of text and thought": _forever(lambda _: _gemini([{"text": "x"}, {"text": "y", "thought": True}])),
}

# --- Ollama


def _line(message: Any, **members: Any) -> bytes:
    return json.dumps({"model": "m", "message": message, "done": False, **members}).encode() + b"\n"


OLLAMA: dict[str, Flood] = {
    "blank lines": _forever(lambda _: b"\n" * 4096),
    "a line without an end": _forever(lambda _: WORD.encode()),
    "spaces": _forever(lambda _: b" "),
    "calls": _forever(
        lambda _: _line(
            {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": WORD}}}]}
        )
    ),
    "turns of text and thought": _forever(
        lambda _: _line({"content": "x"}) + _line({"content": "", "thinking": "y"})
    ),
    "tokens without text": _forever(
        lambda _: _line({"content": ""}, logprobs=[{"token": "x", "logprob": -1.0}] * 8)
    ),
    "empty lines": _forever(lambda _: _line({"content": ""}, x=WORD)),
}

FLOODS: dict[str, dict[str, Flood]] = {
    "openai_chat": FRAMES | CHAT,
    "openai_responses": FRAMES | RESPONSES,
    "anthropic_messages": FRAMES | MESSAGES,
    "gemini": FRAMES | GEMINI,
    "ollama": OLLAMA,
}
"""By the dialect of the provider."""
PASSES = {
    ("openai_chat", "empty chunks"),
    ("openai_chat", "citations"),
    ("openai_chat", "arguments"),
    ("openai_chat", "arguments of no tool"),
    ("openai_chat", "calls"),
    ("openai_chat", "half calls"),
    ("openai_chat", "calls without names"),
    ("openai_chat", "calls of one index"),
    ("openai_chat", "calls and a long one"),
    ("openai_chat", "old calls"),
    ("openai_responses", "arguments"),
    ("openai_responses", "calls"),
    ("openai_responses", "names of items"),
    ("openai_responses", "thoughts of one item"),
    ("anthropic_messages", "citations"),
    ("anthropic_messages", "arguments"),
    ("anthropic_messages", "blocks"),
    ("anthropic_messages", "closed blocks"),
    ("anthropic_messages", "pings"),
    ("gemini", "calls"),
    ("gemini", "turns of text and thought"),
    ("ollama", "calls"),
    ("ollama", "turns of text and thought"),
    ("ollama", "tokens without text"),
    ("ollama", "empty lines"),
}
"""Of which nothing is kept where they pass untouched: they may go on for as long as their reader
likes.
"""
