"""The caller of a request: what a listener knows of its peer, and what the config allows it.

A listener makes one per connection, and another where a token names the agent. The gateways read
it, and it is written to the Record. Every name in it comes from the host's config; what a caller
says of itself is not here. Imports nothing of ours.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Literal

import msgspec

Kind = Literal["tcp", "unix", "vsock"]
Reach = Literal["isolated", "networked", "unknown"]
"""The network of the connecting process, from the kernel: an empty namespace, one with a route out,
or unknown.
"""


class Peer(msgspec.Struct, frozen=True):
    """The process that connected, from SO_PEERCRED: it may have handed the connection on. `pid` is
    0 where the kernel does not show it to us.
    """

    pid: int
    uid: int
    gid: int


class PeerNetwork(msgspec.Struct, frozen=True):
    """What was seen of the connector's network; `interfaces` are those beside `lo`."""

    reach: Reach
    interfaces: tuple[str, ...] = ()


class Bound(msgspec.Struct, frozen=True):
    """Bounds of an opened policy rule. No `domains`: any domain. `max_uses` None: any number."""

    rule: str
    domains: tuple[str, ...] = ()
    max_uses: int | None = None


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """`listener` is "tcp:127.0.0.1:11435", "unix:/path" or "vsock:PORT"; `client` an IP address, ""
    on sockets.

    `agent` is a name of [[agents]], "" for nobody in particular. `sealed` with the rules that are
    open for this caller, some of them within bounds. `models` and `tools` are globs, empty for all.
    `priced_only` is for an agent whose budget counts dollars, and who may not spend what nobody can
    count.
    """

    listener: str
    kind: Kind
    client: str = ""
    agent: str = ""
    sealed: bool = False
    allowed: frozenset[str] = frozenset()
    bounds: frozenset[Bound] = frozenset()
    models: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    priced_only: bool = False
    peer: Peer | None = None
    attested: PeerNetwork | None = None

    @property
    def owner(self) -> str:
        """Whose what is kept is: an agent's, or that of everybody on one listener."""
        return f"agent:{self.agent}" if self.agent else self.listener

    def may_ask(self, model: str) -> bool:
        """Whether this name, as a client writes it, is among its models."""
        return not self.models or any(fnmatchcase(model, glob) for glob in self.models)
