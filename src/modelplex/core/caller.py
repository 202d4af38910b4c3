"""The caller of a request: what a listener knows of its peer, and what the config permits it.

A listener makes one per connection, and another where a token names the agent. It is written to the
Record. All names come from the host's config, none from the caller. Imports nothing of Modelplex.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Literal

import msgspec

Kind = Literal["tcp", "unix", "vsock", "admin"]
"""`admin` is `[server] admin_socket`, for the host alone."""
Reach = Literal["isolated", "networked", "unknown"]
"""The network of the connecting process, from the kernel: an empty namespace, one with a route out,
or unknown.
"""


class Peer(msgspec.Struct, frozen=True, gc=False):
    """The process that connected, from SO_PEERCRED: it may have handed the connection on. `pid` is
    0 where the kernel does not show it to us.
    """

    pid: int
    uid: int
    gid: int


class PeerNetwork(msgspec.Struct, frozen=True, gc=False):
    """The network of the connecting process; `interfaces` without `lo`."""

    reach: Reach
    interfaces: tuple[str, ...] = ()


class Bound(msgspec.Struct, frozen=True, gc=False):
    """Bounds of an opened policy rule. No `domains`: any domain. `max_uses` None: any number."""

    rule: str
    domains: tuple[str, ...] = ()
    max_uses: int | None = None


class CallerRun(msgspec.Struct, frozen=True, gc=False):
    """The run of `modelplex run` whose socket it is. `priced_only` as in Caller, for the budget of
    the run. `seed` is of its requests.
    """

    id: str
    priced_only: bool = False
    seed: int | None = None


class Caller(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`listener` is "tcp:127.0.0.1:11435", "unix:/path" or "vsock:PORT"; `client` an IP address, ""
    on sockets.

    `agent` is a name of [[agents]], "" for none. `sealed`: the sealed policy applies, except the
    rules in `allowed`, some of them within `bounds`. `models` and `tools` are globs, empty for all.
    `priced_only`: the agent has a budget in dollars, and gets models with a known price only.
    `seed` is that of requests without one.
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
    seed: int | None = None
    peer: Peer | None = None
    attested: PeerNetwork | None = None
    run: CallerRun | None = None
    owner: str = ""
    """The owner of what is stored for the caller: the agent, or all callers of a listener. It
    follows from these.
    """

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "owner", f"agent:{self.agent}" if self.agent else self.listener)

    def may_use(self, model: str) -> bool:
        """Whether this name, as a client writes it, is among its models."""
        return not self.models or any(fnmatchcase(model, glob) for glob in self.models)
