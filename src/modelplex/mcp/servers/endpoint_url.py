"""The URL of a remote server. Another URL is followed only within the same origin.

PURE.
"""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import msgspec

from modelplex.http_client import Origin, parse_origin


class EndpointUrl(msgspec.Struct, frozen=True):
    """`target` is the path with its query, as in the request line."""

    origin: Origin
    target: str

    def resolve(self, location: str) -> EndpointUrl | None:
        """The URL of a redirect or an `endpoint` event; None if it is of another origin."""
        if self.origin.unix is not None:
            parts = urlsplit(urljoin(f"http://localhost{self.target}", location))
            same = parts.scheme == "http" and parts.netloc == "localhost"
            return EndpointUrl(self.origin, _target(parts.path, parts.query)) if same else None
        scheme = "https" if self.origin.tls else "http"
        try:
            other = parse_endpoint_url(urljoin(f"{scheme}://{self.origin.authority}{self.target}", location))
        except ValueError:
            return None
        return other if other.origin == self.origin else None


def parse_endpoint_url(url: str) -> EndpointUrl:
    """Raises ValueError, with a sentence that does not repeat the URL."""
    plain, _, query = url.partition("#")[0].partition("?")
    origin, path = parse_origin(plain)
    # For many servers, a slash at the end names another resource.
    return EndpointUrl(origin, _target(path + "/" if plain.endswith("/") or not path else path, query))


def _target(path: str, query: str) -> str:
    return f"{path or '/'}?{query}" if query else path or "/"
