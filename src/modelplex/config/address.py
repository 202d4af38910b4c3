"""Addresses of listeners and base URLs of providers, checked and normalized. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_HTTP: Final = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^\s\[\]:/@]*):([0-9]{1,5})", re.ASCII)
_LOOPBACK: Final = "127.0.0.1"
DEFAULT_HOST: Final = "MODELPLEX_DEFAULT_HOST"
"""The environment variable with the host of an address that names none. The container image sets it
to 0.0.0.0: a published port does not reach the loopback interface.
"""
_MAX_PORT: Final = 65_535

_ENDPOINT: Final = re.compile(
    r"/(chat/completions|completions|embeddings|responses|messages|models|api/chat|api/generate|api/tags)$"
)
"""Paths that the gateway appends to a base URL, and that people copy with it."""


def default_host(environ: Mapping[str, str]) -> str:
    """The host of an address that names none: loopback, unless the environment names another.
    Raises ValueError.
    """
    host = environ.get(DEFAULT_HOST, "").strip()
    if not host:
        return _LOOPBACK
    bracketed = f"[{host}]" if ":" in host and not host.startswith("[") else host
    if _HTTP.fullmatch(f"{bracketed}:0") is None:
        raise ValueError(
            f'the variable {DEFAULT_HOST} names no host: write an address such as "0.0.0.0" or "::", or a name'
        )
    return bracketed


def http_address(written: str, *, host: str = _LOOPBACK) -> str:
    """`host:port` or `[v6]:port` with both parts; `:port` gets `host`. Raises ValueError with a
    sentence that does not repeat the address.
    """
    found = _HTTP.fullmatch(written)
    if found is None:
        if written.isascii() and written.isdigit():
            raise ValueError('a port alone needs a colon before it: ":8080" means port 8080 of localhost')
        raise ValueError('the form is host:port, as in "0.0.0.0:8080" or "[::1]:8080"')
    if int(found[2]) > _MAX_PORT:
        raise ValueError(f"the highest port is {_MAX_PORT}")
    return f"{found[1] or host}:{int(found[2])}"


def provider_url(written: str) -> str:
    """A provider's base URL without trailing slashes. Raises ValueError with a sentence that does
    not repeat the URL.
    """
    from modelplex.core.origin import parse_origin

    url = written.strip().rstrip("/")
    parse_origin(url)
    if found := _ENDPOINT.search(url):
        raise ValueError(f"The base URL ends before {found[0]}, which the gateway appends itself.")
    return url


def same_origin(one: str, other: str) -> bool:
    """Whether two valid base URLs are of one service, so that a key for one may go to the other."""
    from modelplex.core.origin import parse_origin

    return parse_origin(one)[0] == parse_origin(other)[0]
