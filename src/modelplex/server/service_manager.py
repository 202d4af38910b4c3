"""What a service tells systemd, its manager. Without systemd nothing happens.

Sources, read on 2026-12-01: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html,
.../sd_watchdog_enabled.html and, for Type=notify-reload, .../systemd.service.html.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from time import CLOCK_MONOTONIC, clock_gettime_ns


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
        import asyncio  # the launcher is forked before it is loaded

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
