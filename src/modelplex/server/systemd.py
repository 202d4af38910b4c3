"""The sockets that systemd passes to a service. Without systemd there are none.

Source, read on 2026-12-01: https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Final

from modelplex.config import Config
from modelplex.server import from_config
from modelplex.server.address import Address, ListenError, Tcp, Unix
from modelplex.server.listeners import BoundSocket

FIRST: Final = 3
"""SD_LISTEN_FDS_START."""
MAX_PASSED: Final = 4096


def passed_sockets(config: Config, environ: MutableMapping[str, str]) -> list[BoundSocket]:
    """The sockets that systemd has bound for this process. Each is a listener of the config by its
    address, else by its name: "http", "socket", "admin", or that of an agent. Raises ListenError
    for one that is neither.
    """
    count, pid = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if not count.isdecimal() or pid != str(os.getpid()):
        return []
    found: list[BoundSocket] = []
    for index in range(min(int(count), MAX_PASSED)):
        os.set_inheritable(FIRST + index, False)
        passed = socket.socket(fileno=FIRST + index)
        name = names[index] if index < len(names) else ""
        found.append(BoundSocket(_address(passed, name, config), passed))
    return found


def _address(passed: socket.socket, name: str, config: Config) -> Address:
    where = passed.getsockname()
    if passed.type != socket.SOCK_STREAM or not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ListenError(f"the socket {name!r} of systemd ({where}) is no listening stream socket.")
    configured = from_config.configured_addresses(config)
    if passed.family == socket.AF_UNIX:
        path = os.path.normpath(where)
        by_path = [each for each in configured if isinstance(each, Unix)]
        for each in by_path:
            if str(Path(each.path).absolute()) == path:
                return each
        if name in {"socket", "admin"}:
            return Unix(path, admin=name == "admin")
        if any(agent.name == name for agent in config.agents):
            return Unix(path, agent=name)
    elif passed.family in {socket.AF_INET, socket.AF_INET6}:
        address = Tcp(host=where[0], port=where[1])
        if address in configured or name == "http":
            return address
    raise ListenError(
        f"systemd passes the socket {name!r} at {where}, which is no listener of the config. "
        "Name it http, socket, admin, or as an agent (FileDescriptorName=), or add its address to [server]."
    )


def not_passed(addresses: Sequence[Address], passed: Sequence[BoundSocket]) -> list[Address]:
    """The addresses of a config that are still to be bound. An agent has one socket."""
    there = {each.address.name for each in passed}
    agents = {each.address.agent for each in passed if isinstance(each.address, Unix) and each.address.agent}
    return [
        each
        for each in addresses
        if each.name not in there and not (isinstance(each, Unix) and each.agent in agents)
    ]
