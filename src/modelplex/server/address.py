"""Addresses of listeners, as values. It opens nothing and resolves no name."""

from __future__ import annotations

import re
from typing import TypeAlias

import msgspec

from modelplex.core.caller import CallerRun

LOCALHOST = "127.0.0.1"
"""The host of an address without one: a missing host must not expose the gateway to a network."""

HTTP_FORM = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%[\w.]+)?)\]|(?P<host>[^\s\[\]:/@]*)):(?P<port>[0-9]{1,5})", re.ASCII
)


class ListenError(Exception):
    """An address cannot be listened on. The text is a sentence for whoever starts the gateway."""

    @property
    def sentence(self) -> str:
        return str(self)


class Tcp(msgspec.Struct, frozen=True, tag=True):
    """HTTP on a port. Port 0 lets the system choose; a host name is bound at each address that it
    resolves to.
    """

    host: str
    port: int

    @property
    def name(self) -> str:
        return f"tcp:{self}"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Unix(msgspec.Struct, frozen=True, tag=True):
    """HTTP on a socket file. The file has `mode` from its creation on; connecting needs write
    permission. `group` is a group's name, None leaves the default one. `agent` names the agent
    whose socket it is, `run` the run of `modelplex run`. `admin`: it has status, metrics and the
    page, and no model.
    """

    path: str
    mode: int = 0o660
    group: str | None = None
    agent: str = ""
    run: CallerRun | None = None
    admin: bool = False

    @property
    def name(self) -> str:
        return f"unix:{self.path}"

    def __str__(self) -> str:
        return self.path


class Vsock(msgspec.Struct, frozen=True, tag=True):
    """HTTP on a port of AF_VSOCK, for every virtual machine of this host."""

    port: int

    @property
    def name(self) -> str:
        return f"vsock:{self.port}"

    def __str__(self) -> str:
        return self.name


Address: TypeAlias = Tcp | Unix | Vsock
"""`name` is the `listener` in the state of a connection."""


def parse_http(text: str) -> Tcp:
    """Parse `host:port`, `[v6]:port`, or `:port` for the loopback. Raises ValueError with a
    sentence that shows the form.
    """
    form = 'write "host:port" ("0.0.0.0:8080", "[::1]:8080"), or ":8080" for 127.0.0.1'
    found = HTTP_FORM.fullmatch(text)
    if found is None:
        hint = f':{text}" or "0.0.0.0:{text}' if text.isascii() and text.isdigit() else None
        meant = f'; did you mean "{hint}"?' if hint else ""
        raise ValueError(f'"{text}" is not an address to listen on: {form}{meant}')
    port = int(found["port"])
    if port > 65535:
        raise ValueError(f'"{text}" has the port {port}, and ports end at 65535: {form}')
    return Tcp(host=found["v6"] or found["host"] or LOCALHOST, port=port)
