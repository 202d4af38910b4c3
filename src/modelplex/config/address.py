"""Addresses as people write them, put into the one form that the rest reads. Opens nothing and
resolves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_HTTP: Final = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^\s\[\]:/@]*):([0-9]{1,5})", re.ASCII)
_LOCALHOST: Final = "127.0.0.1"
DEFAULT_HOST: Final = "MODELPLEX_DEFAULT_HOST"
"""The variable that says what an address without a host means. The container image sets it to
0.0.0.0: a published port reaches no loopback.
"""
_PORTS: Final = 65_535

_BELOW_A_BASE: Final = re.compile(
    r"/(chat/completions|completions|embeddings|responses|messages|models|api/chat|api/generate|api/tags)$"
)
"""What the gateway itself puts after a base URL, and people copy with it."""


def default_host(environ: Mapping[str, str]) -> str:
    """What an address without a host means: the loopback, unless the environment names another.
    Raises ValueError.
    """
    host = environ.get(DEFAULT_HOST, "").strip()
    if not host:
        return _LOCALHOST
    bracketed = f"[{host}]" if ":" in host and not host.startswith("[") else host
    if _HTTP.fullmatch(f"{bracketed}:0") is None:
        raise ValueError(
            f'the variable {DEFAULT_HOST} names no host: write an address such as "0.0.0.0" or "::", or a name'
        )
    return bracketed


def http_address(written: str, *, host: str = _LOCALHOST) -> str:
    """`host:port` or `[v6]:port`, both parts given; `:port` means `host`. Raises ValueError with a
    sentence that does not repeat it.
    """
    found = _HTTP.fullmatch(written)
    if found is None:
        if written.isascii() and written.isdigit():
            raise ValueError('a port alone has a colon before it: ":8080" means port 8080 of localhost')
        raise ValueError('the form is host:port, as in "0.0.0.0:8080" or "[::1]:8080"')
    if int(found[2]) > _PORTS:
        raise ValueError(f"ports end at {_PORTS}")
    return f"{found[1] or host}:{int(found[2])}"


def provider_url(written: str) -> str:
    """A provider's base URL without the slash at its end. Raises ValueError with a sentence that
    does not repeat the URL.
    """
    from modelplex.http_client import parse_origin  # who will dial it decides what can be dialled

    url = written.strip().rstrip("/")
    parse_origin(url)
    if found := _BELOW_A_BASE.search(url):
        raise ValueError(f"The base URL ends before {found[0]}, which the gateway adds itself.")
    return url


def same_origin(one: str, other: str) -> bool:
    """Whether two base URLs lead to the same service: a key that was meant for one may go to the
    other. Both are valid.
    """
    from modelplex.http_client import parse_origin

    return parse_origin(one)[0] == parse_origin(other)[0]
