"""systemd's protocol for services: what a service tells its manager, and the sockets that the
manager passes. Without systemd nothing happens.

Sources, read on 2026-12-01: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html,
.../sd_watchdog_enabled.html, .../sd_listen_fds.html and, for Type=notify-reload,
.../systemd.service.html.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import CLOCK_MONOTONIC, clock_gettime_ns
from typing import Final

from modelplex.config import Config
from modelplex.server import from_config
from modelplex.server.address import Address, ListenError, Tcp, Unix
from modelplex.server.listeners import BoundSocket

FIRST: Final = 3
"""SD_LISTEN_FDS_START."""
MAX_PASSED: Final = 4096


class ServiceManager:
    """The manager at the other end of NOTIFY_SOCKET. `watchdog_seconds` is how often it wants to
    hear of this process, 0 for never.
    """

    def __init__(self, address: str = "", *, watchdog_seconds: float = 0.0) -> None:
        self._address = address
        self.watchdog_seconds = watchdog_seconds
        self._sender: int | None = None
        """A descriptor, for as long as the process lives: a confined one cannot make another."""
        if address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.connect(f"\0{address[1:]}" if address.startswith("@") else address)
                self._sender = sender.detach()

    def __repr__(self) -> str:
        return f"<ServiceManager {self._address!r}>"

    def ready(self) -> None:
        self._send("READY=1")

    def reloading(self) -> None:
        """Until `ready` is called again. The time is the one by which the manager knows that its
        signal has been seen.
        """
        self._send(f"RELOADING=1\nMONOTONIC_USEC={clock_gettime_ns(CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self) -> None:
        if self.watchdog_seconds:
            self._send("WATCHDOG=1")

    async def keep_alive(self) -> None:
        """Tell the manager twice in its time that the event loop runs."""
        while self.watchdog_seconds:
            self.alive()
            await asyncio.sleep(self.watchdog_seconds / 2)

    def _send(self, state: str) -> None:
        # A manager that is gone, or does not read, must not stop the gateway.
        with suppress(OSError):
            if self._sender is not None:
                os.write(self._sender, state.encode())


def service_manager(environ: MutableMapping[str, str]) -> ServiceManager:
    """The one of this process. Its variables are taken out: programs that the gateway starts are
    not the service.
    """
    address = environ.pop("NOTIFY_SOCKET", "")
    period, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    is_own = not pid or pid == str(os.getpid())
    seconds = int(period) / 1e6 if period.isdecimal() and is_own else 0.0
    return ServiceManager(address if address.startswith(("/", "@")) else "", watchdog_seconds=seconds)


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
