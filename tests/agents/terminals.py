"""A terminal in which a test starts a full-screen program, types, and reads the screen."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
import struct
import subprocess
import termios
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pyte
import pytest

LINES, COLUMNS = 45, 150
WAIT_S = 60.0
"""Until a text is on the screen; the slowest agent takes some 8 s to start on two free cores."""
STEP_S = 0.05
AGAIN_S = 1.0
"""Until Enter is pressed again."""
PRIVATE = re.compile(
    rb"\x1b\[(?:[<>=][0-?]*[ -/]*[@-~]|\?[0-?]*[ -/]*[@-gi-km-~]|[0-?]*[ -/]+[@-~])"
    rb"|\x1b[P\]_^][^\x07\x1b]*(?:\x07|\x1b\\)"
)
"""Sequences that pyte does not know: keyboard protocols, settings of a window, pictures."""
UNFINISHED = re.compile(rb"\x1b[^a-zA-Z\x07]*$")


class _AnsweringScreen(pyte.HistoryScreen):
    """Answers what programs ask a terminal, such as the place of the cursor."""

    def __init__(self, master: int) -> None:
        super().__init__(COLUMNS, LINES, history=2000, ratio=0.5)
        self._master = master

    def write_process_input(self, data: str) -> None:
        os.write(self._master, data.encode())


class Terminal:
    def __init__(self, master: int, popen: subprocess.Popen[bytes]) -> None:
        self._master = master
        self._popen = popen
        self._screen = _AnsweringScreen(master)
        self._stream = pyte.ByteStream(self._screen)
        self._rest = b""
        self.written = b""
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: the last one that had it open has ended
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._master)
            return
        self.written += data
        data = self._rest + data
        found = UNFINISHED.search(data)
        self._rest = data[found.start() :] if found else b""
        self._stream.feed(PRIVATE.sub(b"", data[: found.start()] if found else data))

    @property
    def text(self) -> str:
        """What has scrolled away, then the screen."""
        above = [
            "".join(row[column].data for column in range(COLUMNS)).rstrip()
            for row in self._screen.history.top
        ]
        return "\n".join([*above, *(line.rstrip() for line in self._screen.display)])

    async def until(self, is_reached: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(WAIT_S):
                while not is_reached():
                    await asyncio.sleep(STEP_S)
        except TimeoutError:
            pytest.fail(f"{what} did not come within {WAIT_S} s:\n{self.text}")

    async def expect(self, text: str) -> None:
        """Until the terminal shows this text; a screen may break it over lines."""
        pattern = re.compile(r"\s+".join(re.escape(word) for word in text.split()))
        await self.until(lambda: pattern.search(self.text) is not None, repr(text))

    async def type(self, text: str) -> None:
        """As a person does: the text, and then Enter, which a paste would not have apart."""
        os.write(self._master, text.encode())
        await self.expect(text)
        os.write(self._master, b"\r")

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    async def ended(self) -> int:
        await self.until(lambda: self._popen.poll() is not None, "the end")
        return self._popen.wait()

    async def leave(self, command: str) -> int:
        """Type a command that ends the program. Some take the first Enter for its completion."""
        await self.type(command)
        pressed = time.monotonic()

        def has_ended() -> bool:
            nonlocal pressed
            if self._popen.poll() is None and (now := time.monotonic()) - pressed > AGAIN_S:
                pressed = now
                with suppress(OSError):
                    self.press(b"\r")
            return self._popen.poll() is not None

        await self.until(has_ended, "the end")
        return self._popen.wait()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        os.close(self._master)


def _become_session_leader() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@asynccontextmanager
async def terminal(
    command: Sequence[str], *, cwd: Path, environ: Mapping[str, str]
) -> AsyncGenerator[Terminal]:
    """The program in a terminal of its own, which is ended with it."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    popen = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
        command,
        cwd=cwd,
        env={**environ, "TERM": "xterm-256color"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        preexec_fn=_become_session_leader,  # noqa: PLW1509 - there is no other thread here
    )
    os.close(slave)
    found = Terminal(master, popen)
    try:
        yield found
    finally:
        found.close()
