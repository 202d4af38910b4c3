"""The image of the Dockerfile without a Docker daemon: bubblewrap runs its steps in a new root, and
its entry point in a network namespace.

The base image cannot be had here, so this machine's /usr and a Python of it stand in for
`python:3.13-slim`. Everything else is what the Dockerfile says: an instruction that is not known
here is an error.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEP_S = 120.0
"""Of one RUN: some install packages."""
WAIT_S = 20.0
NEEDED = ("bwrap", "ip", "unshare", "nsenter", "setpriv", "useradd")
GATEWAY, CONTAINER = "172.30.99.1", "172.30.99.2"
"""The bridge's end of the wire, the source of connections to a published port, and the container's.
"""
CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
)
"""Those that Docker leaves to root in a container, and a gateway could use."""
PYTHON = "opt/python"
"""In the root; mounted as /usr/local/bin/python."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Stage:
    """One FROM: its root, and the settings of the instructions so far."""

    root: Path
    environ: dict[str, str] = field(default_factory=dict[str, str])
    workdir: str = "/"
    user: str = "root"
    entrypoint: list[str] = field(default_factory=list[str])


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction with its arguments, without comments."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    split = (line.partition(" ") for line in joined.splitlines() if line.strip())
    return [(word, rest.strip()) for word, _, rest in split]


def build(dockerfile: str, *, folder: Path, python: Path) -> Stage:
    """The last stage, after all steps."""
    stages: dict[str, Stage] = {}
    stage = Stage(folder)
    for word, rest in instructions(dockerfile):
        match word:
            case "FROM":
                image, _, name = rest.partition(" AS ")
                assert image.startswith("python:"), image
                stage = Stage(folder / f"root{len(stages)}", {"PATH": PATH})
                stages[name or str(len(stages))] = stage
                _base(stage.root, python=python)
            case "WORKDIR":
                stage.workdir = rest
                _inside(stage, rest).mkdir(parents=True, exist_ok=True)
            case "ENV":
                for pair in shlex.split(rest):
                    name, _, value = pair.partition("=")
                    stage.environ[name] = value.replace("$PATH", stage.environ["PATH"])
            case "COPY":
                _copy(rest, stage, stages)
            case "RUN":
                _run(rest, stage, python=python)
            case "USER":
                stage.user = rest
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(rest)
            case "EXPOSE":
                assert rest.isdigit()
            case _:
                raise AssertionError(f"no idea how to do {word} {rest}")
    return stage


