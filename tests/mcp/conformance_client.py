"""The client that the conformance suite is given: the gateway, with the suite's server behind it,
and a plain client in front that calls whatever there is.

`python -m tests.mcp.conformance_client URL`, as the suite starts it. What it does is the same for
every scenario: it lists, calls every tool (or those that the suite asks for), reads every resource,
gets every prompt, and says yes to what it is asked. All that the suite's server sees is of the
gateway's making.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from tests.gateways import gateway
from tests.processes import answers, until

Json = dict[str, Any]
PATIENCE_S = 20.0
SAMPLES: Json = {"string": "text", "integer": 5, "number": 3, "boolean": True, "array": [], "object": {}}
"""An argument of each type of JSON."""
CONFIG = """\
[mcp]
enabled = true
prefix = false
pinning = "off"
stdio_socket = "{socket}"

[[mcp.servers]]
name = "conf"
url = "{url}"
allow = {allow}
"""
ASKING = ("sep-2322-client-request-state", "elicitation-sep1034-client-defaults")
"""The scenarios whose server asks its client for something, which the host has to allow."""
ECHO = "json_schema_echo"
"""Takes another tool's schema as it arrived, and says what of it is missing."""


class Client:
    """A client of the older protocol on the socket of lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._ids: Iterator[int] = itertools.count(1)

    def _say(self, message: Json) -> None:
        self._writer.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def ask(self, method: str, params: Json) -> Json:
        """The answer; what is asked meanwhile is answered."""
        of = next(self._ids)
        self._say({"id": of, "method": method, "params": params})
        while True:
            line = await asyncio.wait_for(self._reader.readline(), PATIENCE_S)
            message: Json = json.loads(line)
            if "method" in message:
                if "id" in message:
                    self._say({"id": message["id"], "result": agreed(message["method"], message["params"])})
            elif message["id"] == of:
                print(method, params, "->", str(message)[:500], file=sys.stderr)
                return message

    async def listed(self, kind: str) -> list[Json]:
        answer = await self.ask(f"{kind}/list", {})
        found: list[Json] = answer.get("result", {}).get(kind, [])
        return found

    async def begin(self) -> None:
        client = {"name": "conformance", "version": "1"}
        able: Json = {"sampling": {}, "elicitation": {}}
        await self.ask(
            "initialize", {"protocolVersion": "2025-11-25", "capabilities": able, "clientInfo": client}
        )
        self._say({"method": "notifications/initialized"})


def agreed(method: str, params: Json) -> Json:
    """The answer of one who says yes: what is asked for has its default, where it has one."""
    if method == "elicitation/create":
        asked = cast("dict[str, Json]", params.get("requestedSchema", {}).get("properties", {}))
        content = {name: each.get("default", SAMPLES.get(each["type"])) for name, each in asked.items()}
        return {"action": "accept", "content": content}
    return {"role": "assistant", "content": {"type": "text", "text": "yes"}, "model": "m"}


def arguments(tool: Json, tools: list[Json]) -> Json:
    if tool["name"] == ECHO:
        return {"schema": next(other["inputSchema"] for other in tools if other["name"] != ECHO)}
    asked = cast("dict[str, Json]", tool["inputSchema"].get("properties", {}))
    return {name: SAMPLES.get(str(each.get("type")), "text") for name, each in asked.items()}


async def main(url: str) -> None:
    wanted = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}").get("toolCalls")
    allow = ["sampling", "elicitation"] if os.environ.get("MCP_CONFORMANCE_SCENARIO") in ASKING else []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        socket = folder / "lines.sock"
        async with gateway(CONFIG.format(socket=socket, url=url, allow=allow), folder=folder):
            await until(lambda: answers(str(socket)), what="the socket of lines")
            client = Client(*await asyncio.open_unix_connection(str(socket), limit=2**24))
            await client.begin()
            tools = await client.listed("tools")
            for each in wanted or [
                {"name": tool["name"], "arguments": arguments(tool, tools)} for tool in tools
            ]:
                await client.ask("tools/call", {"name": each["name"], "arguments": each["arguments"]})
            for resource in await client.listed("resources"):
                await client.ask("resources/read", {"uri": resource["uri"]})
            for prompt in await client.listed("prompts"):
                await client.ask("prompts/get", {"name": prompt["name"]})


if __name__ == "__main__":
    asyncio.run(main(sys.argv[-1]))
