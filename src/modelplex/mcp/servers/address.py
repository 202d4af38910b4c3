"""The address of a remote server, and whether another address is of the same origin.

PURE.
"""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import msgspec

from modelplex.http_client import Origin, parse_origin


class Address(msgspec.Struct, frozen=True):
    """`target` is the path with its query, as in the request line."""

    origin: Origin
    target: str

    def joined(self, location: str) -> Address | None:
        """The address in a redirect or an `endpoint` event if it is of the same origin;
        else None.
        """
        if self.origin.unix is not None:
            parts = urlsplit(urljoin(f"http://localhost{self.target}", location))
            here = parts.scheme == "http" and parts.netloc == "localhost"
            return Address(self.origin, _target(parts.path, parts.query)) if here else None
        scheme = "https" if self.origin.tls else "http"
        try:
            other = parse_address(urljoin(f"{scheme}://{self.origin.authority}{self.target}", location))
        except ValueError:
            return None
        return other if other.origin == self.origin else None


def parse_address(url: str) -> Address:
    """Raises ValueError, with a sentence that does not repeat the URL."""
    plain, _, query = url.partition("#")[0].partition("?")
    origin, path = parse_origin(plain)
    # A slash at the end names another resource for many servers.
    return Address(origin, _target(path + "/" if plain.endswith("/") or not path else path, query))


def _target(path: str, query: str) -> str:
    return f"{path or '/'}?{query}" if query else path or "/"
