"""`make scale`: what limits over several gateways cost, and by how much a budget is exceeded.

Starts a Redis, and 1, 2 and 4 gateways with the demo provider, first without [shared], then with.
The figures are CPU time, from /proc, and Redis' own count of the time in the script; so they vary
less than latencies where others use the machine. Then the model of docs/why/scale.md with the
costs that were measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import free_port

START_S = 60.0
AGENT_KEY = "key-of-the-agent"
BODY = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}).encode()
CALLERS = 8
"""Requests at the same time at each gateway."""
COUNTS = (1, 2, 4)


@dataclass(frozen=True)
class Costs:
    """Per request: microseconds of CPU in a gateway without and with [shared], of the engine's
    process, and of its script; and messages.
    """

    alone: float
    shared: float
    engine: float
    script: float
    messages: float


@dataclass(frozen=True)
class Overspend:
    """In requests: what the budget was for, and what was served."""

    budget: int
    served: int
    in_flight: int


def cpu(pid: int) -> float:
    """Seconds of CPU that the threads of a process used, as the scheduler counts them."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


@contextmanager
def redis(folder: Path) -> Generator[tuple[int, int]]:
    """Its port and process."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        sys.exit("make scale needs redis-server or valkey-server")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    with subprocess.Popen(
        [program, *options, "--appendonly", "yes", "--loglevel", "warning"], stdout=subprocess.DEVNULL
    ) as popen:
        try:
            wait_until_it_listens(port)
            yield port, popen.pid
        finally:
            popen.terminate()


@contextmanager
def gateway(folder: Path, limits: str, *, engine: int | None) -> Generator[tuple[int, int]]:
    """Its port and process."""
    port = free_port()
    shared = "" if engine is None else f'[shared]\nurl = "redis://127.0.0.1:{engine}"\n'
    (folder / "config.toml").write_text(
        f'[server]\nhttp = "127.0.0.1:{port}"\nstate_folder = "{folder}"\nlog_level = "error"\n'
        f'[record]\ncontent = "off"\n[[providers]]\ntype = "demo"\n{shared}'
        f'[[agents]]\nname = "agent"\ntoken = "{AGENT_KEY}"\n{limits}\n'
    )
    command = [sys.executable, "-m", "modelplex", "--config", str(folder / "config.toml")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as popen:
        try:
            wait_until_it_listens(port)
            yield port, popen.pid
        finally:
            popen.terminate()


def wait_until_it_listens(port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            asyncio.run(_connect(port))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


async def _connect(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


async def statuses(port: int, requests: int) -> list[int]:
    """The statuses of so many requests, CALLERS at a time."""
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {AGENT_KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n"
    ).encode()
    left = iter(range(requests))

    async def caller() -> list[int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        found: list[int] = []
        for _ in left:
            writer.write(head + BODY)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", answer, re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
            found.append(int(answer.split(b" ", 2)[1]))
        writer.close()
        return found

    each = await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return [status for found in each for status in found]


async def _all_statuses(ports: Sequence[int], requests: int) -> list[int]:
    each = await asyncio.gather(*(statuses(port, requests) for port in ports))
    return [status for found in each for status in found]


def engine_counts(port: int) -> tuple[int, int]:
    """Calls of the script so far, and microseconds in them."""
    from redis import Redis

    with Redis(port=port) as client:
        stats = client.info("commandstats")  # pyright: ignore[reportUnknownMemberType]
    row = stats.get("cmdstat_evalsha", {"calls": 0, "usec": 0})
    return int(row["calls"]), int(row["usec"])


def measured(count: int, requests: int, limits: str, *, shared: bool) -> tuple[list[int], Costs]:
    """The statuses, and the costs of a request; `alone` or `shared` of them is 0."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port, engine = stack.enter_context(redis(folder)) if shared else (0, 0)
        found: list[tuple[int, int]] = []
        for number in range(count):
            (folder / str(number)).mkdir()
            place = folder / str(number)
            found.append(stack.enter_context(gateway(place, limits, engine=port or None)))
        ports = [each for each, _ in found]
        asyncio.run(_all_statuses(ports, CALLERS))  # loads what is loaded at the first request
        before = [cpu(pid) for _, pid in found]
        engine_before = (*engine_counts(port), cpu(engine)) if shared else (0, 0, 0.0)
        got = asyncio.run(_all_statuses(ports, requests))
        if not set(got) <= {200, 402, 429}:
            sys.exit(f"unexpected statuses: {sorted(set(got))}")
        used = sum(cpu(pid) for _, pid in found) - sum(before)
        after = (*engine_counts(port), cpu(engine)) if shared else (0, 0, 0.0)
    each = 1e6 * used / len(got)
    calls, usec, seconds = (now - then for now, then in zip(after, engine_before, strict=True))
    return got, Costs(
        alone=0.0 if shared else each,
        shared=each if shared else 0.0,
        engine=1e6 * seconds / len(got),
        script=usec / len(got),
        messages=calls / len(got),
    )


