"""Tries, from inside a confined process, what a gateway gives up: `modelplex check --confine`.

A child confines itself as a gateway with the same config does, and reports what each attempt came
to. What it tries is harmless where it succeeds.
"""

from __future__ import annotations

import errno
import os
import pickle
import socket
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from modelplex.confinement import system_calls
from modelplex.confinement.confine import Confinement

REFUSED: Final = frozenset({errno.EPERM, errno.EACCES})
CLONE_NEWUSER: Final = 0x1000_0000
UNSHARE: Final = {"x86_64": 272, "aarch64": 97}
PTRACE: Final = {"x86_64": 101, "aarch64": 117}
PTRACE_ATTACH: Final = 16
OTHER_PORT: Final = 9
"""discard: no provider is there."""


class ConfinementTrial(msgspec.Struct, frozen=True):
    """`needs` is what makes it fail: "calls", "files", "ports" or "signals". `failed` says that the
    system refused it.
    """

    what: str
    needs: str
    failed: bool
    outcome: str


class ConfinementCheck(msgspec.Struct, frozen=True, kw_only=True):
    """`confined` is "whole", "off", or what is missing. `ok`: nothing was possible that this system
    can refuse.
    """

    confined: str
    ok: bool
    trials: tuple[ConfinementTrial, ...]


def _read_outside(outside: str) -> None:
    Path(outside).read_bytes()


def _write_outside(outside: str) -> None:
    Path(outside).with_name("written").write_bytes(b"")


def _run_program(outside: str) -> None:
    del outside
    os.posix_spawn("/bin/true", ["true"], {})


def _replace_itself(outside: str) -> None:
    """With a program that does not exist: what the system says tells whether it looked for it."""
    os.execv(f"{outside}.none", ["none"])  # noqa: S606 - no shell is intended


def _fork(outside: str) -> None:
    del outside
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _unshare(outside: str) -> None:
    del outside
    system_calls.call("unshare", UNSHARE[os.uname().machine], CLONE_NEWUSER)


def _trace(outside: str) -> None:
    del outside
    system_calls.call("ptrace", PTRACE[os.uname().machine], PTRACE_ATTACH, os.getppid(), 0, 0)


def _listen(outside: str) -> None:
    """Whether somebody can connect to a port that was not bound, which `listen` chooses."""
    del outside
    with socket.socket() as listener:
        listener.listen()
        if listener.getsockname()[1] == 0:
            raise PermissionError(errno.EPERM, "it does not listen")


def _bind(outside: str) -> None:
    del outside
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))


def _connect(outside: str) -> None:
    del outside
    with socket.socket() as client:
        client.connect(("127.0.0.1", OTHER_PORT))


def _unix_socket(outside: str) -> None:
    del outside
    socket.socket(socket.AF_UNIX).close()


def _signal_parent(outside: str) -> None:
    del outside
    os.kill(os.getppid(), 0)


def _environment_of_parent(outside: str) -> None:
    del outside
    Path(f"/proc/{os.getppid()}/environ").read_bytes()


ATTEMPTS: Final[tuple[tuple[str, str, Callable[[str], None]], ...]] = (
    ("read a file outside", "files", _read_outside),
    ("write a file outside", "files", _write_outside),
    ("read another process's environment", "files", _environment_of_parent),
    ("start a program", "calls", _run_program),
    ("become another program", "calls", _replace_itself),
    ("start a process", "calls", _fork),
    ("make a namespace", "calls", _unshare),
    ("trace another process", "calls", _trace),
    ("make a Unix socket", "calls", _unix_socket),
    ("listen on a port that listen chooses", "calls", _listen),
    ("listen on another port", "ports", _bind),
    (f"connect to port {OTHER_PORT}", "ports", _connect),
    ("signal another process", "signals", _signal_parent),
)


def attempts(confine: Callable[[], Confinement]) -> tuple[Mapping[str, object], list[ConfinementTrial]]:
    """What `confine` says that holds, and each attempt. Raises ConfinementError, OSError."""
    with tempfile.TemporaryDirectory() as folder:
        outside = Path(folder) / "outside"
        outside.write_text("not for the gateway\n")
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(ours)
            _be_child(confine, str(outside), theirs)
        os.close(theirs)
        with os.fdopen(ours, "rb") as pipe:
            result = pickle.loads(pipe.read() or pickle.dumps(OSError(0, "the confined process ended")))  # noqa: S301 - our own child
        os.waitpid(pid, 0)
    if isinstance(result, Exception):
        raise result
    status, found = result
    return status, found


def _be_child(confine: Callable[[], Confinement], outside: str, report: int) -> NoReturn:
    try:
        try:
            confinement = confine()
            confinement.seal()
            result: object = (confinement.status(), [_tried(*each, outside) for each in ATTEMPTS])
        except Exception as error:  # noqa: BLE001 - the parent raises it
            result = error
        with os.fdopen(report, "wb") as pipe:
            pipe.write(pickle.dumps(result))
    finally:
        os._exit(0)


def _tried(what: str, needs: str, attempt: Callable[[str], None], outside: str) -> ConfinementTrial:
    try:
        attempt(outside)
    except OSError as error:
        text = error.strerror or str(error)
        return ConfinementTrial(what, needs, error.errno in REFUSED, text[:1].lower() + text[1:])
    return ConfinementTrial(what, needs, failed=False, outcome="it succeeded")
