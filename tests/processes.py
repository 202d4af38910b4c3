"""The gateway as its owner meets it: a process with arguments, an environment, signals and two
streams; and bytes on its sockets.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

WAIT_S = 20.0
"""A bound on every wait, far above what any needs."""

NOWHERE = {"OLLAMA_HOST": "http://127.0.0.1:1", "HOME": "/nonexistent"}
"""Port 1 of the loopback refuses, so that no Ollama of this machine is found."""


@dataclass
class Answer:
    """One response, read to its end; `whole` is false where its framing says that something is
    missing.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool = True
    rest: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error, which has OpenAI's shape or the assertion fails."""
        document = self.json
        assert set(document) == {"error"}, document
        error: dict[str, Any] = document["error"]
        assert isinstance(error["message"], str)
        assert error["message"]
        assert isinstance(error["type"], str)
        assert {"param", "code"} <= set(error)
        return error


Address = str | tuple[str, int]
"""The path of a Unix socket, or a host and port."""


async def connect(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(address, str):
        return await asyncio.open_unix_connection(address, limit=2**24)
    return await asyncio.open_connection(*address, limit=2**24)


async def exchange(address: Address, data: bytes, *, half_close: bool = False) -> bytes:
    """Everything that comes back for these bytes until the other side ends the connection."""
    async with asyncio.timeout(WAIT_S):
        reader, writer = await connect(address)
        got = b""
        try:
            with suppress(ConnectionError):
                writer.write(data)
                if half_close:
                    writer.write_eof()
                await writer.drain()
            with suppress(ConnectionError):
                while piece := await reader.read(2**20):
                    got += piece
        finally:
            writer.transport.abort()
        return got


def read_response(data: bytes, *, head: bool = False) -> Answer:
    """The first response in these bytes."""
    top, found, rest = data.partition(b"\r\n\r\n")
    assert found, f"no response: {data[:200]!r}"
    line, *rows = top.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (row.partition(":") for row in rows)}
    status = int(line.split(" ")[1])
    if head or status < 200:
        return Answer(status, headers, b"", rest=rest)
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while True:
            size, found, after = rest.partition(b"\r\n")
            if not found or len(after) < int(size, 16) + 2:
                return Answer(status, headers, body + after, whole=False)
            if int(size, 16) == 0:
                return Answer(status, headers, body, rest=after[2:])
            body, rest = body + after[: int(size, 16)], after[int(size, 16) + 2 :]
    length = int(headers.get("content-length", "0"))
    return Answer(status, headers, rest[:length], whole=len(rest) >= length, rest=rest[length:])


def request(
    method: str, target: str, body: bytes = b"", *, headers: Sequence[str] = (), close: bool = True
) -> bytes:
    """A plain HTTP/1.1 request."""
    rows = ["host: localhost", *headers]
    if body or method == "POST":
        rows += ["content-type: application/json", f"content-length: {len(body)}"]
    if close:
        rows.append("connection: close")
    return "\r\n".join([f"{method} {target} HTTP/1.1", *rows, "", ""]).encode("latin-1") + body


def chat(model: str = "m", *, text: str = "Hi", **more: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}], **more}).encode()


CHAT = "/v1/chat/completions"


