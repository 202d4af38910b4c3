"""The end of tool servers whose gateway was killed."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

from modelplex.mcp.servers import process_reaper

from .conftest import SCRIPT, running, until

GATEWAY = f"""
import asyncio, os, sys
from modelplex.config.secret import Secret
from modelplex.config.mcp_settings import McpConfig, McpServer
from modelplex.mcp.servers.server import ManagedServer

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


def test_processes_are_found_by_mark_session_and_descent() -> None:
    child = "import subprocess, sys; subprocess.Popen([sys.executable, '-S', '-c', 'input()'], env={}).wait()"
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", child],
        stdin=subprocess.PIPE,
        env={process_reaper.VARIABLE: "abc-1-"},
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        found: dict[int, str] = {}
        end = time.monotonic() + 10
        while len(found) < 2 and time.monotonic() < end:
            found = process_reaper.find("abc-1-", frozenset())
        assert process.pid in found
        assert len(found) == 2  # the child has no mark
        assert process_reaper.find("abc-2-", frozenset()) == {}
        assert process_reaper.find("", frozenset({process.pid})).keys() >= found.keys()
        assert process_reaper.alive(found) == found
        assert process_reaper.alive(dict.fromkeys(found, "0")) == {}  # another process with the same pid
    finally:
        process.stdin.close()
        process.wait(10)
    assert process.pid not in process_reaper.alive(found)
