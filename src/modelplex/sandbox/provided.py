"""What a run provides to its sandbox from the host, for the time of the run."""

from __future__ import annotations

import argparse
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from modelplex.sandbox.limits import Enforced, Limits, enforced
from modelplex.sandbox.plan import print_error
from modelplex.sandbox.ports import OpenPorts, opened
from modelplex.sandbox.protected import Protected
from modelplex.sandbox.protection import protection


class Provided(NamedTuple):
    protected: Protected
    limits: Enforced
    ports: OpenPorts

    @property
    def descriptors(self) -> list[int]:
        """Open files that the sandbox inherits."""
        listeners = [number for number, _ in self.ports.published]
        return [*listeners, *([self.limits.procs] if self.limits.procs >= 0 else [])]


@contextmanager
def provided(arguments: argparse.Namespace, private: Path, log: IO[bytes]) -> Generator[Provided]:
    """Prints what is protected, limited and open. Raises CannotRun."""
    limits = Limits(arguments.memory, arguments.cpus, arguments.pids, arguments.time)
    with (
        protection(arguments) as protected,
        enforced(limits, is_root=os.geteuid() == 0) as held,
        opened(arguments.publish, arguments.allow_port, private, log) as ports,
    ):
        if held.line:
            print_error(f"limits: {held.line}")
        if ports.line:
            print_error(f"open: {ports.line}")
        yield Provided(protected, held, ports)
        for sentence in held.events():
            print_error(sentence)
