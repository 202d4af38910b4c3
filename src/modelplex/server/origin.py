"""Checks Host and Origin on TCP ports: the guard against DNS rebinding.

A web page of any origin can make a browser call a loopback port; with a host name of its own that
resolves to the loopback it can read the response too. So a request must name a host that no web
page can own: an IP address, `localhost`, the listener's own name, or one that the config allows. In
a container a published port is also reached by the name of the container, of its service or of the
machine: there a name of one label is served too, which public DNS does not resolve. An Origin must
be of such a host as well. Clients other than browsers send none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from modelplex.core.errors import Misdirected, PolicyDenied

OWN_NAMES = frozenset({"localhost", "host.docker.internal", "host.containers.internal"})
"""Names of this machine only: loopback, and what containers call their host."""

LABEL = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?", re.ASCII)
"""A host name without a dot, of a container, a service or a machine of this network. No public site
has one (ICANN, "New gTLD Dotless Domain Names Prohibited", 2013).
"""


class Hosts:
    """The host names that are served. Up to MAX_REMEMBERED allowed ones are remembered, so that a
    request costs a set look-up.
    """

    MAX_REMEMBERED = 256

    def __init__(
        self, *, names: Iterable[str] = (), origins: Iterable[str] = (), single_labels: bool = False
    ) -> None:
        self._names = OWN_NAMES | {name.lower() for name in names}
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)
        self._single_labels = single_labels
        self._seen: set[str | None] = {None}

    def __repr__(self) -> str:
        return f"<Hosts {sorted(self._names)}, origins {sorted(self._origins)}>"

    def check(self, host: str | None, origin: str | None) -> None:
        """Raises Misdirected for a Host that is not served, and PolicyDenied for an Origin that is
        not allowed.
        """
        if host not in self._seen:
            name = _host_name(host or "")
            if not self._is_own(name) and not (self._single_labels and LABEL.fullmatch(name)):
                raise Misdirected(
                    f"This listener does not serve the host {name!r}: a name that a web page could own might be one. "
                    "Use an IP address or localhost, or allow the name in [server] allowed_hosts."
                )
            if len(self._seen) < self.MAX_REMEMBERED:
                self._seen.add(host)
        if origin is not None and not self._is_allowed(origin):
            raise PolicyDenied(
                f"Policy: a web page of {origin!r} may not call this gateway. Allow it in [server] allowed_origins.",
                code="origin_not_allowed",
            )

    def _is_allowed(self, origin: str) -> bool:
        if origin.lower().rstrip("/") in self._origins:
            return True
        try:
            parts = urlsplit(origin)
            return parts.scheme in {"http", "https"} and self._is_own((parts.hostname or "").lower())
        except ValueError:
            return False

    def _is_own(self, name: str) -> bool:
        if name in self._names or name.endswith(".localhost"):
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True


def _host_name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name if not rest or rest.startswith(":") else host
    return host.partition(":")[0].lower()
