"""The cost of a tool call through the gateway, beside the same call without it and through
FastMCP's proxy: `make bench`, or `python -m benchmarks.tools` alone.

All of them call the same echo server (tools_echo.py), which takes some ten microseconds, over stdio
and over HTTP. The measured process has one core to itself, with the server that it starts; load and
the server over HTTP share another. Targets take turns within a run, in another order each round,
and each figure is the median of the rounds. FastMCP is measured if `make tools` has installed it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import GATEWAY_CORE, PEERS_CORE, Service, build, free_port, on_core, start_at

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / ".cache" / "bench"
MODELPLEX = Path(sys.executable).parent / "modelplex"
FASTMCP = ROOT / ".cache" / "tools" / "servers" / "bin" / "python"
ECHO = [sys.executable, "-S", "-E", str(HERE / "tools_echo.py")]
MODERN: Final = "2026-07-28"
RESERVED: Final = "io.modelcontextprotocol/"
AT_ONCE: Final = 16
"""Concurrent calls while CPU is measured: as many as one server may have."""
CONFIGURED: Final = 10
"""Servers that are configured but never started, for the measurement of memory."""
TEXT: Final = "hello " * 10
SETTLE_S: Final = 2.0
"""Seconds for which a process idles before its memory is read."""

ADDED: Final = "added to a call, µs"
CALLS: Final = "calls a CPU second"
MEMORY: Final = f"MB with {CONFIGURED} servers configured and none started"
ALONE: Final = "MB without any"

SHARE_OF_FASTMCP = 0.2
ADDED_LIMIT_US = 2000.0
MEMORY_LIMIT_MB = 5.0

Figures = dict[tuple[str, str], list[float]]


@dataclass(frozen=True)
class Way:
    """One path to the echo server. `service` is the process in between, or None."""

    name: str
    transport: str
    port: int
    path: str
    tool: str
    service: Service | None

    @property
    def headers(self) -> list[str]:
        return [
            "accept: application/json, text/event-stream",
            "content-type: application/json",
            f"mcp-protocol-version: {MODERN}",
            "mcp-method: tools/call",
            f"mcp-name: {self.tool}",
        ]

    @property
    def body(self) -> bytes:
        return json.dumps(call(self.tool)).encode()


def call(tool: str) -> dict[str, Any]:
    meta: dict[str, Any] = {f"{RESERVED}protocolVersion": MODERN, f"{RESERVED}clientCapabilities": {}}
    params = {"name": tool, "arguments": {"text": TEXT}, "_meta": meta}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


# --- measurements


@contextmanager
def alone(way: Way, ways: list[Way]) -> Generator[None]:
    """Stop all other services."""
    for other in ways:
        if other.service is not None and other.service is not way.service:
            other.service.pause()
    if way.service is not None:
        way.service.resume()
    yield


def load(way: Way, *, connections: int, seconds: float) -> dict[str, Any]:
    """The load client's figures. Each connection sends its next call right after a response."""
    file = BUILD / f"tools-{way.tool}.json"
    file.write_bytes(way.body)
    headers = [part for header in way.headers for part in ("-H", header)]
    command = [str(BUILD / "load"), "-t", f"127.0.0.1:{way.port}", "-p", way.path, "-b", str(file), *headers]
    with on_core(PEERS_CORE):
        done = subprocess.run(
            [*command, "-c", str(connections), "-d", str(seconds), "-w", "0.3"],
            check=True,
            capture_output=True,
            timeout=seconds + 60,
        )
    told: dict[str, Any] = json.loads(done.stdout)
    if told["err"] or told["non2xx"] or not told["tot"]:
        message = f"{way.name} over {way.transport}: {told}"
        raise RuntimeError(message)
    return told


