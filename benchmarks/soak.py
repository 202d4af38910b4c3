"""A well-behaved caller beside hostile ones: `make soak`, 10 minutes; `make soak ARGS="--minutes
1"`.

A real gateway with agents, sockets, HTTP, a scripted provider and a tool server. First the good
caller is alone, which gives its quiet latency; then `soak_hostile` runs beside it. Each of its
responses is checked. The table has the result, and the exit status is 1 if the gateway used more
than MEMORY_LIMIT_MB, the good caller's 99th percentile is above LATENCY_LIMIT times the quiet
one, a response was wrong, or the gateway exited.

The generators share the machine with the gateway: they use HOSTILE_CPU of a core at most, at a low
priority, and the provider of the endless streams has that priority too. Linux only, since it reads
/proc.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import soak_hostile
from benchmarks.machine import HERE, Service, free_port, start_at

MODELPLEX = Path(sys.executable).parent / "modelplex"
MEMORY_LIMIT_MB = 200.0
LATENCY_LIMIT = 3.0
HOSTILE_CPU = 0.3
"""Of one core."""
QUIET_SHARE = 0.2
"""Of the time, with only the good caller."""
GAP_S = 0.02
"""Between the good caller's requests: 50 a second, as one agent with some subagents makes."""
SAMPLE_S = 0.5
"""Between two readings of the gateway's memory."""
ANSWER_LIMIT_S = 30.0
"""A request of the good caller that takes longer has failed."""
PERCENTILE = 0.99

CONFIG = """\
[server]
http = "127.0.0.1:{http}"
socket = "{folder}/m.sock"
state_folder = "{folder}/state"

[failover]
retries = 0

[log]
file = "{folder}/log.json"

[[providers]]
name = "up"
type = "openai"
base_url = "http://127.0.0.1:{upstream}/v1"
api_key = "sk-soak"
models = {models}

[[providers]]
name = "endless"
type = "openai"
base_url = "http://127.0.0.1:{endless}/v1"
api_key = "sk-soak"
models = {streams}

[mcp]
enabled = true
pinning = "off"
[[mcp.servers]]
name = "echo"
command = "{python}"
args = ["-S", "-E", "{echo}"]
"""
MODELS = ("good", "fail-500", "silent")


def config(folder: Path, *, http: int, upstream: int, endless: int) -> str:
    agents = "".join(
        f'[[agents]]\nname = "{name}"\nsocket = "{folder}/{name}.sock"\n{soak_hostile.RATES.get(name, "")}\n'
        for name in ("caller", *soak_hostile.AGENTS)
    )
    echo = HERE / "soak_tools.py"
    top = CONFIG.format(
        folder=folder,
        http=http,
        upstream=upstream,
        endless=endless,
        models=json.dumps(MODELS),
        streams=json.dumps(soak_hostile.STREAMS),
        python=sys.executable,
        echo=echo,
    )
    return top + agents


# --- good caller


@dataclass
class Wire:
    """One keep-alive connection."""

    open: Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, data: bytes) -> tuple[int, bytes]:
        """Status and body. A connection that was closed meanwhile is opened again, as every client
        does.
        """
        kept = self.streams is not None
        try:
            return await self._ask(data)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            if not kept:
                raise
            return await self._ask(data)

    async def _ask(self, data: bytes) -> tuple[int, bytes]:
        if self.streams is None:
            self.streams = await self.open()
        reader, writer = self.streams
        writer.write(data)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        if b"transfer-encoding: chunked" in head:
            body = b""
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
        else:
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
        if b"connection: close" in head:
            self.close()
        return status, body

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].transport.abort()
            self.streams = None


