"""Throughput of one worker and of two, on the same two cores: `make bench ARGS="--only workers"`.

Two agents, each on its own socket, keep the gateway busy. The load and the upstream have the cores
beyond the first two. On a machine with two cores they share those of the gateway, and take from two
workers what one worker leaves them: there the ratio of requests is too low, and that of requests
for each CPU second of the gateway says what two free cores would give.
"""

import json
import os
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bodies import MODEL
from benchmarks.gateways import MODELPLEX
from benchmarks.machine import BUILD, CORES, Service, free_port, start_at

GATEWAY_CORES = frozenset(CORES[:2])
LOAD_CORES = frozenset(CORES[2:]) or GATEWAY_CORES
AGENTS = ("a", "b")
CONNECTIONS = 16
"""Of each agent: enough that a worker always has a request to serve."""
KINDS = ("500 B", "40 KB")
AIM = 1.7
REQUESTS, FOR_CPU = "requests a second", "requests a CPU second"
CHAT = "/v1/chat/completions"
CONFIG = """\
[server]
workers = {workers}
http = "127.0.0.1:{http}"

[[providers]]
name = "bench"
type = "openai"
base_url = "http://127.0.0.1:{upstream}/v1"
api_key = "sk-bench"
models = ["{model}"]
"""
AGENT = '\n[[agents]]\nname = "{name}"\nsocket = "{socket}"\n'

Figures = Mapping[tuple[str, str, int], float]
"""By body, measure and number of workers."""


@contextmanager
def on_cores(cores: frozenset[int]) -> Generator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def socket_of(workers: int, agent: str) -> Path:
    return BUILD / f"workers-{workers}-{agent}.sock"


def start_gateway(workers: int, *, upstream: int) -> Service:
    port, file = free_port(), BUILD / f"workers-{workers}.toml"
    agents = [AGENT.format(name=name, socket=socket_of(workers, name)) for name in AGENTS]
    head = CONFIG.format(workers=workers, http=port, upstream=upstream, model=MODEL)
    file.write_text(head + "".join(agents))
    with on_cores(GATEWAY_CORES):
        return start_at([str(MODELPLEX), "--config", str(file)], core=None, port=port, cwd=BUILD)


def load_both(workers: int, *, file: Path, seconds: float) -> int:
    """The requests of both agents that were answered. Raises RuntimeError if one failed."""
    command = [str(BUILD / "load"), "-p", CHAT, "-b", str(file), "-c", str(CONNECTIONS), "-d", str(seconds)]
    with on_cores(LOAD_CORES):
        clients = [
            subprocess.Popen(
                [*command, "-t", f"unix:{socket_of(workers, name)}"], stdout=subprocess.PIPE, text=True
            )
            for name in AGENTS
        ]
    done = 0
    for client in clients:
        out, _ = client.communicate(timeout=600)
        figures: dict[str, Any] = json.loads(out)
        if figures["err"] or figures["non2xx"]:
            message = f"{workers} workers: {figures['err']} broken and {figures['non2xx']} refused requests"
            raise RuntimeError(message)
        done += figures["tot"]
    return done


def run(files: Mapping[str, Path], *, upstream: int, count: int, seconds: float) -> str:
    """Returns the table. The numbers of workers take turns."""
    figures: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    with ExitStack() as stack:
        gateways: dict[int, Service] = {}
        for workers in (1, 2):
            gateways[workers] = start_gateway(workers, upstream=upstream)
            stack.callback(gateways[workers].stop)
        for number in range(count):
            for kind in KINDS:
                for workers in (1, 2) if number % 2 == 0 else (2, 1):
                    before = gateways[workers].cpu_ns()
                    done = load_both(workers, file=files[kind], seconds=seconds)
                    spent = gateways[workers].cpu_ns() - before
                    figures[kind, REQUESTS, workers].append(done / seconds)
                    figures[kind, FOR_CPU, workers].append(done / spent * 1e9)
    return table({key: statistics.median(values) for key, values in figures.items()})


def table(medians: Figures) -> str:
    lines = ["| | 1 worker | 2 workers | ratio | aim |", "|---|---:|---:|---|---|"]
    for kind, measure in dict.fromkeys((kind, measure) for kind, measure, _ in medians):
        one, two = (medians[kind, measure, workers] for workers in (1, 2))
        if measure == REQUESTS:
            ratio = two / one
            aim = f"at least {AIM}: {'met' if ratio >= AIM else 'MISSED'}"
            if LOAD_CORES == GATEWAY_CORES:
                aim += " (the load shares the cores)"
        else:
            ratio, aim = 2 * two / one, "on two free cores"
        lines.append(f"| {kind}, {measure} | {one:,.0f} | {two:,.0f} | {ratio:.2f} | {aim} |")
    return "\n".join(lines)
