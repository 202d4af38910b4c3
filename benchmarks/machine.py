"""Processes of the benchmark: started on one core, stopped while another is measured, and their
CPU time and memory. Linux only: it reads /proc.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / ".cache" / "bench"
CORES = sorted(os.sched_getaffinity(0))
GATEWAY_CORE = CORES[0]  # the measured process
PEERS_CORE = CORES[-1]  # the upstream and the load
START_LIMIT_S = 20.0
STOP_LIMIT_S = 10.0
POLL_S = 0.001
SETTLE_LIMIT_S = 120.0
IDLE_NS = 20_000_000
"""Of a second, for a process that does almost nothing."""


@contextmanager
def on_core(core: int) -> Generator[None]:
    """Processes started inside run on this core: a child inherits its parent's affinity."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class Service:
    """A running server and its descendants."""

    process: subprocess.Popen[bytes]

    def tree(self) -> list[int]:
        found = [self.process.pid]
        for pid in found:  # grows while it is iterated
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found.extend(int(child) for child in _read(children).split())
        return found

    def cpu_ns(self) -> int:
        """Nanoseconds of CPU of the process tree so far, as the scheduler counts them."""
        return sum(map(_cpu_ns, self.tree()))

    def settle(self) -> None:
        """Wait until it does almost nothing for a second, for at most SETTLE_LIMIT_S."""
        end, before = time.monotonic() + SETTLE_LIMIT_S, self.cpu_ns()
        while time.monotonic() < end:
            time.sleep(1.0)
            now = self.cpu_ns()
            if now - before < IDLE_NS:
                return
            before = now

    def own_cpu_ns(self) -> int:
        """The same without its descendants: tool servers are not measured."""
        return _cpu_ns(self.process.pid)

    def rss_mb(self) -> float:
        """Resident megabytes (10^6 bytes) of the whole tree; pages that processes share are counted
        in each.
        """
        return sum(map(_rss_mb, self.tree()))

    def pss_mb(self) -> float:
        """Of the whole tree; pages that several processes share are counted once (proc(5),
        smaps_rollup).
        """
        return sum(map(_pss_mb, self.tree()))

    def own_rss_mb(self) -> float:
        """The same without its descendants."""
        return _rss_mb(self.process.pid)

    def pause(self) -> None:
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def stop(self) -> None:
        self.resume()
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _send(self, number: signal.Signals) -> None:
        for pid in self.tree():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _cpu_ns(pid: int) -> int:
    stats = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(_read(stat).partition(" ")[0] or 0) for stat in stats)


def _rss_mb(pid: int) -> float:
    lines = _read(Path(f"/proc/{pid}/status")).splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * 1024 / 1e6


def _pss_mb(pid: int) -> float:
    lines = _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def _read(file: Path) -> str:
    """The content of a file below /proc; empty once its process or thread has exited."""
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def start(
    command: Sequence[str],
    *,
    core: int,
    health: str,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
) -> tuple[Service, float]:
    """Start a service. Returns it when `health` (a URL) gives 200, with the seconds until then."""
    return _start(
        command, core=core, cwd=cwd, ready=lambda: _answers(health), what=health, environment=environment
    )


def start_at(command: Sequence[str], *, core: int | None, port: int, cwd: Path) -> Service:
    """Start a service. Returns it once it accepts connections at this port of the loopback."""
    what = f"port {port}"
    return _start(command, core=core, cwd=cwd, ready=lambda: _accepts(port), what=what)[0]


def _start(
    command: Sequence[str],
    *,
    core: int | None,
    cwd: Path,
    ready: Callable[[], bool],
    what: str,
    environment: Mapping[str, str] | None = None,
) -> tuple[Service, float]:
    began = time.perf_counter()
    with on_core(core) if core is not None else nullcontext():
        process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    service = Service(process)
    while not ready():
        if process.poll() is not None or time.perf_counter() - began > START_LIMIT_S:
            service.stop()
            message = (
                f"{command[0]} did not serve {what} (exit {process.poll()}); by hand: {' '.join(command)}"
            )
            raise RuntimeError(message)
        time.sleep(POLL_S)
    return service, time.perf_counter() - began


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as response:  # noqa: S310 - a loopback URL of our own
            return bool(response.status == 200)
    except OSError:  # urllib's errors are OSErrors too
        return False


def build() -> None:
    """Compile the load client and the upstream, if their source has changed."""
    BUILD.mkdir(parents=True, exist_ok=True)
    compiler = shutil.which("cc")
    if compiler is None:
        sys.exit(
            "The benchmark's load client is C: it needs a compiler as `cc` (Debian: apt-get install gcc libc6-dev)."
        )
    for tool in ("load", "upstream"):
        source, binary = HERE / f"{tool}.c", BUILD / tool
        if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
            subprocess.run([compiler, "-O2", "-w", "-o", str(binary), str(source)], check=True)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
