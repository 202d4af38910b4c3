"""A thousand starts and stops leave no process and no file descriptor."""

import asyncio
import gc
from pathlib import Path

import pytest

from modelplex.config.mcp_settings import McpConfig, McpServer
from modelplex.config.secret import Secret
from modelplex.mcp.servers.server import ManagedServer

from .conftest import running

# A server in shell, since a thousand Python interpreters take long to start. It leaves a child that
# ends only if it is killed.
SHELL = r"""
echo $$ >> "$PIDS"
sleep 600 &
echo $! >> "$PIDS"
while read -r line; do case "$line" in
  *'"initialize"'*) echo '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{}}}';;
  *'"tools/call"'*) echo '{"jsonrpc":"2.0","id":2,"result":{"content":[]}}';;
esac; done
"""
CYCLES = 1000
SCOPES = 4


# 15 seconds on an idle machine.
@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_thousand_starts_and_stops_leave_no_process_and_no_descriptor(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    config = McpServer(
        name="shell",
        command="sh",
        args=(Secret("-c"), Secret(SHELL)),
        env={"PIDS": Secret(str(pids))},
        protocol="legacy",
    )
    server = ManagedServer(config, limits=McpConfig())

    async def cycle(scope: str, times: int) -> None:
        for _ in range(times):
            reply = await server.request("tools/call", {"name": "x"}, scope=scope)
            assert reply.result == {"content": []}
            await server.end_scope(scope)

    await cycle("", 1)
    before = len(_descriptors())
    await asyncio.gather(*(cycle(str(n), CYCLES // SCOPES) for n in range(SCOPES)))
    assert len(_descriptors()) == before
    assert server.status().pids == ()
    started = [int(line) for line in pids.read_text().split()]
    assert len(started) == 2 * (CYCLES + 1)
    assert not [pid for pid in started if running(pid)]
    await server.close()
    gc.collect()
    assert len(_descriptors()) < before  # the reaper's pipe is closed too


def _descriptors() -> list[Path]:
    return list(Path("/proc/self/fd").iterdir())
