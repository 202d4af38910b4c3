"""FastMCP's proxy, as in its documentation, for tool servers: `tools_proxy.py PORT SERVERS`, where
SERVERS is JSON as in its `mcpServers`.

For one server it uses a client that stays connected, its fastest form; for several it makes its own
clients, the only form that it has.
"""

# It runs in its own environment, which our checkers do not see.
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

import asyncio
import json
import sys

from fastmcp import Client
from fastmcp.server import create_proxy

PORT, SERVERS = int(sys.argv[1]), json.loads(sys.argv[2])


async def main() -> None:
    config = {"mcpServers": SERVERS}
    serving = {
        "show_banner": False,
        "port": PORT,
        "path": "/mcp",
        "json_response": True,
        "log_level": "error",
    }
    if len(SERVERS) > 1:
        await create_proxy(config).run_http_async(**serving)
        return
    async with Client(config, mode="auto") as client:
        await create_proxy(client).run_http_async(**serving)


asyncio.run(main())