@dataclass
class Good:
    """The well-behaved caller: an agent on its socket, and the host on HTTP."""

    folder: Path
    http: int
    waits: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict[str, list[float]](list))
    wrong: Counter[str] = field(default_factory=Counter[str])
    asked: int = 0

    def __post_init__(self) -> None:
        agent = Wire(lambda: asyncio.open_unix_connection(str(self.folder / "caller.sock"), limit=2**22))
        host = Wire(lambda: asyncio.open_connection("127.0.0.1", self.http))
        self._kinds: dict[str, tuple[Wire, Callable[[str], bytes], Callable[[str, bytes], bool]]] = {
            "chat": (agent, self._chat, _is_chat),
            "chat, streamed": (agent, self._streamed, _is_stream),
            "messages, translated": (agent, self._messages, _is_message),
            "tool call": (agent, self._tool, _is_tool),
            "health": (
                host,
                lambda _: b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n",
                lambda _, body: b'"ok"' in body,
            ),
        }
        self._wires = (agent, host)

    async def run(self, seconds: float) -> None:
        """Sends one request after the other, of each kind in turn."""
        end = time.monotonic() + seconds
        names = [f"nonce-{number:08x}" for number in range(self.asked, self.asked + 100_000)]
        for nonce, kind in zip(names, _in_turn(list(self._kinds)), strict=False):
            if time.monotonic() > end:
                return
            await self._one(kind, nonce)
            await asyncio.sleep(GAP_S)

    async def _one(self, kind: str, nonce: str) -> None:
        wire, write, judge = self._kinds[kind]
        self.asked += 1
        began = time.perf_counter()
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                status, body = await wire.ask(write(nonce))
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as fault:
            wire.close()
            self.wrong[f"{kind}: {type(fault).__name__}"] += 1
            return
        self.waits[kind].append(time.perf_counter() - began)
        if status != 200 or not _right(judge, nonce, body):
            self.wrong[f"{kind}: {status} {body[:200]!r}"] += 1

    def close(self) -> None:
        for wire in self._wires:
            wire.close()

    def _chat(self, nonce: str) -> bytes:
        return soak_hostile.post(soak_hostile.chat("good", nonce), close=False)

    def _streamed(self, nonce: str) -> bytes:
        return soak_hostile.post(soak_hostile.chat("good", nonce, stream=True), close=False)

    def _messages(self, nonce: str) -> bytes:
        body = soak_hostile.chat("good", nonce, stream=True, max_tokens=99)
        return soak_hostile.post(body, path="/v1/messages", close=False)

    def _tool(self, nonce: str) -> bytes:
        return soak_hostile.mcp("tools/call", name="echo__echo", arguments={"text": nonce}, close=False)


def _in_turn(kinds: Sequence[str]) -> Generator[str]:
    for number in count():
        yield kinds[number % len(kinds)]


def _right(judge: Callable[[str, bytes], bool], nonce: str, body: bytes) -> bool:
    try:
        return judge(nonce, body)
    except (ValueError, KeyError, IndexError, TypeError):
        return False  # not in the expected form


def _said(nonce: str) -> str:
    return f"You said {nonce}, and that is well."


def _is_chat(nonce: str, body: bytes) -> bool:
    content: str = json.loads(body)["choices"][0]["message"]["content"]
    return content == _said(nonce)


def _events(body: bytes) -> list[Any]:
    rows = [row[6:] for row in body.split(b"\n") if row.startswith(b"data: ")]
    return [json.loads(row) for row in rows if row != b"[DONE]"]


def _is_stream(nonce: str, body: bytes) -> bool:
    text = "".join(one["choices"][0]["delta"].get("content") or "" for one in _events(body) if one["choices"])
    return text == _said(nonce) and body.endswith(b"data: [DONE]\n\n")


def _is_message(nonce: str, body: bytes) -> bool:
    events = _events(body)
    text = "".join(one["delta"].get("text", "") for one in events if one["type"] == "content_block_delta")
    return text == _said(nonce) and events[-1]["type"] == "message_stop"


def _is_tool(nonce: str, body: bytes) -> bool:
    (answer,) = _events(body) or [json.loads(body)]  # a slow call gets a stream
    content: str = answer["result"]["content"][0]["text"]
    return content == nonce


# --- checks


def percentile(waits: Sequence[float], share: float = PERCENTILE) -> float:
    """In seconds; 0 for none."""
    ordered = sorted(waits)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a soak. Waits are in seconds, by kind of request."""

    quiet: Mapping[str, Sequence[float]]
    hostile: Mapping[str, Sequence[float]]
    memory_mb: Sequence[float]
    """Of the gateway with its descendants."""
    own_mb: Sequence[float] = ()
    """Of the gateway's process."""
    wrong: Mapping[str, int]
    asked: int
    exit_code: int | None
    done: Mapping[str, int]

    def faults(self, *, judge_latency: bool = True) -> list[str]:
        """One sentence for each failed check."""
        found: list[str] = []
        if self.exit_code is not None:
            found.append(f"The gateway ended with status {self.exit_code}.")
        peak = max(self.memory_mb, default=0.0)
        if peak > MEMORY_LIMIT_MB:
            found.append(f"The gateway took {peak:.0f} MB, and may take {MEMORY_LIMIT_MB:.0f}.")
        quiet, hostile = percentile(_all(self.quiet)), percentile(_all(self.hostile))
        if judge_latency and hostile > LATENCY_LIMIT * quiet:
            found.append(
                f"The good caller's 99th percentile is {hostile * 1000:.1f} ms, which is {hostile / max(quiet, 1e-9):.1f} times the quiet "
                f"{quiet * 1000:.1f} ms, and may be {LATENCY_LIMIT:g} times."
            )
        if wrong := sum(self.wrong.values()):
            found.append(
                f"{wrong} of {self.asked} answers were wrong: {dict(Counter(self.wrong).most_common(5))}"
            )
        if not _all(self.hostile):
            found.append("The good caller got no answer.")
        return found


def _all(waits: Mapping[str, Sequence[float]]) -> list[float]:
    return [wait for each in waits.values() for wait in each]


