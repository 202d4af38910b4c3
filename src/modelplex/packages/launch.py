"""Starts the process of a mirror, and stops it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

import msgspec

from modelplex.packages.plan import PackagesFault
from modelplex.packages.process import READY, SUMMARY, MirrorSpec, MirrorSummary

PASSED: Final = ("LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables of the host that the mirror gets: no key is among them."""
START_TIMEOUT_S: Final = 30.0
"""Until it listens: far above what it needs, also on a busy machine."""
STOP_TIMEOUT_S: Final = 10.0
"""Until it has ended, and its last records are stored."""


class RunningMirror:
    """`summary` is known once it has ended, unless it was killed."""

    def __init__(self, popen: subprocess.Popen[bytes], folder: Path) -> None:
        self._popen = popen
        self._folder = folder
        self.summary: MirrorSummary | None = None

    def __repr__(self) -> str:
        return f"<RunningMirror {self.pid}>"

    @property
    def pid(self) -> int:
        return self._popen.pid

    def stop(self) -> None:
        assert self._popen.stdin is not None
        with suppress(OSError):
            self._popen.stdin.close()
        try:
            self._popen.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        with suppress(OSError, msgspec.DecodeError):
            self.summary = msgspec.json.decode((self._folder / SUMMARY).read_bytes(), type=MirrorSummary)


def start_mirror(
    spec: MirrorSpec, *, log: IO[bytes], environ: Mapping[str, str], prepare: Callable[[], None]
) -> RunningMirror:
    """Returns once it listens. `prepare` is called in the new process. Raises PackagesFault."""
    popen = subprocess.Popen(
        [sys.executable, "-P", "-m", "modelplex.packages.process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env={name: environ[name] for name in PASSED if name in environ},
        start_new_session=True,
        preexec_fn=prepare,  # noqa: PLW1509 - there is no other thread here
    )
    mirror = RunningMirror(popen, Path(spec.folder))
    assert popen.stdin is not None
    assert popen.stdout is not None
    content = msgspec.json.encode(spec)
    with popen.stdout, suppress(BrokenPipeError):
        popen.stdin.write(b"%d\n" % len(content) + content)
        popen.stdin.flush()
        if (
            select.select([popen.stdout], [], [], START_TIMEOUT_S)[0]
            and os.read(popen.stdout.fileno(), 1) == READY
        ):
            return mirror
    mirror.stop()
    raise PackagesFault(f"the mirror of packages did not start (status {popen.returncode}).")
