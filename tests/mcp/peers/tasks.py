"""A tool server with the extension io.modelcontextprotocol/tasks of 2026-07-28, over stdio and with
the standard library alone: the tools that the conformance suite wants.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from itertools import count
from typing import Any

Json = dict[str, Any]

EXTENSION = "io.modelcontextprotocol/tasks"
CLIENT = "io.modelcontextprotocol/clientCapabilities"
NAMES = (
    "greet slow_compute failing_job protocol_error_job confirm_delete multi_input test_tool_with_task".split()
)
FORM: Json = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
TASKS: dict[str, Task] = {}
NUMBERS = count(1)


class Refused(Exception):
    def __init__(self, code: int, message: str, data: Json | None = None) -> None:
        super().__init__(message)
        self.error: Json = {"code": code, "message": message, **({"data": data} if data else {})}


def asks(message: str) -> Json:
    return {
        "method": "elicitation/create",
        "params": {"mode": "form", "message": message, "requestedSchema": FORM},
    }


def texts(text: str, **more: Any) -> Json:
    return {"resultType": "complete", "content": [{"type": "text", "text": text}], **more}


class Task:
    """It is over at `ends`, once its questions are answered."""

    def __init__(self, *, seconds: float, result: Json | None, questions: Json | None = None) -> None:
        self.name = f"task-{next(NUMBERS)}"
        self.ends = time.monotonic() + seconds
        self.result = result
        self.questions = questions or {}
        self.answers: Json = {}
        self.cancelled = False
        self.born = datetime.now(UTC).isoformat()
        TASKS[self.name] = self

    @property
    def status(self) -> str:
        if self.cancelled:
            return "cancelled"
        if self.questions:
            return "input_required"
        if time.monotonic() < self.ends:
            return "working"
        return "failed" if self.result is None else "completed"

    def told(self) -> Json:
        return {
            "taskId": self.name,
            "status": self.status,
            "createdAt": self.born,
            "lastUpdatedAt": datetime.now(UTC).isoformat(),
            "ttlMs": 60_000,
            "pollIntervalMs": 100,
        }

    def detailed(self) -> Json:
        more: Json = {}
        if self.status == "input_required":
            more["inputRequests"] = self.questions
        elif self.status == "completed":
            more["result"] = {**(self.result or {})}
        elif self.status == "failed":
            more["error"] = {"code": -32603, "message": "it broke"}
        return {"resultType": "complete", **self.told(), **more}


def called(params: Json) -> Json:
    name, arguments = params["name"], params.get("arguments", {})
    knows = EXTENSION in params["_meta"][CLIENT].get("extensions", {})
    if name == "greet":
        return texts(f"Hello, {arguments.get('name', 'you')}!")
    if name not in NAMES:
        raise Refused(-32602, "Unknown tool")
    if not knows:
        if name in ("failing_job", "test_tool_with_task"):
            raise Refused(
                -32021, "It needs tasks.", {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
            )
        return texts("done at once")
    if name == "test_tool_with_task" and "inputResponses" not in params:
        return {
            "resultType": "input_required",
            "inputRequests": {"user_name": asks("Who?")},
            "requestState": "s",
        }
    return {"resultType": "task", **task_of(name, params).told()}


def task_of(name: str, params: Json) -> Task:
    arguments = params.get("arguments", {})
    if name == "slow_compute":
        return Task(seconds=float(arguments.get("seconds", 1)), result=texts("computed"))
    if name == "failing_job":
        return Task(seconds=1, result=texts("it failed", isError=True))
    if name == "protocol_error_job":
        return Task(seconds=0.3, result=None)
    if name == "confirm_delete":
        return Task(seconds=0, result=texts("deleted"), questions={"sure": asks("Sure?")})
    if name == "multi_input":
        return Task(seconds=0, result=texts("both"), questions={"one": asks("1?"), "two": asks("2?")})
    answer = params["inputResponses"]["user_name"]["content"]
    return Task(seconds=0.3, result=texts(f"for {answer}"))


def answered(method: str, params: Json) -> Json:
    if method == "server/discover":
        capabilities: Json = {"tools": {}, "extensions": {EXTENSION: {}}}
        return {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": capabilities}
    if method == "tools/list":
        tools = [{"name": name, "inputSchema": {"type": "object"}} for name in NAMES]
        return {"resultType": "complete", "tools": tools}
    if method == "tools/call":
        return called(params)
    if method not in ("tasks/get", "tasks/update", "tasks/cancel"):
        raise Refused(-32601, "Method not found")
    task = TASKS.get(params["taskId"])
    if task is None:
        raise Refused(-32602, "Unknown task")
    if method == "tasks/get":
        return task.detailed()
    if method == "tasks/cancel":
        task.cancelled = task.cancelled or task.status in ("working", "input_required")
    else:
        for key in params.get("inputResponses", {}):
            task.questions.pop(key, None)
    return {"resultType": "complete"}


for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    answer: Json = {"jsonrpc": "2.0", "id": asked["id"]}
    try:
        answer["result"] = answered(asked["method"], asked.get("params", {}))
    except Refused as refused:
        answer["error"] = refused.error
    print(json.dumps(answer), flush=True)