def overspent(count: int) -> Overspend:
    """A budget that callers at `count` gateways use up. A request of the demo has 25 tokens."""
    tokens, budget = 25, 400
    limits = f"budget = {{ tokens = {tokens * budget} }}"
    got, _ = measured(count, 2 * budget // count, limits, shared=True)
    warmed = CALLERS * count
    return Overspend(budget, got.count(200) + warmed, CALLERS * count)


# --- the model


@dataclass(frozen=True)
class Computed:
    """At so many hosts: requests and messages a second at the engine, the part of its time that is
    used, and the mean wait for it in microseconds.
    """

    requests: float
    messages: float
    used: float
    wait: float


def computed(hosts: int, *, requests: float, script: float, messages: float, lease: float = 15.0) -> Computed:
    """A queue with one server and Poisson arrivals (M/D/1): a message waits for
    used / (2 (1 - used)) times its own time. `requests` are those of a host a second, `script` and
    `messages` those of a request; a host sends three more in a lease.
    """
    asked = hosts * requests
    sent = asked * messages + 3 * hosts / lease
    each = script / messages
    used = sent * each / 1e6
    return Computed(asked, sent, used, each * used / (2 * (1 - used)) if used < 1 else float("inf"))


def model_table(costs: Costs, *, requests: float) -> str:
    rows = [
        "| hosts | agents | requests a second | engine's core used | mean wait at the engine, µs |",
        "|---|---|---|---|---|",
    ]
    for hosts in (3, 10, 30, 100, 300, 1000):
        at = computed(hosts, requests=requests, script=costs.script, messages=costs.messages)
        wait = f"{at.wait:,.0f}" if at.used < 1 else "too many for one engine"
        rows.append(f"| {hosts:,} | {hosts * 167:,} | {at.requests:,.0f} | {at.used:.1%} | {wait} |")
    return "\n".join(rows)


def cost_table(rows: dict[int, tuple[Costs, Overspend]]) -> str:
    head = [
        "| gateways | requests per CPU second, alone | shared | added, µs | engine's process, µs | script, µs | messages a request | budget of 400 requests: served | in flight at most |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join(
        head
        + [
            f"| {count} | {1e6 / c.alone:,.0f} | {1e6 / c.shared:,.0f} | {c.shared - c.alone:,.0f} | {c.engine:,.0f} "
            f"| {c.script:,.0f} | {c.messages:.2f} | {o.served} | {o.in_flight} |"
            for count, (c, o) in rows.items()
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="make scale")
    parser.add_argument("--requests", type=int, default=800, help="at each gateway")
    parser.add_argument(
        "--per-host", type=float, default=20.0, help="requests a second of a host, in the model"
    )
    options = parser.parse_args()
    limits = "rate = { requests = 1000000 }\nbudget = { tokens = 1000000000 }\nconcurrent = 1000"
    rows: dict[int, tuple[Costs, Overspend]] = {}
    for count in COUNTS:
        _, alone = measured(count, options.requests, limits, shared=False)
        _, shared = measured(count, options.requests, limits, shared=True)
        costs = Costs(alone.alone, shared.shared, shared.engine, shared.script, shared.messages)
        rows[count] = costs, overspent(count)
    print(cost_table(rows))
    print(f"\nComputed, with {options.per_host:g} requests a second of a host:\n")
    print(model_table(rows[COUNTS[-1]][0], requests=options.per_host))


if __name__ == "__main__":
    main()
