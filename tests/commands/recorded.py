"""A record with a run of an agent in it, for the tests of the commands that read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modelplex.core.request import Change, StrippedValue
from modelplex.records.record import AS_RECEIVED, AttemptRecord, Record
from modelplex.records.store.database import open_database
from modelplex.records.store_sink import RunInfo
from tests.records.store import stored
from tests.records.store.stored import NOW

RUN = RunInfo(
    id="run-1",
    started=NOW,
    agent="coder",
    command="python agent.py",
    folder="/work/project",
    repository="https://example.com/project.git",
    branch="main",
    tags={"pr": "12"},
)
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "read_file", "arguments": '{"path": "a.py"}'},
}
TOOL = {
    "type": "function",
    "function": {
        "name": "read_file",
        "description": "Read a file.",
        "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
    },
}
SYSTEM: dict[str, Any] = {"role": "system", "content": "You edit code."}
FIRST: list[dict[str, Any]] = [SYSTEM, {"role": "user", "content": "Fix a.py"}]
SECOND: list[dict[str, Any]] = [
    *FIRST,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "print(1)\x1b[31m"},
]


OTHER = b'{"model": "m-2", "contents": []}'
"""What the provider of another dialect got."""


def request(messages: list[dict[str, Any]], **more: Any) -> bytes:
    return json.dumps({"model": "m", "messages": messages, "tools": [TOOL], **more}).encode()


def completion(message: dict[str, Any], finish: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return json.dumps({"id": "c-1", "model": "m-1", "choices": [choice]}).encode()


def streamed(*texts: str) -> bytes:
    events: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return b"".join(f"data: {json.dumps(each)}\n\n".encode() for each in events) + b"data: [DONE]\n\n"


def chat(number: int, body: bytes, response: bytes | None, **more: Any) -> Record:
    values: dict[str, Any] = {"agent": "coder", "endpoint": "chat/completions", "dialect": "openai_chat"}
    return stored.record(number, body, response, **{**values, "finish_reason": "stop", **more})


def calls() -> list[Record]:
    """Two turns, the second streamed after a failed attempt; a refused call; a broken one."""
    failed = AttemptRecord(
        "q", "m-2", 0, "overloaded", status=503, seconds=0.1, message="busy \x1b[2J", sent=OTHER
    )
    ok = AttemptRecord("p", "m-1", 0, "ok", status=200, seconds=0.4, sent=AS_RECEIVED)
    return [
        chat(1, request(FIRST), completion({"content": None, "tool_calls": [CALL]}, "tool_calls"), finish_reason="tool_calls"),
        chat(
            2,
            request(SECOND, stream=True),
            streamed("Done", " now."),
            stream=True,
            attempts=(failed, ok),
            stripped=(StrippedValue("/tools/1", "web-search"),),
            changes=(Change("drop", "top_k", "no such parameter"),),
            headers=(("user-agent", "agent/1"), ("x-api-key", "(not kept)")),
            tokens=b'{"choices":[{"index":0,"token_ids":[7]}]}',
        ),
        chat(3, b"no json", None, status=403, outcome="error", blame="policy", code="policy", error="Policy: no.", attempts=(), usage=None, cost=None, declared=70),
        chat(4, request(FIRST), b"", status=502, outcome="error", blame="provider", code="upstream", error="It broke.", usage=None, cost=None),
    ]  # fmt: skip


def record_in(folder: Path, *, content: bool = True) -> str:
    """The path of a store with the run in it, and a tool call."""
    path = folder / "records.sqlite"
    database = open_database(path)
    tool = stored.tool_record(5, agent="coder", request_body=b'{"a":1}', response_body=b'{"content":[]}')
    stored.write(database, *calls(), tool, using=stored.options(content=content, run=RUN))
    database.close()
    return str(path)
