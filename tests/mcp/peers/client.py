"""Clients for Python in front of the gateway: `client.py WHICH WHERE CALLS` lists the tools, makes
the calls, and prints what came as JSON.

WHICH is `auto`, `legacy` or a modern revision for the official SDK, or `fastmcp`. WHERE is a URL,
`unix:SOCKET:URL`, or `exec:` and a command to talk to over its stdin and stdout. CALLS is a JSON
list of [tool, arguments]; all are made at once.
"""

# It runs in an environment of its own, which the checkers of ours do not see.
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from typing import Any

WHICH, WHERE, CALLS = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])


async def official(stack: AsyncExitStack) -> Any:
    from mcp import Client, StdioServerParameters
    from mcp.client.streamable_http import streamable_http_client

    where = WHERE
    if WHERE.startswith("unix:"):
        import httpx2

        _, socket, url = WHERE.split(":", 2)
        http = await stack.enter_async_context(
            httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=socket), timeout=60)
        )
        where = streamable_http_client(url, http_client=http)
    elif WHERE.startswith("exec:"):
        command, *arguments = WHERE.removeprefix("exec:").split(" ")
        where = StdioServerParameters(command=command, args=arguments)
    return await stack.enter_async_context(Client(where, mode=WHICH))


async def fast(stack: AsyncExitStack) -> Any:
    from fastmcp import Client

    return await stack.enter_async_context(Client(WHERE))


async def main() -> None:
    async with AsyncExitStack() as stack:
        client = await (fast(stack) if WHICH == "fastmcp" else official(stack))
        listed = await client.list_tools()
        tools = listed if isinstance(listed, list) else listed.tools
        answers = await asyncio.gather(*(client.call_tool(name, arguments) for name, arguments in CALLS))
        texts = [[part.text for part in answer.content if part.type == "text"] for answer in answers]
        print(json.dumps({"tools": [tool.name for tool in tools], "answers": texts}))


asyncio.run(main())
