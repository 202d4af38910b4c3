"""A session of a coding agent in 200 turns, as its provider's API sees it: generated, in the form
that such agents send.

System prompt and tools are those of tests/transcripts/messages_requests/coding_agent, which are
short; longer ones would be stored once. Each turn reads a piece of a file of this repository: the
text of a tool's result is real source code, from another place in each turn. Responses are streams
of server-sent events, a few words an event. The cache mark moves to the last message with each
request, which before had its text in another form.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelplex.records.record import Record
from tests.records.store.stored import record

ROOT = Path(__file__).resolve().parents[3]
FIRST = ROOT / "tests" / "transcripts" / "messages_requests" / "coding_agent" / "request.json"
TURNS = 200
LINES = 60
"""Lines of a file that a turn reads."""
MARK = {"cache_control": {"type": "ephemeral"}}


def session(turns: int = TURNS) -> Iterator[Record]:
    dice = random.Random(7)
    files = sorted((ROOT / "src").rglob("*.py"))
    first: dict[str, Any] = json.loads(FIRST.read_text())
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Find out where the log drops lines, and fix it."}
    ]
    for number in range(1, turns + 1):
        file = dice.choice(files)
        lines = file.read_text().splitlines()
        start = dice.randrange(max(1, len(lines) - LINES))
        thought = " ".join(dice.choice(lines).strip() for _ in range(6))
        call = {
            "type": "tool_use",
            "id": f"toolu_{dice.getrandbits(80):020x}",
            "name": "Read",
            "input": {"file_path": str(file.relative_to(ROOT)), "offset": start},
        }
        body = json.dumps(
            {**first, "messages": [*messages[:-1], _marked(messages[-1])]}, separators=(",", ":")
        ).encode()
        yield record(
            number,
            body,
            _stream(thought, call, number),
            stream=True,
            dialect="anthropic_messages",
            endpoint="messages",
        )
        text = "\n".join(f"{start + at}\t{line}" for at, line in enumerate(lines[start : start + LINES]))
        messages.append({"role": "assistant", "content": [{"type": "text", "text": thought}, call]})
        messages.append(
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call["id"], "content": text}]}
        )


def _marked(message: dict[str, Any]) -> dict[str, Any]:
    content = message["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return {**message, "content": [*blocks[:-1], {**blocks[-1], **MARK}]}


def _stream(text: str, call: dict[str, Any], number: int) -> bytes:
    usage = {"input_tokens": 9, "cache_read_input_tokens": number * 900, "output_tokens": 1}
    started: dict[str, Any] = {
        "type": "message_start",
        "message": {
            "id": f"msg_{number:08x}",
            "type": "message",
            "role": "assistant",
            "model": "claude",
            "content": [],
            "usage": usage,
        },
    }
    events: list[dict[str, Any]] = [
        started,
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ]
    words = text.split(" ")
    for at in range(0, len(words), 3):
        piece = {"type": "text_delta", "text": " ".join(words[at : at + 3])}
        events.append({"type": "content_block_delta", "index": 0, "delta": piece})
    events += [
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {**call, "input": {}}},
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": json.dumps(call["input"])},
        },
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 80}},
        {"type": "message_stop"},
    ]
    return b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events)
