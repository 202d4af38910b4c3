"""Tasks of a server that we did not write, in both ways to it: line by line as they are, and by an
SDK's own client of tasks.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.gateways import Running, gateway
from tests.mcp.installed import CONFORMANCE, MODULES, PEERS, configured, script
from tests.peers import node

pytestmark = [pytest.mark.tools, pytest.mark.timeout(180)]
PATIENCE_S = 60.0
RELATED = "io.modelcontextprotocol/related-task"


@asynccontextmanager
async def everything(folder: Path, *, allow: str) -> AsyncGenerator[Running]:
    command = [*script("mcp-server-everything"), "stdio"]
    server = configured("everything", command, allow=allow)
    text = "\n".join(["[mcp]", "enabled = true", f'stdio_socket = "{folder / "lines.sock"}"', server])
    async with gateway(text, folder=folder) as running:
        yield running


class Lines:
    """A client that reads and writes lines. It answers each question with `answers`, and keeps what
    else it was told.
    """

    def __init__(self, folder: Path, answers: dict[str, Any]) -> None:
        self._path = folder / "lines.sock"
        self._answers = answers
        self._ids = itertools.count(1)
        self.asked: list[dict[str, Any]] = []
        self.told: list[dict[str, Any]] = []

    async def open(self, capabilities: dict[str, Any]) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            while not self._path.exists():  # it comes a moment after the others
                await asyncio.sleep(0.01)
        self._reader, self._writer = await asyncio.open_unix_connection(str(self._path), limit=1 << 22)
        about = {"name": "lines", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": about}
        answer = await self.ask("initialize", params)
        self._say({"method": "notifications/initialized"})
        return answer["result"]["capabilities"]  # type: ignore[no-any-return]

    def _say(self, message: dict[str, Any]) -> None:
        self._writer.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        number = next(self._ids)
        self._say({"id": number, "method": method, "params": params})
        while True:
            line = await asyncio.wait_for(self._reader.readline(), PATIENCE_S)
            message: dict[str, Any] = json.loads(line)
            if message.get("id") == number and "method" not in message:
                return message
            if "id" in message:
                self.asked.append(message)
                self._say({"id": message["id"], "result": self._answers[message["method"]]})
            else:
                self.told.append(message)

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def test_a_task_runs_asks_and_ends_through_the_gateway(tmp_path: Path) -> None:
    async with everything(tmp_path, allow='["tasks", "elicitation"]'):
        client = Lines(
            tmp_path,
            {"elicitation/create": {"action": "accept", "content": {"interpretation": "programming"}}},
        )
        claims = await client.open({"elicitation": {}})
        assert claims["tasks"]["requests"] == {"tools": {"call": {}}}
        tools = (await client.ask("tools/list", {}))["result"]["tools"]
        assert {
            each["name"]: each["execution"]
            for each in tools
            if each.get("execution", {}).get("taskSupport") == "required"
        } == {"everything__simulate-research-query": {"taskSupport": "required"}}
        call = {
            "name": "everything__simulate-research-query",
            "arguments": {"topic": "python", "ambiguous": True},
        }
        made = (await client.ask("tools/call", {**call, "task": {"ttl": 60_000}}))["result"]["task"]
        assert made["taskId"].startswith("everything__")
        assert (await client.ask("tasks/get", {"taskId": made["taskId"]}))["result"]["status"] == "working"
        listed = (await client.ask("tasks/list", {}))["result"]["tasks"]
        assert [each["taskId"] for each in listed] == [made["taskId"]]
        result = (await client.ask("tasks/result", {"taskId": made["taskId"]}))["result"]
        assert "programming" in result["content"][0]["text"]
        assert result["_meta"][RELATED]["taskId"] == made["taskId"]
        assert [each["params"]["_meta"][RELATED]["taskId"] for each in client.asked] == [made["taskId"]]
        assert {each["params"]["taskId"] for each in client.told if "tasks" in each["method"]} <= {
            made["taskId"]
        }
        ended = (await client.ask("tasks/get", {"taskId": made["taskId"]}))["result"]
        assert ended["status"] == "completed"

        second = (await client.ask("tools/call", {**call, "task": {"ttl": 60_000}}))["result"]["task"]
        cancelled = (await client.ask("tasks/cancel", {"taskId": second["taskId"]}))["result"]
        assert (cancelled["taskId"], cancelled["status"]) == (second["taskId"], "cancelled")
        unknown = await client.ask("tasks/get", {"taskId": made["taskId"].removeprefix("everything__")})
        assert unknown["error"]["code"] == -32602
        await client.close()


async def test_without_permission_the_same_server_offers_no_tasks_and_says_why_a_tool_cannot_run(
    tmp_path: Path,
) -> None:
    async with everything(tmp_path, allow="[]"):
        client = Lines(tmp_path, {})
        assert "tasks" not in await client.open({})
        call = {"name": "everything__simulate-research-query", "arguments": {"topic": "x"}, "task": {}}
        result = (await client.ask("tools/call", call))["result"]
        assert result["isError"] is True
        assert "only as a task" in result["content"][0]["text"]
        assert (await client.ask("tasks/list", {}))["error"]["code"] == -32601
        await client.close()


async def test_an_sdks_client_of_tasks_has_its_result(tmp_path: Path) -> None:
    async with everything(tmp_path, allow='["tasks"]') as running:
        program = PEERS / "tasks.mjs"
        process = await asyncio.create_subprocess_exec(
            str(node()),
            str(program),
            str(MODULES),
            f"{running.base}/mcp/v1",
            "everything__simulate-research-query",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, errors.decode()[-2000:]
    found = json.loads(out)
    assert found["kinds"][0] == "taskCreated"
    assert found["kinds"][-1] == "result"
    assert found["task"].startswith("everything__")
    assert "Research Report" in found["text"]


SCENARIOS = {
    "tasks-lifecycle": 9,
    "tasks-capability-negotiation": 5,
    "tasks-wire-fields": 4,
    "tasks-mrtr-input": 4,
    "tasks-request-headers": 5,
    "tasks-dispatch-and-envelope": 9,
    "tasks-required-task-error": 3,
    "tasks-mrtr-composition": 2,
}
"""Of the conformance suite, those of the extension of 2026-07-28 that ask anything of a server,
with how many checks each has.
"""


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_the_conformance_suite_finds_no_fault_in_tasks_of_the_newer_form(
    scenario: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-S", "-E", str(PEERS / "tasks.py")]
    server = configured("tasks", command, allow='["tasks", "elicitation"]')
    async with gateway(f"[mcp]\nenabled = true\n{server}", folder=tmp_path) as running:
        process = await asyncio.create_subprocess_exec(
            *CONFORMANCE,
            *("server", "--url", f"{running.base}/mcp/v1/servers/tasks", "--scenario", scenario),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    report = out.decode()
    checks = SCENARIOS[scenario]
    assert f"Passed: {checks}/{checks}, 0 failed" in report, report[-3000:]
