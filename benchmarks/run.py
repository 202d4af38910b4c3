"""The cost of the gateway, beside nginx as a plain reverse proxy and beside a direct connection:
`make bench`; `make bench ARGS=--peers` adds two gateways that are compiled.

Each server has one core to itself; the upstream and the load share another. Everything is
interleaved in one run, in rotated order, and each figure is the median of the rounds. CPU time is
that of the process tree from the scheduler's own count, so a busy machine shifts it little.
Latencies are of a shared machine: compare them within one run only. Memory is that of a process
started for it.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import bodies, gateways, record, tools, translate, workers
from benchmarks.gateways import Server
from benchmarks.machine import BUILD, GATEWAY_CORE, PEERS_CORE, Service, build, free_port, on_core, start

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"

HELD_STREAMS = (100, 1000, 5000)
UNREAD_STREAMS = 200
UNREAD_SECONDS = 6.0
OPEN_FILES = 4 * max(HELD_STREAMS)
"""Each open stream is two sockets in a proxy, and some spare ones."""
STARTS = 5
TABLES = ["cpu", "memory", "translation", "tools", "workers", "record"]
RATES = {"answer after, µs (median at 200/s)": (200, "p50"), "99th percentile, µs, at 2,000/s": (2000, "p99")}
"""Requests per second, and the name of the load client's figure."""
CONNECTIONS = {
    "500 B": 32,
    "40 KB": 16,
    "1 MB": 4,
    "4 MB": 2,
    "20 MB": 1,
    "stream": 60,
    "40 KB, translated": 16,
    "stream, translated": 60,
}
STREAM_DEFAULTS = [str(figure) for figure in reversed(bodies.STREAMS["stream"])]
"""The upstream's milliseconds between chunks, and chunks, for bodies without members for them."""
STREAM_OPTIONS = ["-s", "-R", "61", "-w", "1"]
"""Streams start 61 a second, so that their chunks (50 a second each) do not all fall due at the
same instant.
"""


@dataclass(frozen=True)
class Target:
    """A column of the table: where the load goes, and whose CPU it costs (nobody's, if direct)."""

    name: str
    address: str
    service: Service | None


Figures = dict[tuple[str, str], list[float]]  # (measure, target) -> one figure per round


@dataclass(frozen=True)
class Bench:
    targets: list[Target]
    files: Mapping[str, Path]
    seconds: float
    settles: bool = False
    """Whether a target works on after the last answer, which is another measure."""

    def load(self, target: Target, *, kind: str, options: list[str]) -> dict[str, Any]:
        """Run the load client against one target while all others are stopped; the client's own
        figures.
        """
        for other in self.targets:
            if other.service and other.service is not target.service:
                other.service.pause()
        if target.service:
            target.service.resume()
        return load(target, file=self.files[kind], translated=kind in bodies.TRANSLATED, options=options)

    def cpu(self, target: Target, *, kind: str) -> dict[str, float]:
        """CPU microseconds per request, or per chunk of a stream."""
        if kind in bodies.TRANSLATED and "modelplex" not in target.name:
            return {}
        streamed = kind.startswith("stream")
        options = ["-c", str(CONNECTIONS[kind]), "-d", str(self.seconds)]
        if self.settles and target.service:
            target.service.resume()
            target.service.settle()
        before = target.service.cpu_ns() if target.service else 0
        seen = self.load(target, kind=kind, options=[*options, *STREAM_OPTIONS] if streamed else options)
        spent = target.service.cpu_ns() - before if target.service else 0
        if streamed:
            # -1 if the client saw none: a stream lasts 2 s, and a shorter round may see no start.
            waits = {"first chunk after, µs": seen["ttft50"], "each chunk after, µs": seen["ch50"]}
            # Of a translated stream only the cost is of interest; its latency is that of others.
            figures = {m: figure for m, figure in waits.items() if figure >= 0 and kind == "stream"}
            count, what = seen["totch"], f"CPU µs a streamed chunk{kind.removeprefix('stream')}"
        else:
            figures, count, what = {}, seen["tot"], f"CPU µs a request, {kind}"
        if target.service is None:
            return figures
        figures[what] = spent / count / 1000
        if self.settles:
            target.service.settle()
            figures[f"{what}, with all that follows"] = (target.service.cpu_ns() - before) / count / 1000
        return figures

    def latency(self, target: Target, *, measure: str) -> dict[str, float]:
        """Microseconds until the whole response, at a fixed rate, from the scheduled time."""
        rate, figure = RATES[measure]
        options = ["-c", "32", "-d", str(self.seconds), "-r", str(rate)]
        return {measure: self.load(target, kind="500 B", options=options)[figure]}

    def rounds(
        self, *, count: int, kinds: Iterable[str] = CONNECTIONS, rates: Iterable[str] = RATES
    ) -> Figures:
        """Every measure of every target in each round; the order of the targets changes."""
        figures: Figures = defaultdict(list)
        steps: list[tuple[str, Callable[[Target], dict[str, float]]]] = [
            *((kind, lambda target, kind=kind: self.cpu(target, kind=kind)) for kind in kinds),
            *((rate, lambda target, rate=rate: self.latency(target, measure=rate)) for rate in rates),
        ]
        for number in range(count):
            for name, step in steps:
                for at in range(len(self.targets)):
                    target = self.targets[(at + number) % len(self.targets)]
                    print(f"round {number + 1} of {count}: {name}, {target.name}", file=sys.stderr)
                    for measure, figure in _or_none(target, step).items():
                        figures[measure, target.name].append(figure)
        return figures


