"""Where to listen, as values. Above it: the command line, the config and `serve`. It opens nothing
and resolves no name.
"""

from __future__ import annotations

import re
from typing import TypeAlias

import msgspec

LOCALHOST = "127.0.0.1"
"""What a port without a host means: the loopback, so that nothing is served to a network by leaving
a word out.
"""

HTTP_FORM = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%[\w.]+)?)\]|(?P<host>[^\s\[\]:/@]*)):(?P<port>[0-9]{1,5})", re.ASCII
)


class ListenError(Exception):
    """Listening was refused. The text is a sentence for the person who starts the gateway."""

    @property
    def sentence(self) -> str:
        return str(self)


class Tcp(msgspec.Struct, frozen=True, tag=True):
    """HTTP on a port. Port 0 lets the system choose; a name is bound at each address that it
    resolves to.
    """

    host: str
    port: int

    @property
    def name(self) -> str:
        """As in `scope["state"]["listener"]`."""
        return f"tcp:{self}"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Unix(msgspec.Struct, frozen=True, tag=True):
    """HTTP on a socket file. `mode` is exact from the file's first moment (connecting needs write
    permission); `group` is a group's name, None leaves the one that the system gives. `agent` is
    whose socket it is, "" for nobody's in particular.
    """

    path: str
    mode: int = 0o660
    group: str | None = None
    agent: str = ""

    @property
    def name(self) -> str:
        """As in `scope["state"]["listener"]`."""
        return f"unix:{self.path}"

    def __str__(self) -> str:
        return self.path


class Vsock(msgspec.Struct, frozen=True, tag=True):
    """HTTP on a port of AF_VSOCK: for every virtual machine of this host."""

    port: int

    @property
    def name(self) -> str:
        """As in `scope["state"]["listener"]`."""
        return f"vsock:{self.port}"

    def __str__(self) -> str:
        return self.name


Address: TypeAlias = Tcp | Unix | Vsock


def parse_http(text: str) -> Tcp:
    """`host:port`, `[v6]:port`, or `:port` for the loopback. Raises ValueError with a sentence that
    shows the form.
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
