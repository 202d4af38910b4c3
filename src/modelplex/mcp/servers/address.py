"""Where a remote server is: its origin and the target of a request there, and whether another
address that it names is still its own.

PURE. Above it stand the channels over HTTP; below it the client's `Origin`.
"""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import msgspec

from modelplex.http_client import Origin, parse_origin


class Address(msgspec.Struct, frozen=True):
    """`target` is the path with its query, as the request line has it."""

    origin: Origin
    target: str

    def joined(self, location: str) -> Address | None:
        """What a redirect or an `endpoint` event names, where it is of the same origin;
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
    # A slash at the end means another resource to many servers.
    return Address(origin, _target(path + "/" if plain.endswith("/") or not path else path, query))


def _target(path: str, query: str) -> str:
    return f"{path or '/'}?{query}" if query else path or "/"