class Failed(RuntimeError):
    """Requests were refused or broken off. A peer that does not take a body has no figure for
    it; of the others this ends the run.
    """


def load(target: Target, *, file: Path, translated: bool = False, options: list[str]) -> dict[str, Any]:
    """The load client's figures. Raises Failed if a request failed."""
    with on_core(PEERS_CORE):
        done = subprocess.run(
            _command(target, file=file, translated=translated, options=options),
            check=True,
            capture_output=True,
            timeout=600,
        )
    figures: dict[str, Any] = json.loads(done.stdout)
    if figures["err"] or figures["non2xx"]:
        message = f"{target.name}, {file.name}: {figures['err']} broken and {figures['non2xx']} refused requests: {figures}"
        raise Failed(message)
    return figures


def _or_none(target: Target, step: Callable[[Target], dict[str, float]]) -> dict[str, float]:
    try:
        return step(target)
    except Failed as failed:
        if any(each in target.name for each in ("modelplex", "nginx", "direct")):
            raise
        print(failed, file=sys.stderr)
        return {}


def _command(target: Target, *, file: Path, translated: bool, options: list[str]) -> list[str]:
    path = MESSAGES if translated else CHAT
    return [str(BUILD / "load"), "-t", target.address, "-p", path, "-b", str(file), *options]


# --- memory and start-up, each of a process of its own --------------------------------------------


def start_up(server: Server) -> dict[str, float]:
    """Milliseconds until /health answers, megabytes before any request, and for Modelplex the
    milliseconds of `--version`.
    """
    figures: dict[str, list[float]] = defaultdict(list)
    for _ in range(STARTS):
        if "modelplex" in server.name:
            began = time.perf_counter()
            with on_core(GATEWAY_CORE):
                subprocess.run(
                    [server.command[0], "--version"],
                    check=True,
                    env=gateways.ENVIRONMENT,
                    stdout=subprocess.DEVNULL,
                )
            figures["ms of --version"].append((time.perf_counter() - began) * 1e3)
        service, seconds = server.start()
        figures["ms until /health answers"].append(seconds * 1e3)
        figures["MB idle"].append(service.own_rss_mb())
        figures["MB idle, with other processes"].append(service.pss_mb())
        service.stop()
    return {measure: statistics.median(rounds) for measure, rounds in figures.items()}


def memory(server: Server, *, files: Mapping[str, Path]) -> Figures:
    """What held streams, streams that nobody reads and bodies of 20 MB take, by column. Each has a
    process of its own, since memory that a process once had it may keep.
    """
    figures: Figures = {}
    for name, address in server.addresses.items():
        for step in (_held, _unread, _large):
            print(f"memory: {step.__name__.strip('_')}, {name}", file=sys.stderr)
            service, _ = server.start()
            target = Target(name, address, service)
            try:
                load(target, file=files["500 B"], options=["-c", "4", "-d", "1"])
                found = _or_none(target, partial(step, service=service, files=files))
            finally:
                service.stop()
            figures |= {(measure, name): [figure] for measure, figure in found.items()}
    return figures


def _large(target: Target, *, service: Service, files: Mapping[str, Path]) -> dict[str, float]:
    idle = service.rss_mb()
    peak = _peak(target, service, file=files["20 MB"], options=["-c", "1", "-d", "4"])
    time.sleep(1.0)
    return {
        "20 MB bodies: copies at the peak": (peak - idle) / 20,
        "20 MB bodies: MB left": service.rss_mb() - idle,
    }


