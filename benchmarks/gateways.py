"""The servers that the benchmark compares, each started with one core to itself: nginx as a plain
reverse proxy, Modelplex, and two gateways that PyPI has as wheels.

A server is given by its name, a function that starts it, and the addresses that it serves.
"""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bodies import MODEL
from benchmarks.machine import BUILD, GATEWAY_CORE, HERE, Service, free_port, start

MODELPLEX = Path(sys.executable).parent / "modelplex"
PEERS = HERE.parent / ".cache" / "bench-peers"
PEERS_LOCK = HERE / "peers.txt"

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

NO_RECORD = """\
[record]
content = "off"
"""
"""Without the record store, which the other servers do not have. record.py measures what it costs.
"""
CONFIG = (
    NO_RECORD
    + """\
[server]
log_level = "info"
max_request_size = 67108864
max_connections = 16384
max_connections_per_listener = 8192
max_connections_per_caller = 8192

[[providers]]
name = "bench"
type = "openai"
base_url = "http://127.0.0.1:{port}/v1"
api_key = "sk-bench"
models = ["{model}"]
priority = 1

[[agents]]
name = "open"
socket = "{open}"
policy = "open"
"""
)


@dataclass(frozen=True)
class Server:
    """`addresses` maps a column of the table to what the load client takes as a target."""

    name: str
    command: Sequence[str]
    health: str
    addresses: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])

    def start(self) -> tuple[Service, float]:
        """The running server, and the seconds until it answered. From the second start on Python
        has its bytecode, as in an installation.
        """
        return start(
            self.command,
            core=GATEWAY_CORE,
            health=self.health,
            cwd=BUILD,
            environment={**ENVIRONMENT, **self.environment},
        )


def interpreter() -> str:
    """Which Python runs Modelplex, and how it was built: an optimised build takes about a fifth
    less CPU.
    """
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    optimised = "optimised" if "--enable-optimizations" in options else "not optimised"
    lto = ", LTO" if "--with-lto" in options else ""
    return f"{platform.python_implementation()} {platform.python_version()} ({optimised}{lto})"


def modelplex(upstream: int, *, command: Path = MODELPLEX, name: str = "modelplex") -> Server:
    """The gateway as in production, with JSON records into a pipe. An agent's socket is sealed,
    unless the config says otherwise. `command` may be another version's, if it knows the config's
    keys but [record].
    """
    port, sealed, opened = free_port(), BUILD / f"{name}-sealed.sock", BUILD / f"{name}-open.sock"
    config = BUILD / f"{name}.toml"
    config.write_text(CONFIG.format(port=upstream, model=MODEL, open=opened))
    if (
        command != MODELPLEX
        and subprocess.run([command, "check", config], capture_output=True, check=False).returncode
    ):
        config.write_text(config.read_text().replace(NO_RECORD, ""))
    http = f"127.0.0.1:{port}"
    return Server(
        name=name,
        command=[str(command), "--config", config.name, "--http", http, "--socket", str(sealed)],
        health=f"http://{http}/health",
        addresses={
            f"{name}, sealed socket": f"unix:{sealed}",
            f"{name}, open socket": f"unix:{opened}",
            f"{name}, HTTP": http,
        },
    )


def nginx(upstream: int) -> Server | None:
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
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
    return Server(
        name="nginx",
        command=[binary, "-p", str(BUILD), "-e", "stderr", "-c", "nginx.conf"],
        health=f"http://127.0.0.1:{port}/health",
        addresses={"nginx": f"127.0.0.1:{port}"},
    )


def _ferrogw(upstream: int) -> Server:
    port = free_port()
    (BUILD / "ferrogw.yaml").write_text("strategy:\n  mode: fallback\ntargets:\n  - virtual_key: openai\n")
    return Server(
        name="ferrogw",
        command=[str(PEERS / "bin" / "ferrogw"), "serve"],
        health=f"http://127.0.0.1:{port}/health",
        addresses={"ferrogw": f"127.0.0.1:{port}"},
        environment={
            "ALLOW_UNAUTHENTICATED_PROXY": "true",
            "GATEWAY_CONFIG": "ferrogw.yaml",
            "LOG_LEVEL": "error",
            "MASTER_KEY": "fgw_bench",
            "OPENAI_API_KEY": "sk-bench",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{upstream}",
            "PORT": str(port),
            "RATE_LIMIT_BURST": "1000000",
            "RATE_LIMIT_RPS": "1000000",
        },
    )


def _sglang_router(upstream: int) -> Server:
    port = free_port()
    options = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--worker-urls": f"http://127.0.0.1:{upstream}",
        "--backend": "openai",
        "--log-level": "error",
        "--prometheus-port": str(free_port()),
        "--max-payload-size": "67108864",
    }
    return Server(
        name="sglang-router",
        command=[
            str(PEERS / "bin" / "smg"),
            "launch",
            "--disable-retries",
            *(word for option in options.items() for word in option),
        ],
        health=f"http://127.0.0.1:{port}/health",
        addresses={"sglang-router": f"127.0.0.1:{port}"},
    )


WHEELS: tuple[Callable[[int], Server], ...] = (_ferrogw, _sglang_router)


def peers(upstream: int) -> list[Server]:
    """The gateways of PEERS_LOCK, installed in a virtual environment of their own."""
    if not PEERS.exists() or PEERS.stat().st_mtime < PEERS_LOCK.stat().st_mtime:
        uv = HERE.parent / ".cache" / "uv" / "bin" / "uv"
        installer = str(uv) if uv.exists() else shutil.which("uv") or "uv"
        subprocess.run([installer, "venv", "--quiet", "--clear", str(PEERS)], check=True)
        subprocess.run(
            [
                installer,
                "pip",
                "install",
                "--quiet",
                "--require-hashes",
                "--python",
                str(PEERS / "bin" / "python"),
                "--requirement",
                str(PEERS_LOCK),
            ],
            check=True,
        )
    return [make(upstream) for make in WHEELS]
