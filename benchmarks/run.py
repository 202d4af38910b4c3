"""What the gateway costs, beside nginx as a plain reverse proxy and beside a direct connection:
`make bench`.

The gateway has one core to itself; the upstream and the load share another. Everything is
interleaved in one run, in rotated order, and each figure is the median of the rounds. CPU time is
that of the process tree from the scheduler's own count, so a busy machine shifts it little; a 99th
percentile would mostly tell of the machine, so there is none.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import bodies, tools, translate
from benchmarks.machine import (
    BUILD,
    GATEWAY_CORE,
    HERE,
    PEERS_CORE,
    Service,
    build,
    free_port,
    on_core,
    start,
)

MODELPLEX = Path(sys.executable).parent / "modelplex"
CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"

HELD_STREAMS = 1000
OPEN_FILES = 4 * HELD_STREAMS  # each held stream is two sockets in a proxy, and some room
RATE_FOR_LATENCY = 200  # requests a second: far from what any of them can do, so that no queue is measured
STARTS = 5
CONNECTIONS = {
    "500 B": 32,
    "40 KB": 16,
    "1 MB": 4,
    "stream": 60,
    "40 KB, translated": 16,
    "stream, translated": 60,
}
# What the upstream does where a body has other names for it: milliseconds between chunks, and
# chunks.
DEFAULTS = [str(figure) for figure in reversed(bodies.STREAMS["stream"])]
# Streams start 61 a second, so that their chunks (50 a second each) do not all fall due at the same
# instant.
STREAM_OPTIONS = ["-s", "-R", "61", "-w", "1"]

CONFIG = """\
[server]
log_level = "info"
max_request_size = 67108864

