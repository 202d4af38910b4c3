"""`Origin`: the server of a request. Parses base URLs."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import msgspec

_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9.])?|[0-9a-f:.]*:[0-9a-f:.]*")


class Origin(msgspec.Struct, frozen=True, cache_hash=True, gc=False):
    """The server of a request, and the key of its pool. With `unix`, requests go to that socket and
    `host` is for the Host header.

    `ca_file` (PEM) replaces the system's certificate authorities; `verify=False` accepts any
    certificate.
    """

    host: str
    port: int
    tls: bool
    unix: str | None = None
    verify: bool = True
    ca_file: str | None = None

    def __str__(self) -> str:
        """For messages: `api.x.com`, `127.0.0.1:8080`, `the socket /run/x.sock`."""
        return f"the socket {self.unix}" if self.unix is not None else self.authority

    @property
    def authority(self) -> str:
        """The value of the Host header (RFC 9110 7.2), without the scheme's default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def parse_origin(base_url: str) -> tuple[Origin, str]:
    """Split a base URL into its origin and its path prefix without a trailing slash.

    `https://api.x.com/v1` and `unix:/run/x.sock:/v1` -> (Origin, "/v1"); `unix:/run/x.sock` ->
    (Origin, "").

    Raises:
        ValueError: with a sentence that does not repeat the URL, which may hold a secret.
    """
    scheme, colon, rest = base_url.partition(":")
    if not base_url.isprintable() or not base_url.isascii() or " " in base_url:
        raise ValueError("The base URL holds a space, a control character or a letter outside ASCII.")
    if "?" in rest or "#" in rest:
        raise ValueError("The base URL must end with its path: no query (?) and no fragment (#).")
    if colon and scheme.lower() == "unix":
        path, _, prefix = rest.removeprefix("//").partition(":/")
        if not path.startswith("/") or path.endswith("/"):
            raise ValueError(
                "A unix: address needs the absolute path of a socket, as in unix:/run/model.sock."
            )
        return Origin(host="localhost", port=80, tls=False, unix=path), f"/{prefix}".rstrip("/")
    if scheme.lower() not in ("http", "https") or not rest.startswith("//"):
        raise ValueError("The base URL must begin with https://, http:// or unix:/.")
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("The base URL's host or port is not valid.") from None
    if "@" in parts.netloc:
        raise ValueError("The base URL must not hold a user or a password: use api_key.")
    if not _HOST.fullmatch(host) or port == 0:
        raise ValueError("The base URL's host or port is not valid.")
    tls = parts.scheme == "https"
    return Origin(host=host, port=port or (443 if tls else 80), tls=tls), parts.path.rstrip("/")