@dataclass
class Gateway:
    """`said` is what it wrote to stderr so far, in a file so that no pipe can fill up."""

    popen: subprocess.Popen[bytes]
    said: Path
    socket: str
    folder: Path
    address: tuple[str, int] = field(default=("", 0))

    @property
    def pid(self) -> int:
        return self.popen.pid

    async def ask(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        headers: Sequence[str] = (),
        at: Address | None = None,
    ) -> Answer:
        data = request(method, target, body, headers=headers)
        return read_response(await exchange(at or self.address, data), head=method == "HEAD")

    async def chat(self, model: str = "m", *, at: Address | None = None, **more: Any) -> Answer:
        return await self.ask("POST", CHAT, chat(model, **more), at=at)

    async def metric(self, name: str, *, labels: str = "") -> float:
        """The sum over the samples of one metric whose labels hold this text."""
        text = (await self.ask("GET", "/_internal/metrics")).body.decode()
        rows = [row for row in text.splitlines() if row.startswith((f"{name}{{", f"{name} "))]
        return sum(float(row.rpartition(" ")[2]) for row in rows if labels in row)

    def lines(self) -> list[dict[str, Any]]:
        return json_lines(self.said.read_text())

    async def line(self, event: str) -> dict[str, Any]:
        """The first line of the log about this, once it is there."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = [line for line in self.lines() if line.get("event") == event]
            return bool(found)

        await until(look, what=f"a line about {event!r}", tell=self.said.read_text)
        return found[0]

    async def calls(self, count: int) -> list[dict[str, Any]]:
        """The log's lines of this many calls, once they are there."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = [line for line in self.lines() if line["event"] == "call"]
            return len(found) >= count

        await until(look, what=f"{count} lines of calls", tell=self.said.read_text)
        return found

    def descriptors(self) -> int:
        """Open descriptors, but for those of the record store, which is opened after the first
        call.
        """
        open_files = 0
        for each in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                open_files += "/records.sqlite" not in str(each.readlink())
        return open_files

    def resident(self) -> int:
        """Bytes of memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    async def exit(self) -> int:
        """Its exit status, once it has one."""
        await until(lambda: self.popen.poll() is not None, what="the end", tell=self.said.read_text)
        return self.popen.returncode


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(each.name for each in folder.iterdir())


def json_lines(text: str) -> list[dict[str, Any]]:
    """The JSON lines among what was said; the last may still be on its way."""
    return [json.loads(row) for row in text.split("\n")[:-1] if row.startswith("{")]


async def until(
    true: Callable[[], bool], *, what: str, tell: Callable[[], str] = str, seconds: float = WAIT_S
) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not true():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{what} did not come within {seconds} s: {tell()}") from None


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "modelplex", *arguments]


LOOKED_INTO = "import sys; from modelplex import cli, serve; serve.become_undumpable = lambda: False; sys.exit(cli.main())"
"""The same, but open to this user: a gateway closes what it has below /proc to all but root, and
tests count its descriptors there.
"""


def open_command(*arguments: str) -> list[str]:
    return command(*arguments) if os.geteuid() == 0 else [sys.executable, "-c", LOOKED_INTO, *arguments]


def environment(extra: Mapping[str, str] = {}) -> dict[str, str]:
    """Next to nothing: no key of this machine's owner."""
    path = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    return {**path, **NOWHERE, **extra}


def environment_in(folder: Path, extra: Mapping[str, str] = {}) -> dict[str, str]:
    """With a state folder of its own."""
    return environment({"XDG_STATE_HOME": f"{folder}-state", **extra})


def run(*arguments: str, folder: Path, environ: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
    """The command, to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment_in(folder, environ),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


def answers(address: Address) -> bool:
    """Whether somebody accepts connections there."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address)
        except OSError:
            return False
        return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def served(
    config: str | None,
    *arguments: str,
    folder: Path,
    environ: Mapping[str, str] = {},
    stderr: IO[bytes] | int | None = None,
    through: str = 'exec "$@"',
) -> AsyncGenerator[Gateway]:
    """Start `modelplex` in this folder and wait until it serves; end it by SIGTERM, unless it has
    ended.

    A config gets a port of the system's choice and the socket `m.sock`, unless it says otherwise.
    `through` is the shell's line that starts it, for limits and closed streams.
    """
    path = folder / "m.sock"
    if config is not None:
        if "[server]" not in config:
            config = "[server]\n" + config
        if "http =" not in config:
            config = config.replace("[server]", f'[server]\nhttp = "127.0.0.1:0"\nsocket = "{path}"', 1)
        (folder / "config.toml").write_text(config)
    said = folder / "said"
    with said.open("wb") as file:
        popen = subprocess.Popen(  # noqa: ASYNC220 - it is to outlive this loop where a fixture starts it
            ["/bin/sh", "-c", through, "sh", *open_command(*arguments)],
            cwd=folder,
            env=environment_in(folder, environ),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=stderr if stderr is not None else file,
        )
    gateway = Gateway(popen, said, str(path), folder)
    try:
        await until(
            lambda: (
                popen.poll() is not None or answers(str(path)) or (not config and bool(ports_of(popen.pid)))
            ),
            what="the start",
            tell=said.read_text,
        )
        assert popen.poll() is None, said.read_text()
        if ports := ports_of(popen.pid):
            gateway.address = ("127.0.0.1", ports[0])
        yield gateway
    finally:
        if popen.poll() is None:
            popen.terminate()
            try:
                await until(lambda: popen.poll() is not None, what="the end", tell=said.read_text)
            finally:
                popen.kill()
                popen.wait(WAIT_S)


def ports_of(pid: int) -> list[int]:
    """The TCP ports on which this process listens."""
    inodes: set[str] = set()
    for number in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed in between
            link = str(number.readlink())
            if link.startswith("socket:["):
                inodes.add(link[8:-1])
    ports: list[int] = []
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            columns = row.split()
            if columns[3] == "0A" and columns[9] in inodes:
                ports.append(int(columns[1].rpartition(":")[2], 16))
    return sorted(set(ports))