def table(outcome: Outcome) -> str:
    """A Markdown table: waits of the good caller, memory, and the hostile callers' work."""
    rows = [
        "| request | quiet p50 | quiet p99 | hostile p50 | hostile p99 | worst |",
        "|---|---|---|---|---|---|",
    ]
    for kind in (*outcome.quiet, "all"):
        quiet, hostile = (
            (_all(outcome.quiet), _all(outcome.hostile))
            if kind == "all"
            else (outcome.quiet[kind], outcome.hostile.get(kind, []))
        )
        figures = (
            percentile(quiet, 0.5),
            percentile(quiet),
            percentile(hostile, 0.5),
            percentile(hostile),
            max(hostile, default=0.0),
        )
        rows.append(f"| {kind} | " + " | ".join(f"{figure * 1000:.1f} ms" for figure in figures) + " |")
    memory = outcome.memory_mb
    rows += ["", "| memory | MB |", "|---|---|"]
    if memory:
        told = {
            "at the start": memory[0],
            "median": statistics.median(memory),
            "peak": max(memory),
            "at the end": memory[-1],
        }
        rows += [f"| {name} | {figure:.0f} |" for name, figure in told.items()]
    if outcome.own_mb:
        rows.append(f"| peak of the gateway alone | {max(outcome.own_mb):.0f} |")
    rows += ["", "| hostile | times |", "|---|---|"]
    rows += [f"| {what} | {times:,} |" for what, times in sorted(outcome.done.items())]
    return "\n".join(rows)


# --- run


@contextmanager
def services(folder: Path) -> Generator[tuple[Service, int]]:
    """The gateway with its providers, and its HTTP port. The endless streams come from a separate
    provider, which would delay the good caller's.
    """
    upstream, endless, http = free_port(), free_port(), free_port()
    with ExitStack() as stack:
        for port, niceness in ((upstream, 0), (endless, soak_hostile.NICE)):
            command = [
                "nice",
                "-n",
                str(niceness),
                sys.executable,
                "-m",
                "benchmarks.soak_upstream",
                str(port),
            ]
            provider = start_at(command, core=None, port=port, cwd=HERE.parent)
            stack.callback(provider.stop)
        file = folder / "config.toml"
        file.write_text(config(folder, http=http, upstream=upstream, endless=endless))
        gateway = start_at([str(MODELPLEX), "--config", str(file)], core=None, port=http, cwd=folder)
        stack.callback(gateway.stop)
        _wait_for(folder / "caller.sock")
        yield gateway, http


async def sampled(gateway: Service, samples: list[float], own: list[float]) -> None:
    while True:
        samples.append(await asyncio.to_thread(gateway.rss_mb))
        own.append(await asyncio.to_thread(gateway.own_rss_mb))
        await asyncio.sleep(SAMPLE_S)


async def run(folder: Path, seconds: float, *, only: Sequence[str]) -> Outcome:
    with services(folder) as (gateway, http):
        memory: list[float] = []
        own: list[float] = []
        warm = Good(folder, http)
        await warm.run(2.0)
        warm.close()
        sampling = asyncio.create_task(sampled(gateway, memory, own))
        good = Good(folder, http)
        await good.run(seconds * QUIET_SHARE)
        quiet, good.waits = good.waits, defaultdict[str, list[float]](list)
        done = folder / "hostile.json"
        with done.open("wb") as told, hostile(folder, told.fileno(), only=only):
            await good.run(seconds * (1 - QUIET_SHARE))
        good.close()
        sampling.cancel()
        lines = done.read_bytes().splitlines()
        return Outcome(
            quiet=quiet,
            hostile=good.waits,
            memory_mb=memory,
            own_mb=own,
            wrong=good.wrong,
            asked=good.asked,
            exit_code=gateway.process.poll(),
            done=json.loads(lines[-1]) if lines else {},
        )


@contextmanager
def hostile(folder: Path, told: int, *, only: Sequence[str]) -> Generator[None]:
    command = [sys.executable, "-m", "benchmarks.soak_hostile", str(folder), str(HOSTILE_CPU), *only]
    with subprocess.Popen(command, cwd=HERE.parent, stdout=told) as process:
        try:
            yield
        finally:
            process.kill()


def _wait_for(socket: Path) -> None:
    """Wait for the sockets, which exist shortly after the port."""
    end = time.monotonic() + ANSWER_LIMIT_S
    while not socket.exists() and time.monotonic() < end:
        time.sleep(0.05)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="soak", description="A well-behaved caller beside hostile ones.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--no-latency",
        action="store_true",
        help="do not judge latencies: for a machine that does other things too",
    )
    parser.add_argument(
        "--only", nargs="+", default=[], choices=soak_hostile.CALLERS, help="some of the hostile callers"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        outcome = asyncio.run(run(Path(folder), options.minutes * 60, only=options.only))
    print(table(outcome))
    faults = outcome.faults(judge_latency=not options.no_latency)
    print("\n" + ("\n".join(faults) if faults else "All is as it must be."))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
