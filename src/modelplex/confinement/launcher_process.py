"""The process of the launcher: forked, and with nothing open that the gateway's end should close.

It imports little: the launcher's own modules are loaded in its process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from modelplex.confinement.launcher import Launcher

NAME: Final = "mplex-launcher"
"""What `ps -o comm` shows, at most 15 bytes (proc(5), comm): both have the same command line."""
IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Ctrl-C reaches the whole process group; the gateway decides."""


def fork(launcher: Callable[[], Launcher]) -> socket.socket:
    """Start the process, and return the gateway's end of the connection. Call it before the first
    thread, and before listeners are open. Raises OSError.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        if os.fork() == 0:
            _be_launcher(launcher, theirs)
    return ours


def _be_launcher(launcher: Callable[[], Launcher], end: socket.socket) -> NoReturn:
    """Nothing of the caller's stack may run here."""
    status = 1
    try:
        with contextlib.suppress(OSError):
            Path("/proc/self/comm").write_text(NAME, encoding="ascii")
        signal.set_wakeup_fd(-1)
        for number in IGNORED:
            signal.signal(number, _do_nothing)
        _keep_only(end.fileno())
        launcher().serve(end)
        status = 0
    except BaseException:  # noqa: BLE001 - the outermost frame of a process
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def _do_nothing(*_: object) -> None:
    """A signal that is ignored would be ignored by the programs that are started, too."""


def _keep_only(number: int) -> None:
    """Close all descriptors but this one and stderr: what is held open here, such as a socket or
    the pipe of a log, would outlive the gateway for whoever waits for its end.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    sys.stdout = None
    for each in sorted(map(int, os.listdir("/proc/self/fd"))):  # noqa: PTH208 - numbers
        if each > 2 and each != number:
            with contextlib.suppress(OSError):
                os.close(each)
