"""A server that is a process: one JSON-RPC message per line on stdin and stdout.

Source: the specification's "Transports", stdio, of every revision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from modelplex.mcp.constants import Json
from modelplex.mcp.servers.channel import ConnectionLost, DuplexChannel
from modelplex.mcp.servers.messages import MessageReader
from modelplex.mcp.servers.network_namespace import EXIT_NO_NAMESPACE
from modelplex.mcp.servers.process_table import ProcessTable
from modelplex.mcp.servers.server_process import ServerProcess, isolated

EXIT_SECONDS: Final = 1.0
"""Seconds that a process which reads no input has to exit."""
MAX_STRAY_LINE: Final = 200
"""Bytes of a line on stdout that is no message, which are logged."""

WriteLine = Callable[[Literal["stderr", "stdout"], bytes], None]
"""Takes a line that is no message: the stream's name and the bytes."""


class ServerCommand(msgspec.Struct, frozen=True, kw_only=True):
    """How to start a process. Without `network` it gets an empty network namespace."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str | None
    network: bool


class StdioChannel(DuplexChannel):
    """A channel to a new process. `write_line` takes lines that are no messages."""

    def __init__(
        self,
        command: ServerCommand,
        *,
        children: ProcessTable,
        messages: MessageReader,
        write_line: WriteLine,
    ) -> None:
        super().__init__()
        self._command = command
        self._children = children
        self._messages = messages
        self._write_line = write_line
        self._process: ServerProcess | None = None

    def __repr__(self) -> str:
        return f"<StdioChannel {self._process or 'not started'}>"

    async def open(self) -> None:
        command = self._command
        try:
            self._process = await ServerProcess.start(
                command.argv if command.network else isolated(command.argv),
                env=command.env,
                cwd=command.cwd,
                children=self._children,
                listener=self,
                limit=self._messages.max_read,
            )
        except OSError as error:
            if command.cwd is not None and not await asyncio.to_thread(Path(command.cwd).is_dir):
                raise ConnectionLost("The folder that its `cwd` names does not exist.") from None
            reason = error.strerror or "the system refused"
            raise ConnectionLost(f"It could not be started: {reason}.") from None
        except ValueError:
            raise ConnectionLost(
                "It could not be started: an argument or a variable contains a NUL."
            ) from None
        self.pid = self._process.pid

    async def send(self, message: Json) -> None:
        if self.lost.done():
            raise ConnectionLost(self.lost.result())
        assert self._process is not None
        try:
            await self._process.write(msgspec.json.encode(message) + b"\n")
        except ConnectionError:
            # The process has often just exited: wait for its exit code and its last lines.
            await asyncio.wait([self.lost], timeout=EXIT_SECONDS)
            raise ConnectionLost(
                self.lost.result() if self.lost.done() else "It reads no more input."
            ) from None

    def send_soon(self, message: Json) -> None:
        if self._process is not None:
            self._process.write_now(msgspec.json.encode(message) + b"\n")

    async def close(self) -> None:
        self.fail("It was stopped.")
        if self._process is not None:
            await self._process.stop()

    # The ProcessListener of its process.

    def line(self, data: bytes) -> None:
        messages = [each for each in self._messages.read(data) if each.get("jsonrpc") == "2.0"]
        for message in messages:
            self.receive(message)
        if not messages and data.strip():
            self._write_line("stdout", self._messages.hide(data)[:MAX_STRAY_LINE])

    def error_line(self, text: bytes) -> None:
        self._write_line("stderr", text)

    def overflow(self, size: int) -> None:
        if self._process is not None:
            self._process.grace = 0.0
        self.fail(f"It wrote {size} bytes without the end of a line.")

    def exited(self, code: int | None) -> None:
        if code is None:
            self.fail("It closed its output.")
        elif code == EXIT_NO_NAMESPACE and not self._command.network:
            self.fail("This system does not allow the empty network namespace of `network = false`.")
        else:
            self.fail(f"It exited with code {code}." if code >= 0 else f"It was ended by signal {-code}.")
