"""What happens to tool servers when the gateway itself is killed."""

import asyncio
import signal
import sys
from pathlib import Path

from .conftest import SCRIPT, running, until

GATEWAY = f"""
import asyncio, os, sys
from modelplex.config.secret import Secret
from modelplex.config.settings import McpConfig, McpServer
from modelplex.mcp.servers import ManagedServer

async def main():
    args = ("-S", "-E", {str(SCRIPT)!r}, "ignore=eof,term")
    server = ManagedServer(McpServer(name="s", command=sys.executable, args=tuple(map(Secret, args))), limits=McpConfig())
    pids = []
    for name in ("pid", "fork"):
        reply = await server.request("tools/call", {{"name": name, "arguments": {{}}}})
        pids.append(reply.result["content"][0]["text"])
    print(" ".join(pids), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_nothing_survives_a_killed_gateway() -> None:
    source = str(Path(__file__).resolve().parents[3] / "src")
    gateway = await asyncio.create_subprocess_exec(
        sys.executable, "-c", GATEWAY, stdout=asyncio.subprocess.PIPE, env={"PYTHONPATH": source}
    )
    assert gateway.stdout is not None
    line = await asyncio.wait_for(gateway.stdout.readline(), 20)
    pids = [int(pid) for pid in line.split()]
    assert len(pids) == 2
    assert all(map(running, pids))
    gateway.send_signal(signal.SIGKILL)
    await gateway.wait()
    await until(lambda: not any(map(running, pids)), seconds=10)
