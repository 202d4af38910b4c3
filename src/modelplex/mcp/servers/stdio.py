"""A server that is a process: one JSON-RPC message per line on stdin and stdout.

Source: the specification's "Transports", stdio, of every revision.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, cast

import msgspec

from modelplex.dialects.core.surrogates import mended
from modelplex.mcp.constants import INTERNAL_ERROR, Era, Json
from modelplex.mcp.servers._network_namespace import REFUSED
from modelplex.mcp.servers.processes import ProcessTable, ServerProcess
from modelplex.mcp.servers.session import ConnectionLost, DuplexChannel, PendingRequest

LINE_FACTOR: Final = 4
"""A line may be so many times longer than the largest relayed result. Beyond, the server is
stopped.
"""
ENDED: Final = 1.0
"""Seconds that a process which takes no input has to exit."""
SHOWN: Final = 200
"""Bytes of a stray line in an error."""

WriteLine = Callable[[Literal["stderr", "stdout"], bytes], None]
"""Takes a line that the process wrote and that is no message: the stream's name and the bytes."""


class ServerCommand(msgspec.Struct, frozen=True, kw_only=True):
    """How to start a process. `network` false gives it a network namespace without interfaces."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str | None
    network: bool


class StdioChannel(DuplexChannel):
    """`write_line` takes lines that are no messages. `max_result` is in bytes; `cuts` passes larger
    results on, to be cut later. `hide` masks the host's credentials in errors.
    """

    cancels_by_message = True

    def __init__(
        self,
        command: ServerCommand,
        *,
        children: ProcessTable,
        max_result: int,
        write_line: WriteLine,
        cuts: bool = False,
        hide: Callable[[bytes], bytes] = bytes,
    ) -> None:
        super().__init__()
        self._command = command
        self._children = children
        self._max_result = max_result
        self._passed = max_result * LINE_FACTOR if cuts else max_result
        self._write_line = write_line
        self._hide = hide
        self._process: ServerProcess | None = None

    def __repr__(self) -> str:
        return f"<StdioChannel {self._process or 'not started'}>"

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def settle(self, era: Era, version: str) -> None:
        """Both eras have the same framing."""

    async def open(self) -> None:
        try:
            self._process = await ServerProcess.start(
                self._command.argv,
                env=self._command.env,
                cwd=self._command.cwd,
                network=self._command.network,
                children=self._children,
                listener=self,
                limit=self._max_result * LINE_FACTOR,
            )
        except OSError as error:
            if self._command.cwd is not None and not await asyncio.to_thread(Path(self._command.cwd).is_dir):
                raise ConnectionLost("The folder that its `cwd` names is not there.") from None
            raise ConnectionLost(
                f"It could not be started: {error.strerror or 'the system refused'}."
            ) from None
        except ValueError:
            raise ConnectionLost("It could not be started: an argument or a variable holds a NUL.") from None

    async def carry(self, message: Json, call: PendingRequest) -> Json:
        answer = self.wait(call.id)
        try:
            await self.send(message)
            return await answer
        finally:
            self.forget(call.id, answer)

    async def send(self, message: Json) -> None:
        if self.lost.done():
            raise ConnectionLost(self.lost.result())
        assert self._process is not None
        try:
            await self._process.write(msgspec.json.encode(message) + b"\n")
        except ConnectionError:
            # The process has often just exited: wait a moment for its exit code and last lines.
            await asyncio.wait([self.lost], timeout=ENDED)
            raise ConnectionLost(
                self.lost.result() if self.lost.done() else "It takes no input any more."
            ) from None

    def send_soon(self, message: Json) -> None:
        if self._process is not None:
            self._process.write_now(msgspec.json.encode(message) + b"\n")

    async def close(self) -> None:
        self.fail("It was stopped.")
        if self._process is not None:
            await self._process.stop()

    def line(self, data: bytes) -> None:
        messages: object = None
        data = self._hide(data)
        with contextlib.suppress(msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            if len(data) > self._passed:
                messages = outline(data)
            elif data.lstrip()[:1] in {b"{", b"["}:
                messages = read_json(data)
        # 2025-03-26 allows batches.
        for message in cast("list[object]", messages) if isinstance(messages, list) else [messages]:
            if isinstance(message, dict) and cast("Json", message).get("jsonrpc") == "2.0":
                self.receive(within(cast("Json", message), size=len(data), limit=self._passed))
            elif data.strip():
                self._write_line("stdout", data[:SHOWN])
                return

    def error_line(self, text: bytes) -> None:
        self._write_line("stderr", text)

    def overflow(self, size: int) -> None:
        if self._process is not None:
            self._process.grace = 0.0
        self.fail(f"It wrote {size} bytes without the end of a line.")

    def exited(self, code: int | None) -> None:
        self.fail(_how(code, alone=not self._command.network))


class _Outline(msgspec.Struct):
    """A message of which only the id is decoded."""

    id: str | int
    method: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Content(msgspec.Struct):
    content: msgspec.Raw


_ANY: Final = msgspec.json.Decoder(Any)
_OUTLINE: Final = msgspec.json.Decoder(_Outline)
_CONTENT: Final = msgspec.json.Decoder(_Content)


def read_json(data: bytes) -> Any:
    """The JSON that a server wrote. Invalid UTF-8 and lone surrogates become U+FFFD, since dropping
    the message would leave its request without an answer.

    Raises DecodeError, RecursionError, UnicodeDecodeError.
    """
    try:
        return _ANY.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        whole = mended(data.decode("utf-8", "replace").encode())
        if whole == data:
            raise
        return _ANY.decode(whole)


def outline(data: bytes) -> Json | None:
    """The id of a response that is too large to pass on, for `within`. None for other messages.

    Does not decode the content, which could take a hundred times its size in memory.
    """
    head = _OUTLINE.decode(data)
    if head.method is not msgspec.UNSET:
        return None
    result: Json = {}
    if head.result is not msgspec.UNSET:
        with contextlib.suppress(msgspec.DecodeError):
            _CONTENT.decode(head.result)
            result = {"content": []}
    return {"jsonrpc": "2.0", "id": head.id, "result": result}


def within(message: Json, *, size: int, limit: int) -> Json:
    """The message, or an error with its size if it is above the limit (bytes)."""
    if size <= limit or "method" in message or "error" in message:
        return message
    sentence = f"The result of {size} bytes is larger than the limit of {limit} bytes."
    result: object = message.get("result")
    if isinstance(result, dict) and "content" in result:
        result = {"content": [{"type": "text", "text": sentence}], "isError": True}
        return {"jsonrpc": "2.0", "id": message.get("id"), "result": result}
    error = {"code": INTERNAL_ERROR, "message": sentence, "data": {"reason": "limit"}}
    return {"jsonrpc": "2.0", "id": message.get("id"), "error": error}


def _how(code: int | None, *, alone: bool) -> str:
    if code is None:
        return "It closed its output."
    if alone and code == REFUSED:
        return "This system lets it have no empty network namespace, which `network = false` asks for."
    return f"It exited with code {code}." if code >= 0 else f"It was ended by signal {-code}."