def _base(root: Path, *, python: Path) -> None:
    for name in ("usr/local/bin", "etc", "tmp", "proc", "dev", "opt", "var", "root", "run"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        if (link := Path("/") / name).is_symlink():
            (root / name).symlink_to(link.readlink())
    for name in ("passwd", "group", "shadow", "gshadow", "login.defs", "nsswitch.conf", "ld.so.cache", "pip.conf", "resolv.conf", "hosts"):  # fmt: skip
        if (file := Path("/etc") / name).exists():
            shutil.copy(file, root / "etc" / name)
    for name in ("ssl", "ca-certificates", "alternatives"):
        if (tree := Path("/etc") / name).is_dir():
            shutil.copytree(tree, root / "etc" / name, symlinks=True)
    # bubblewrap would make the folders on the way for root alone.
    (root / str(python.parent.parent).lstrip("/")).mkdir(parents=True, exist_ok=True)
    # No link: below /usr it would take the library of this system's Python for its own.
    (root / PYTHON).write_text(f'#!/bin/sh\nexec "{python}" "$@"\n')
    (root / PYTHON).chmod(0o755)


def _inside(stage: Stage, path: str) -> Path:
    """The path on this machine of a path in the container."""
    return stage.root / os.path.join(stage.workdir, path).lstrip("/")  # noqa: PTH118 - an absolute path replaces the folder


def _copy(rest: str, stage: Stage, stages: Mapping[str, Stage]) -> None:
    words = rest.split()
    source = stages[words.pop(0).removeprefix("--from=")] if words[0].startswith("--from=") else None
    *files, target = words
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for name in files:
        if source is None:
            assert any(name == each or name.startswith(f"{each}/") for each in kept), f"{name} is ignored"
        origin = ROOT / name if source is None else _inside(source, name)
        to = _inside(stage, target)
        if target.endswith("/"):
            to /= Path(name).name
        to.parent.mkdir(parents=True, exist_ok=True)
        if origin.is_dir():
            shutil.copytree(origin, to, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, to)


def _binds(stage: Stage, *, python: Path) -> list[str]:
    """Options of bubblewrap: the root, with this machine's programs and a Python in place of the
    base image's.
    """
    prefix = str(python.parent.parent)
    words = ["--bind", str(stage.root), "/", "--ro-bind", "/usr", "/usr"]
    words += ["--tmpfs", "/usr/local/bin", "--ro-bind", str(stage.root / PYTHON), "/usr/local/bin/python"]
    if not prefix.startswith("/usr"):
        words += ["--ro-bind", prefix, prefix]
    return [*words, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]


def _run(line: str, stage: Stage, *, python: Path) -> None:
    passed = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "SSL_", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_SYSTEM_CERTS"))
        or name.endswith(("CA_BUNDLE", "_proxy", "_PROXY"))
    }
    environ = {**passed, **stage.environ}
    done = subprocess.run(
        ["bwrap", *_binds(stage, python=python), "--cap-add", "ALL", "--unshare-pid", "--chdir", stage.workdir, "--", "/bin/sh", "-euc", line],
        env=environ, capture_output=True, text=True, timeout=STEP_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"RUN {line}\n{done.stdout}\n{done.stderr}"


# --- run


@dataclass(frozen=True)
class Wire:
    """The network namespaces of a container and of a bridge, connected by virtual interfaces."""

    container: int
    bridge: int

    def client(self, code: str, *arguments: str) -> str:
        """The output of a Python program at the bridge's end."""
        command = ["nsenter", f"--net=/proc/{self.bridge}/ns/net", sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def wire() -> Generator[Wire]:
    with _namespace() as container, _namespace() as bridge:
        for line in (
            f"ip link add veth0 type veth peer name eth0 netns {container}",
            "ip link set lo up",
            f"ip addr add {GATEWAY}/30 dev veth0",
            "ip link set veth0 up",
        ):
            _ip(bridge, line)
        for line in (
            "ip link set lo up",
            f"ip addr add {CONTAINER}/30 dev eth0",
            "ip link set eth0 up",
        ):
            _ip(container, line)
        yield Wire(container, bridge)


@contextmanager
def _namespace() -> Generator[int]:
    """A process that keeps a new network namespace alive."""
    held = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo up; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert held.stdout is not None
        assert held.stdout.readline() == b"up\n"
        yield held.pid
    finally:
        held.communicate(timeout=WAIT_S)


def _ip(pid: int, line: str) -> None:
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", *line.split()]
    subprocess.run(command, check=True, timeout=WAIT_S)


@contextmanager
def docker_run(
    stage: Stage,
    *arguments: str,
    volumes: Mapping[Path, str],
    log: Path,
    python: Path,
    net: Wire | None = None,
    user: str | None = None,
) -> Generator[subprocess.Popen[bytes]]:
    """`docker run -v ... IMAGE ARGUMENTS`, as the kernel sees it."""
    mounts = [word for out, inside in volumes.items() for word in ("--bind", str(out), inside)]
    words = [] if net is None else ["nsenter", f"--net=/proc/{net.container}/ns/net"]
    words += [
        "bwrap",
        *_binds(stage, python=python),
        *mounts,
        "--unshare-pid",
        "--unshare-ipc",
        "--die-with-parent",
    ]
    words += [] if net else ["--unshare-net"]
    # `--as-pid-1` makes the entry point PID 1, as Docker does: bubblewrap forwards no signals.
    words += ["--as-pid-1", *(word for each in CAPABILITIES for word in ("--cap-add", each))]
    words += ["--chdir", stage.workdir, "--", "setpriv"]
    if (ids := user or _ids(stage)) != "0:0":
        uid, gid = ids.split(":")
        words += ["--reuid", uid, "--regid", gid, "--clear-groups"]
    words += ["--no-new-privs", "--"]
    with log.open("wb") as output:
        running = subprocess.Popen(
            [*words, *stage.entrypoint, *arguments],
            env=stage.environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield running
    finally:
        stop(running, signal.SIGKILL)


def stop(running: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> int:
    """`docker stop`: a signal to the entry point, PID 1 of the container. Returns the exit status,
    after the end of the container.
    """
    if running.poll() is None:
        for child in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(child), number)
    try:
        return running.wait(WAIT_S)
    finally:
        if running.poll() is None:
            running.kill()
            running.wait(WAIT_S)


def _ids(stage: Stage) -> str:
    for line in (stage.root / "etc" / "passwd").read_text().splitlines():
        name, _, uid, gid, *_ = line.split(":")
        if name == stage.user:
            return f"{uid}:{gid}"
    raise AssertionError(f"no user {stage.user} in the image")