def _unread(target: Target, *, service: Service, files: Mapping[str, Path]) -> dict[str, float]:
    idle = service.rss_mb()
    options = ["-c", str(UNREAD_STREAMS), "-d", str(UNREAD_SECONDS), "-w", "0", "-s", "-1", "-x"]
    peak = _peak(target, service, file=files["unread"], options=options)
    return {"KB of a stream that nobody reads": (peak - idle) / UNREAD_STREAMS * 1e3}


def _held(target: Target, *, service: Service, files: Mapping[str, Path]) -> dict[str, float]:
    figures: dict[str, float] = {}
    idle = service.rss_mb()
    for count in HELD_STREAMS:
        options = ["-c", str(count), "-R", "500", "-d", str(count / 500 + 4), "-w", "0", "-s", "-1"]
        peak = _peak(target, service, file=files["held"], options=options)
        figures[f"KB of a held stream, of {count:,}"] = (peak - idle) / count * 1e3
    return figures


def _peak(target: Target, service: Service, *, file: Path, options: list[str]) -> float:
    """The maximum of megabytes during a load."""
    command = _command(target, file=file, translated=False, options=options)
    sampled = [service.rss_mb()]
    with on_core(PEERS_CORE), subprocess.Popen(command, stdout=subprocess.PIPE) as client:
        while client.poll() is None:
            sampled.append(service.rss_mb())
            time.sleep(0.02)
        figures = json.loads(client.stdout.read() if client.stdout else b"{}")
    if figures["err"] or figures["non2xx"]:
        message = f"{target.name}: {figures['err']} broken and {figures['non2xx']} refused: {figures}"
        raise Failed(message)
    return max(sampled)


# --- the table ------------------------------------------------------------------------------------

OPEN, SEALED = "modelplex, HTTP", "modelplex, sealed socket"
SHARE_OF_NGINX: dict[str, tuple[float, float]] = {
    "CPU µs a request, 500 B": (0.40, 0.33),
    "CPU µs a request, 40 KB": (0.25, 0.15),
    "CPU µs a request, 1 MB": (0.22, 0.12),
    "CPU µs a streamed chunk": (0.68, 0.60),
}
"""The aims for open and sealed callers: work per CPU second, as a share of nginx's."""
LIMITS: dict[str, float] = {
    "MB idle": 40.0,
    "ms until /health answers": 300.0,
    "ms of --version": 60.0,
    "20 MB bodies: copies at the peak": 2.0,
    "20 MB bodies: MB left": 10.0,
    "KB of a stream that nobody reads": 128.0,
    "KB of a held stream, of 1,000": 27.0,
}
"""The aims for every column of Modelplex; less is better."""
TRANSLATED_AIM = 2.5
"""The aim for a translation, as a multiple of passthrough."""
TRANSLATED = {
    "CPU µs a streamed chunk, translated": "CPU µs a streamed chunk",
    "CPU µs a request, 40 KB, translated": "CPU µs a request, 40 KB",
}
P99_AIM = 2.0
"""As a multiple of nginx's."""


def table(medians: Mapping[tuple[str, str], float], *, names: list[str]) -> str:
    """A Markdown table: a row per measure, a column per target, ratios and whether aims are met."""
    measures = list(dict.fromkeys(measure for measure, _ in medians))
    lines = [f"| | {' | '.join(names)} | ratio | aim |", f"|---|{'---:|' * len(names)}---|---|"]
    for measure in measures:
        cells = [_figure(medians.get((measure, name))) for name in names]
        ratio, aim = _verdict(measure, medians)
        lines.append(f"| {measure} | {' | '.join(cells)} | {ratio} | {aim} |")
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _verdict(measure: str, medians: Mapping[tuple[str, str], float]) -> tuple[str, str]:
    opened, sealed = medians.get((measure, OPEN)), medians.get((measure, SEALED))
    theirs = medians.get((measure, "nginx"))
    if measure in TRANSLATED and opened and (passing := medians.get((TRANSLATED[measure], OPEN))):
        times = opened / passing
        return f"{times:.2f} times the pass", f"at most {TRANSLATED_AIM}: {_met(times <= TRANSLATED_AIM)}"
    if measure in LIMITS:
        ours = [figure for figure in (opened, sealed) if figure is not None]
        return "", f"below {LIMITS[measure]:.0f}: {_met(max(ours) < LIMITS[measure])}" if ours else ""
    if not (opened and theirs):
        return "", ""
    if measure.startswith("CPU"):
        ratios = theirs / opened, theirs / sealed if sealed else 0.0
        ratio = f"{ratios[0]:.2f}, sealed {ratios[1]:.2f}"
        if (aims := SHARE_OF_NGINX.get(measure)) is None:
            return ratio, ""
        met = all(reached >= aim for reached, aim in zip(ratios, aims, strict=True))
        return ratio, f"at least {aims[0]:.2f}, sealed {aims[1]:.2f}: {_met(met)}"
    if measure.startswith("99th"):
        return (
            f"{opened / theirs:.1f} times nginx's",
            f"at most {P99_AIM:.0f}: {_met(opened <= P99_AIM * theirs)}",
        )
    direct = medians.get((measure, "direct"))
    if direct is None:
        return "", ""
    return f"adds {opened - direct:,.0f} µs; nginx adds {theirs - direct:,.0f} µs", ""