[[providers]]
name = "bench"
type = "openai"
base_url = "http://127.0.0.1:{port}/v1"
api_key = "sk-bench"
models = ["gpt-bench"]
priority = 1
"""


@dataclass(frozen=True)
class Target:
    """One way to the upstream: where the load goes, and whose CPU it costs (nobody's, if
    direct).
    """

    name: str
    address: str
    service: Service | None


Figures = dict[tuple[str, str], list[float]]  # (measure, target) -> one figure a round


@dataclass(frozen=True)
class Bench:
    targets: list[Target]
    files: dict[str, Path]
    seconds: float

    def load(self, target: Target, *, kind: str, options: list[str]) -> dict[str, Any]:
        """Run the load client against one target while all others are stopped; the client's own
        figures.
        """
        for other in self.targets:
            if other.service and other.service is not target.service:
                other.service.pause()
        if target.service:
            target.service.resume()
        command = [
            str(BUILD / "load"),
            "-t",
            target.address,
            "-p",
            MESSAGES if kind in bodies.TRANSLATED else CHAT,
            "-b",
            str(self.files[kind]),
            *options,
        ]
        with on_core(PEERS_CORE):
            done = subprocess.run(command, check=True, capture_output=True, timeout=600)
        told: dict[str, Any] = json.loads(done.stdout)
        if told["err"] or told["non2xx"]:
            message = (
                f"{target.name}, {kind}: {told['err']} broken and {told['non2xx']} refused requests: {told}"
            )
            raise RuntimeError(message)
        return told

    def cpu(self, target: Target, *, kind: str) -> dict[str, float]:
        """CPU microseconds for a request, or for a chunk where the kind is a stream."""
        if kind in bodies.TRANSLATED and not target.name.startswith("modelplex"):
            return {}
        streamed = kind.startswith("stream")
        options = ["-c", str(CONNECTIONS[kind]), "-d", str(self.seconds)]
        before = target.service.cpu_ns() if target.service else 0
        told = self.load(target, kind=kind, options=[*options, *STREAM_OPTIONS] if streamed else options)
        spent = target.service.cpu_ns() - before if target.service else 0
        if streamed:
            # The client says -1 where it saw none: a stream lasts 2 s, and shorter rounds may meet
            # no beginning.
            seen = {"first chunk after, µs": told["ttft50"], "each chunk after, µs": told["ch50"]}
            # Of a translated stream what it costs is of interest; it comes no sooner than another
            # one.
            figures = {m: figure for m, figure in seen.items() if figure >= 0 and kind == "stream"}
            count, what = told["totch"], f"CPU µs a streamed chunk{kind.removeprefix('stream')}"
        else:
            figures, count, what = {}, told["tot"], f"CPU µs a request, {kind}"
        return {**figures, what: spent / count / 1000} if target.service else figures

    def latency(self, target: Target) -> dict[str, float]:
        """Median microseconds until the whole answer, at a fixed rate and counted from the
        scheduled time.
        """
        options = ["-c", "32", "-d", str(self.seconds), "-r", str(RATE_FOR_LATENCY)]
        return {"answer after, µs": self.load(target, kind="500 B", options=options)["p50"]}

    def held(self, target: Target) -> dict[str, float]:
        """Megabytes while a thousand streams are open, each with five chunks a second."""
        if target.service is None:
            return {}
        sampled: list[float] = []
        options = ["-c", str(HELD_STREAMS), "-R", "500", "-d", str(self.seconds + 3), "-w", "0", "-s", "-1"]
        command = [
            str(BUILD / "load"),
            "-t",
            target.address,
            "-p",
            CHAT,
            "-b",
            str(self.files["held"]),
            *options,
        ]
        target.service.resume()
        with on_core(PEERS_CORE), subprocess.Popen(command, stdout=subprocess.PIPE) as client:
            while client.poll() is None:
                sampled.append(target.service.rss_mb())
                time.sleep(0.1)
            told = json.loads(client.stdout.read() if client.stdout else b"{}")
        if told["open"] < HELD_STREAMS or told["err"]:
            message = f"{target.name} held {told['open']} of {HELD_STREAMS} streams: {told}"
            raise RuntimeError(message)
        return {f"MB at {HELD_STREAMS} held streams": max(sampled)}


def start_upstream(stack: ExitStack) -> int:
    port = free_port()
    health = f"http://127.0.0.1:{port}/stats"
    upstream, _ = start(
        [str(BUILD / "upstream"), str(port), *DEFAULTS], core=PEERS_CORE, health=health, cwd=BUILD
    )
    stack.callback(upstream.stop)
    return port


def start_nginx(stack: ExitStack, *, upstream: int) -> Target | None:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        print(
            "nginx is not installed, so there are no ratios (Debian: apt-get install nginx-light).",
            file=sys.stderr,
        )
        return None
    port = free_port()
    config = (HERE / "nginx.conf").read_text()
    (BUILD / "nginx.conf").write_text(
        config.replace("UPSTREAM_PORT", str(upstream)).replace("LISTEN_PORT", str(port))
    )
    command = [nginx, "-p", str(BUILD), "-e", "stderr", "-c", "nginx.conf"]
    service, _ = start(command, core=GATEWAY_CORE, health=f"http://127.0.0.1:{port}/health", cwd=BUILD)
    stack.callback(service.stop)
    return Target("nginx", f"127.0.0.1:{port}", service)


def start_modelplex(upstream: int) -> tuple[Service, int, Path, float]:
    """The gateway as in production: records on, as JSON, thrown away at the end of the pipe."""
    port, path = free_port(), BUILD / "modelplex.socket"
    (BUILD / "config.toml").write_text(CONFIG.format(port=upstream))
    command = [
        str(MODELPLEX),
        "--config",
        "config.toml",
        "--http",
        f"127.0.0.1:{port}",
        "--socket",
        str(path),
    ]
    service, seconds = start(command, core=GATEWAY_CORE, health=f"http://127.0.0.1:{port}/health", cwd=BUILD)
    return service, port, path, seconds


def measure_start(upstream: int) -> dict[str, float]:
    """Milliseconds of `modelplex --version` and until /health answers, and megabytes before any
    request.
    """
    figures: dict[str, list[float]] = defaultdict(list)
    for _ in range(STARTS):
        began = time.perf_counter()
        with on_core(GATEWAY_CORE):
            subprocess.run([str(MODELPLEX), "--version"], check=True, stdout=subprocess.DEVNULL)
        figures["ms of --version"].append((time.perf_counter() - began) * 1e3)
        service, _, _, seconds = start_modelplex(upstream)
        figures["ms until /health answers"].append(seconds * 1e3)
        figures["MB idle"].append(service.rss_mb())
        service.stop()
    return {measure: statistics.median(rounds) for measure, rounds in figures.items()}


def rounds(bench: Bench, *, count: int) -> Figures:
    """Every measure of every target in each round, and the targets in another order each time."""
    figures: Figures = defaultdict(list)
    steps: list[tuple[str, Callable[[Target], dict[str, float]]]] = [
        *((kind, lambda target, kind=kind: bench.cpu(target, kind=kind)) for kind in CONNECTIONS),
        ("latency", bench.latency),
    ]
    for number in range(count):
        for name, step in steps:
            for at in range(len(bench.targets)):
                target = bench.targets[(at + number) % len(bench.targets)]
                print(f"round {number + 1} of {count}: {name}, {target.name}", file=sys.stderr)
                for measure, figure in step(target).items():
                    figures[measure, target.name].append(figure)
    return figures


# What we aim for: as a share of nginx's (more is better), or as a limit (less is better).
SHARE_OF_NGINX = {"CPU µs a request, 500 B": 0.2, "CPU µs a streamed chunk": 0.5}
LIMITS = {
    "MB idle": 60.0,
    f"MB at {HELD_STREAMS} held streams": 100.0,
    "ms until /health answers": 600.0,
    "ms of --version": 200.0,
}


# Times what the same-form pass costs that a translation may cost.
TRANSLATED_AIM = 3.0
TRANSLATED = {
    "CPU µs a streamed chunk, translated": "CPU µs a streamed chunk",
    "CPU µs a request, 40 KB, translated": "CPU µs a request, 40 KB",
}


def table(medians: dict[tuple[str, str], float], *, names: list[str]) -> str:
    """A Markdown table: a row for each measure, a column for each target, and the ratio that
    counts.
    """
    measures = list(dict.fromkeys(measure for measure, _ in medians))
    lines = [
        f"| | {' | '.join(names)} | modelplex against nginx | aim |",
        f"|---|{'---:|' * (len(names) + 1)}---|",
    ]
    for measure in measures:
        cells = [_figure(medians.get((measure, name))) for name in names]
        ratio, aim = _verdict(measure, medians)
        lines.append(f"| {measure} | {' | '.join(cells)} | {ratio} | {aim} |")
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _verdict(measure: str, medians: dict[tuple[str, str], float]) -> tuple[str, str]:
    ours, theirs = medians.get((measure, "modelplex")), medians.get((measure, "nginx"))
    direct = medians.get((measure, "direct"))
    ratio = ""
    if ours and theirs and measure.startswith("CPU"):
        ratio = f"{theirs / ours:.2f} of its work for each CPU second"
    elif ours and theirs and direct is not None and measure.endswith("after, µs"):
        ratio = f"adds {ours - direct:,.0f} µs; nginx adds {theirs - direct:,.0f} µs"
    if measure in TRANSLATED and ours and (passing := medians.get((TRANSLATED[measure], "modelplex"))):
        times = ours / passing
        return f"{times:.2f} times the pass", f"at most {TRANSLATED_AIM:.0f}: {_met(times <= TRANSLATED_AIM)}"
    if measure in SHARE_OF_NGINX and ours and theirs:
        wanted = SHARE_OF_NGINX[measure]
        return ratio, f"at least {wanted}: {_met(theirs / ours >= wanted)}"
    if measure in LIMITS and ours is not None:
        return ratio, f"below {LIMITS[measure]:.0f}: {_met(ours < LIMITS[measure])}"
    return ratio, ""


def _met(met: object) -> str:
    return "met" if met else "MISSED"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds, of which each figure is the median (default 3)"
    )
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="seconds under load for each figure (default 3)"
    )
    given = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    build()
    files = bodies.write(BUILD)
    with ExitStack() as stack:
        upstream = start_upstream(stack)
        targets = [Target("direct", f"127.0.0.1:{upstream}", None)]
        if nginx := start_nginx(stack, upstream=upstream):
            targets.append(nginx)
        start_up: dict[str, float] = {}
        if MODELPLEX.exists():
            start_up = measure_start(upstream)
            service, port, path, _ = start_modelplex(upstream)
            stack.callback(service.stop)
            targets.append(Target("modelplex", f"127.0.0.1:{port}", service))
            targets.append(Target("modelplex, socket", f"unix:{path}", service))
        bench = Bench(targets=targets, files=files, seconds=given.seconds)
        figures = rounds(bench, count=given.rounds)
        # Last, since memory that a process once had it may keep: after it no figure of that process
        # is taken.
        for target in targets:
            for measure, figure in bench.held(target).items():
                figures[measure, target.name].append(figure)
    medians = {key: statistics.median(values) for key, values in figures.items()}
    medians |= {(measure, "modelplex"): figure for measure, figure in start_up.items()}
    print(table(medians, names=[target.name for target in targets]))
    print(translate.table())
    print(tools.run(count=given.rounds, seconds=given.seconds))


if __name__ == "__main__":
    main()
