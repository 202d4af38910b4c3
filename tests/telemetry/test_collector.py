"""A real collector, Phoenix: a program in `modelplex run` asks a model, whose first candidate
fails, and calls a tool; the collector's API then shows one tree.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from modelplex.http_client import HttpClient, SendError, Timeouts, parse_origin
from tests.mcp.installed import configured, program
from tests.processes import free_port

pytestmark = [pytest.mark.tools, pytest.mark.timeout(400)]

START_S = 240.0
"""Phoenix makes its database and loads its libraries first: 10 s, and minutes on a busy machine."""
WAIT_S = 100.0
POLL_S = 0.5
KEY = "sk-canary-0123456789"
AGENT = """
import json, urllib.request

def post(path, body):
    data = json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:11435" + path, data, headers)) as reply:
        return json.load(reply)

post("/v1/chat/completions", {"model": "best", "messages": [{"role": "user", "content": "canary-prompt"}]})
post("/mcp/v1/tools/time__get_current_time/call", {"arguments": {"timezone": "UTC"}})
"""


async def ask(client: HttpClient, base: str, target: str) -> Any:
    origin, path = parse_origin(base)
    reply = await client.send(
        origin,
        method=b"GET",
        target=(path + target).encode(),
        headers=[],
        timeouts=Timeouts(connect=WAIT_S, first_byte=WAIT_S, idle=WAIT_S),
    )
    body = await reply.body(limit=100_000_000)
    return json.loads(body) if body.startswith(b"{") else body


@asynccontextmanager
async def phoenix(folder: Path) -> AsyncGenerator[str]:
    """The address of one that has just started."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    with (folder / "phoenix.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program("phoenix", venv="collector"), "serve", env=environ, stdout=log, stderr=log
        )
    client = HttpClient()
    try:
        async with asyncio.timeout(START_S):
            while True:
                assert process.returncode is None, (folder / "phoenix.log").read_text()[-2000:]
                try:
                    await ask(client, base, "/healthz")
                    break
                except SendError:
                    await asyncio.sleep(POLL_S)
        yield base
    finally:
        await client.aclose()
        process.kill()
        await process.wait()


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in span["attributes"]:
        found[each["key"]] = next((value for value in each["value"].values() if value is not None), None)
    return found


async def spans_of(base: str, *, count: int) -> list[dict[str, Any]]:
    """Once there are as many."""
    client = HttpClient()
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                found = await ask(client, base, "/v1/projects/default/spans/otlpv1?limit=100")
                if len(found["data"]) >= count:
                    return list(found["data"])
                await asyncio.sleep(POLL_S)
    finally:
        await client.aclose()


async def test_one_tree_of_agent_model_and_tool_spans(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "agent.py").write_text(AGENT)
    (tmp_path / "phoenix").mkdir()
    async with phoenix(tmp_path / "phoenix") as base:
        config = tmp_path / "config.toml"
        config.write_text(
            f"""
[server]
state_folder = "{tmp_path}/state"

[otel]
endpoint = "{base}"

[[providers]]
name = "broken"
type = "openai"
base_url = "http://127.0.0.1:1/v1"
api_key = "{KEY}"
models = ["m"]

[[providers]]
type = "demo"

[aliases]
best = ["broken/m", "demo/demo"]

[failover]
retries = 0

[[agents]]
name = "coder"
socket = "{tmp_path}/coder.socket"

[mcp]
enabled = true
"""
            + configured("time", [program("mcp-server-time"), "--local-timezone", "UTC"])
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "modelplex", "run", "--config", str(config), "--agent", "coder"),
            *("--tag", "pr=12", "--", "python3", "agent.py"),
            cwd=work,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await asyncio.wait_for(process.communicate(), WAIT_S)
        assert process.returncode == 0, (out, errors)
        spans = await spans_of(base, count=5)

    by_name = {span["name"]: span for span in spans}
    assert set(by_name) == {
        "invoke_agent coder",
        "chat best",
        "attempt broken",
        "attempt demo",
        "tools/call time__get_current_time",
    }
    root, chat = by_name["invoke_agent coder"], by_name["chat best"]
    tool = by_name["tools/call time__get_current_time"]
    assert {span["trace_id"] for span in spans} == {root["trace_id"]}
    assert not root["parent_span_id"]
    assert {chat["parent_span_id"], tool["parent_span_id"]} == {root["span_id"]}
    for name in ("attempt broken", "attempt demo"):
        assert by_name[name]["parent_span_id"] == chat["span_id"]
    assert attributes(root)["modelplex.tag.pr"] == "12"
    assert attributes(chat)["gen_ai.provider.name"] == "modelplex.demo"
    assert attributes(chat)["gen_ai.usage.output_tokens"] > 0
    assert attributes(tool)["gen_ai.tool.name"] == "time__get_current_time"
    assert attributes(by_name["attempt broken"])["error.type"]
    whole = json.dumps(spans)
    assert KEY not in whole
    assert "canary-prompt" not in whole