def over_stdio(seconds: float) -> float:
    """Median microseconds of a call to the server itself, over its pipes."""
    with on_core(GATEWAY_CORE):
        child = subprocess.Popen(ECHO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert child.stdin is not None
    assert child.stdout is not None
    line, taken = json.dumps(call("echo")).encode() + b"\n", list[float]()
    to, back = child.stdin.fileno(), child.stdout.fileno()
    with on_core(PEERS_CORE):
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            os.write(to, line)
            while not os.read(back, 65536).endswith(b"\n"):
                pass
            taken.append(time.perf_counter() - began)
    child.stdin.close()
    child.wait(10)
    child.stdout.close()
    return statistics.median(taken) * 1e6


def measure(ways: list[Way], *, direct_port: int, count: int, seconds: float) -> Figures:
    figures: Figures = defaultdict(list)
    direct = Way("direct", "HTTP", direct_port, "/mcp", "echo", None)
    for number in range(count):
        print(f"tools, round {number + 1} of {count}", file=sys.stderr)
        for other in ways:
            if other.service is not None:
                other.service.pause()
        alone_us = {
            "stdio": over_stdio(seconds),
            "HTTP": load(direct, connections=1, seconds=seconds)["p50"],
        }
        for transport, figure in alone_us.items():
            figures[f"{transport}: a call takes, µs", "direct"].append(figure)
        for at in range(len(ways)):
            way = ways[(at + number) % len(ways)]
            with alone(way, ways):
                took = load(way, connections=1, seconds=seconds)["p50"]
                figures[f"{way.transport}: a call takes, µs", way.name].append(took)
                figures[f"{way.transport}: {ADDED}", way.name].append(took - alone_us[way.transport])
                assert way.service is not None
                before = way.service.own_cpu_ns()
                told = load(way, connections=AT_ONCE, seconds=seconds)
                spent = way.service.own_cpu_ns() - before
                figures[f"{way.transport}: {CALLS}", way.name].append(told["tot"] / spent * 1e9)
        for other in ways:
            if other.service is not None:
                other.service.resume()
    return figures


def memory(figures: Figures, *, count: int) -> None:
    """Memory of idle processes, each newly started."""
    for _ in range(count):
        for servers, measure_ in ((0, ALONE), (CONFIGURED, MEMORY)):
            with ExitStack() as stack:
                service = start_modelplex(stack, modelplex_config(servers), port=free_port())
                time.sleep(SETTLE_S)
                figures[measure_, "modelplex"].append(service.rss_mb())
        if FASTMCP.exists():
            with ExitStack() as stack:
                service = start_fastmcp(
                    stack, {f"s{n}": echo_command() for n in range(CONFIGURED)}, port=free_port()
                )
                time.sleep(SETTLE_S)
                figures[MEMORY, "FastMCP"].append(service.own_rss_mb())


# --- services


def echo_command() -> dict[str, Any]:
    return {"command": ECHO[0], "args": ECHO[1:]}


def modelplex_config(servers: int, *, url: str | None = None) -> str:
    """[mcp] with so many servers over stdio, and one over HTTP if there is an address."""
    lines = ["[server]", f'state_folder = "{BUILD / "state"}"']
    if servers or url:
        lines += ["[mcp]", "enabled = true", 'pinning = "off"']
    for number in range(servers):
        args = ", ".join(f'"{arg}"' for arg in ECHO[1:])
        lines += ["[[mcp.servers]]", f'name = "s{number}"', f'command = "{ECHO[0]}"', f"args = [{args}]"]
        lines += [f"env = {{ N = '{number}' }}"]
    if url is not None:
        lines += ["[[mcp.servers]]", 'name = "remote"', f'url = "{url}"']
    return "\n".join(lines) + "\n"


def start_modelplex(stack: ExitStack, config: str, *, port: int) -> Service:
    file = BUILD / "tools.toml"
    file.write_text(config)
    socket = BUILD / "tools.socket"
    command = [str(MODELPLEX), "--config", str(file), "--http", f"127.0.0.1:{port}", "--socket", str(socket)]
    service = start_at(command, core=GATEWAY_CORE, port=port, cwd=BUILD)
    stack.callback(service.stop)
    return service


def start_fastmcp(stack: ExitStack, servers: dict[str, Any], *, port: int) -> Service:
    command = [str(FASTMCP), str(HERE / "tools_proxy.py"), str(port), json.dumps(servers)]
    service = start_at(command, core=GATEWAY_CORE, port=port, cwd=BUILD)
    stack.callback(service.stop)
    return service


def start_echo(stack: ExitStack) -> int:
    port = free_port()
    service = start_at([*ECHO, str(port)], core=PEERS_CORE, port=port, cwd=BUILD)
    stack.callback(service.stop)
    return port


def start_ways(stack: ExitStack, *, echo: int) -> list[Way]:
    """Both gateways with both forms of the server, each of which has responded once."""
    url = f"http://127.0.0.1:{echo}/mcp"
    port = free_port()
    ours = start_modelplex(stack, modelplex_config(1, url=url), port=port)
    ways = [
        Way("modelplex", "stdio", port, "/mcp/v1", "s0__echo", ours),
        Way("modelplex", "HTTP", port, "/mcp/v1", "remote__echo", ours),
    ]
    if FASTMCP.exists():
        for transport, server in (("stdio", echo_command()), ("HTTP", {"url": url})):
            port = free_port()
            theirs = start_fastmcp(stack, {"echo": server}, port=port)
            ways.append(Way("FastMCP", transport, port, "/mcp", "echo", theirs))
    else:
        print("FastMCP is not installed, so there is nothing beside us (`make tools`).", file=sys.stderr)
    for way in ways:
        check(way)
    return ways


def check(way: Way) -> None:
    """Checks the response: a fast wrong one must not be measured."""
    headers = dict(header.split(": ", 1) for header in way.headers)
    asked = urllib.request.Request(f"http://127.0.0.1:{way.port}{way.path}", way.body, headers)
    with urllib.request.urlopen(asked, timeout=30) as response:  # noqa: S310 - a loopback URL of our own
        answer = json.load(response)
    if answer.get("result", {}).get("content", [{}])[0].get("text") != TEXT:
        message = f"{way.name} over {way.transport} answered {answer}"
        raise RuntimeError(message)


# --- table


def table(medians: dict[tuple[str, str], float]) -> str:
    """A Markdown table, with the aims."""
    names = list(dict.fromkeys(name for _, name in medians))
    names = [name for name in ("direct", "FastMCP", "modelplex") if name in names]
    lines = [
        f"| a tool call | {' | '.join(names)} | modelplex against FastMCP | aim |",
        f"|---|{'---:|' * len(names)}---|---|",
    ]
    for measure_ in dict.fromkeys(measure_ for measure_, _ in medians):
        cells = [figure(medians.get((measure_, name))) for name in names]
        ratio, aim = verdict(measure_, medians)
        lines.append(f"| {measure_} | {' | '.join(cells)} | {ratio} | {aim} |")
    return "\n".join(lines)


def figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def verdict(measure_: str, medians: dict[tuple[str, str], float]) -> tuple[str, str]:
    """Comparisons, and whether the aims are met."""
    ours, theirs = medians.get((measure_, "modelplex")), medians.get((measure_, "FastMCP"))
    if ours is None:
        return "", ""
    if measure_.endswith(ADDED):
        aims = [f"at most {ADDED_LIMIT_US:,.0f}: {met(ours <= ADDED_LIMIT_US)}"]
        if not theirs:
            return "", aims[0]
        aims.append(f"at most {SHARE_OF_FASTMCP} of FastMCP's: {met(ours / theirs <= SHARE_OF_FASTMCP)}")
        return f"{ours / theirs:.2f} of what it adds", "; ".join(aims)
    if measure_.endswith(CALLS) and theirs:
        return f"{ours / theirs:.1f} times as many", ""
    if measure_ == MEMORY and (without := medians.get((ALONE, "modelplex"))):
        more = ours - without
        return (
            f"{more:+.1f} MB for the servers",
            f"below {MEMORY_LIMIT_MB:.0f} MB: {met(more < MEMORY_LIMIT_MB)}",
        )
    return "", ""


def met(it_is: object) -> str:
    return "met" if it_is else "MISSED"


def run(*, count: int, seconds: float) -> str:
    """Returns the table. Takes some minutes."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        echo = start_echo(stack)
        figures = measure(start_ways(stack, echo=echo), direct_port=echo, count=count, seconds=seconds)
    memory(figures, count=count)
    return table({key: statistics.median(values) for key, values in figures.items()})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="of which each figure is the median (default 5)"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure (default 2)")
    given = parser.parse_args()
    build()
    print(run(count=given.rounds, seconds=given.seconds))


if __name__ == "__main__":
    main()
