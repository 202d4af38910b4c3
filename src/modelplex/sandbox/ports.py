"""Ports between a sandbox and the host's loopback.

--publish      the host's 127.0.0.1:PORT leads to a port of the program. run.py listens, and the
bridge, which is in the sandbox's network, connects
--allow-port   the sandbox's 127.0.0.1:PORT leads to the same address of the host. The bridge
listens, and connects to a Unix socket that a second bridge on the host serves;
that one connects to this port and no other
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Final, NamedTuple

from modelplex.sandbox import kernel
from modelplex.sandbox.bridge import BACKLOG
from modelplex.sandbox.errors import CannotRun
from modelplex.sandbox.values import PublishedPort

LOOPBACK: Final = "127.0.0.1"
START_S: Final = 10.0
"""Until a second bridge listens."""
POLL_S: Final = 0.01


class OpenPorts(NamedTuple):
    """`published` are descriptors of listening sockets and ports inside; `allowed` are ports and
    Unix sockets that lead to the host's.
    """

    published: Sequence[tuple[int, int]] = ()
    allowed: Sequence[tuple[int, str]] = ()
    line: str = ""


@contextmanager
def opened(
    publish: Sequence[PublishedPort], allow: Sequence[int], private: Path, log: IO[bytes]
) -> Generator[OpenPorts]:
    """Raises CannotRun."""
    with ExitStack() as stack:
        sentences: list[str] = []
        published: list[tuple[int, int]] = []
        for port in dict.fromkeys(publish):
            listener = stack.enter_context(_listen(port))
            published.append((listener.fileno(), port.inside))
            sentences.append(
                f"http://{LOOPBACK}:{listener.getsockname()[1]} is the program's port {port.inside}"
            )
        allowed = [(port, _second_bridge(stack, port, private, log)) for port in dict.fromkeys(allow)]
        sentences += [f"the program reaches {LOOPBACK}:{port} of this machine" for port, _ in allowed]
        yield OpenPorts(published, allowed, "; ".join(sentences))


def _listen(port: PublishedPort) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port.host))
        listener.listen(BACKLOG)
    except OSError as fault:
        listener.close()
        hint = ""
        if fault.errno == errno.EADDRINUSE:
            hint = f" Choose another: --publish {min(port.host + 1, 65_535)}:{port.inside}"
        raise CannotRun(f"{LOOPBACK}:{port.host} cannot be opened here: {fault.strerror}.{hint}") from None
    return listener


def _second_bridge(stack: ExitStack, port: int, private: Path, log: IO[bytes]) -> str:
    """Start it, and return its socket. The program sees neither."""
    from modelplex.sandbox.plan import interpreter_command

    folder = private / "ports"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / str(port)
    command = interpreter_command("bridge")
    command += ["--connect", f"{LOOPBACK}:{port}", "--listen", f"unix:{path}"]
    popen = subprocess.Popen(  # noqa: S603 - our own program
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env={},
        start_new_session=True,
        preexec_fn=lambda: kernel.die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - there is no other thread here
    )
    stack.callback(popen.wait)
    stack.callback(popen.kill)
    deadline = time.monotonic() + START_S
    while not os.path.lexists(path):
        if popen.poll() is not None or time.monotonic() > deadline:
            raise CannotRun(f"the bridge to {LOOPBACK}:{port} did not start (status {popen.poll()}).")
        time.sleep(POLL_S)
    return str(path)
