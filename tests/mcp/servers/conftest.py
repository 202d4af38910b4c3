import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelplex.config.mcp_settings import McpConfig, McpServer
from modelplex.config.secret import Secret
from modelplex.mcp.constants import Json, McpReply
from modelplex.mcp.servers.cache import DiskCache
from modelplex.mcp.servers.events import ServerEvent
from modelplex.mcp.servers.process_table import ProcessTable
from modelplex.mcp.servers.server import ManagedServer, ServerRuntime

SCRIPT = Path(__file__).with_name("scripted.py")


def text_of(reply: McpReply) -> str:
    """The text of a tool result's first part."""
    assert reply.result is not None, reply.error
    text = reply.result["content"][0]["text"]
    assert isinstance(text, str)
    return text


class Scripted:
    """A ManagedServer in front of scripted.py, with its events and the script's log."""

    def __init__(
        self, folder: Path, switches: dict[str, object], *, limits: Json, extra: Json, cache: bool
    ) -> None:
        self.log = folder / "log"
        self.events: list[ServerEvent] = []
        args = [
            f"{key}={value if isinstance(value, str) else msgspec.json.encode(value).decode()}"
            for key, value in switches.items()
        ]
        config = McpServer(
            name="scripted",
            command=extra.pop("command", sys.executable),
            args=tuple(Secret(arg) for arg in ("-S", "-E", str(SCRIPT), f"log={self.log}", *args)),
            **extra,
        )
        self.children = ProcessTable(64)
        self.server = ManagedServer(
            config,
            limits=McpConfig(**limits),
            cache=DiskCache(folder / "mcp") if cache else None,
            runtime=ServerRuntime(
                environ={**os.environ, "HOST_SECRET": "not for servers"},
                children=self.children,
                random=lambda: 0.0,
                on_event=self.events.append,
            ),
        )

    def lines(self, begins: str) -> list[str]:
        """The lines of the script's log that begin so."""
        if not self.log.exists():
            return []
        return [line for line in self.log.read_text().splitlines() if line.startswith(begins)]

    async def call(self, name: str, arguments: Json | None = None, **more: Any) -> McpReply:
        return await self.server.request("tools/call", {"name": name, "arguments": arguments or {}}, **more)

    async def close(self) -> None:
        await self.server.close()
        await self.children.aclose()


Start = Callable[..., Scripted]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Makes servers: `start(era="modern", limits={...}, extra={config keys}, cache=True)`. Their
    processes are ended after the test.
    """
    made: list[Scripted] = []

    def make(
        *, limits: Json | None = None, extra: Json | None = None, cache: bool = False, **switches: object
    ) -> Scripted:
        scripted = Scripted(tmp_path, switches, limits=limits or {}, extra=extra or {}, cache=cache)
        made.append(scripted)
        return scripted

    yield make
    for scripted in made:
        await scripted.close()


async def until(true: Callable[[], bool], *, seconds: float = 5.0) -> None:
    """Wait until `true()`, for at most `seconds`."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.005)


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in {"Z", "X"}