def _met(met: object) -> str:
    return "met" if met else "MISSED"


# --- the run --------------------------------------------------------------------------------------


def start_upstream(stack: ExitStack) -> int:
    port = free_port()
    health = f"http://127.0.0.1:{port}/stats"
    upstream, _ = start(
        [str(BUILD / "upstream"), str(port), *STREAM_DEFAULTS], core=PEERS_CORE, health=health, cwd=BUILD
    )
    stack.callback(upstream.stop)
    return port


def recording(*, count: int, seconds: float) -> str:
    """The table of what recording costs."""
    with ExitStack() as stack:
        upstream = start_upstream(stack)
        targets: list[Target] = []
        for server in record.servers(upstream):
            service, _ = server.start()
            stack.callback(service.stop)
            targets += [Target(name, address, service) for name, address in server.addresses.items()]
        bench = Bench(targets=targets, files=bodies.write(BUILD), seconds=seconds, settles=True)
        return record.table(bench.rounds(count=count, kinds=record.KINDS, rates=()))


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
    parser.add_argument("--peers", action="store_true", help="two compiled gateways too (from PyPI)")
    parser.add_argument(
        "--other",
        type=Path,
        metavar="COMMAND",
        help="the modelplex command of another version, beside this one",
    )
    parser.add_argument("--only", action="append", choices=TABLES, help="some tables")
    given = parser.parse_args()
    wanted = given.only or TABLES
    _raise_open_files()
    build()
    print(f"Modelplex runs on {gateways.interpreter()}.\n")
    medians: dict[tuple[str, str], float] = {}
    with ExitStack() as stack:
        upstream = start_upstream(stack)
        files = bodies.write(BUILD)
        found = [gateways.nginx(upstream), gateways.modelplex(upstream)]
        servers = [server for server in found if server is not None]
        if given.other is not None:
            servers.append(
                gateways.modelplex(upstream, command=given.other.absolute(), name="other modelplex")
            )
        if given.peers:
            servers += gateways.peers(upstream)
        targets = [Target("direct", f"127.0.0.1:{upstream}", None)]
        for server in servers:
            first = next(iter(server.addresses))
            if "memory" in wanted:
                medians |= {(measure, first): figure for measure, figure in start_up(server).items()}
                medians |= {key: figure for key, (figure,) in memory(server, files=files).items()}
        if "cpu" in wanted:
            for server in servers:
                service, _ = server.start()
                stack.callback(service.stop)
                targets += [Target(name, address, service) for name, address in server.addresses.items()]
            bench = Bench(targets=targets, files=files, seconds=given.seconds)
            figures = bench.rounds(count=given.rounds)
            medians = {key: statistics.median(values) for key, values in figures.items()} | medians
    if medians:
        names = list(dict.fromkeys(["direct", *(name for server in servers for name in server.addresses)]))
        print(table(medians, names=names))
    if "record" in wanted:
        print(recording(count=given.rounds, seconds=given.seconds))
    if "translation" in wanted:
        print(translate.table())
    if "tools" in wanted:
        print(tools.run(count=given.rounds, seconds=given.seconds))
    if "workers" in wanted:
        print(run_workers(count=given.rounds, seconds=given.seconds))


def run_workers(*, count: int, seconds: float) -> str:
    with ExitStack() as stack:
        upstream = start_upstream(stack)
        return workers.run(bodies.write(BUILD), upstream=upstream, count=count, seconds=seconds)


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


if __name__ == "__main__":
    main()
