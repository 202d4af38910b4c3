"""Request target and header lines for one provider.

The result is sent as it is, so nothing that could begin another header line gets in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import assert_never
from urllib.parse import quote, urlencode

from modelplex import __version__
from modelplex.providers.specs import ProviderSpec

USER_AGENT = f"modelplex/{__version__}"

_name = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2
_value = re.compile(r"[\t\x20-\x7e]*")  # RFC 9110 5.5, without the obsolete bytes above ASCII

CREDENTIALS = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key"})
"""Header names that say who pays. One of them in `extra` stands in for the key: never are two sent.
"""


def target(
    row: ProviderSpec, *, base_path: str, endpoint: str, model: str, stream: bool, api_version: str | None
) -> bytes:
    """Path and query of a request. `base_path` is the path of the configured base URL, without a
    slash at its end.
    """
    path = row.path(endpoint, stream=stream).replace("{model}", quote(model, safe=""))
    return _joined(row, base_path=base_path, path=path, api_version=api_version)


def models_target(row: ProviderSpec, *, base_path: str, api_version: str | None) -> bytes:
    """Path and query of the request for the list of models."""
    return _joined(row, base_path=base_path, path=row.models_path, api_version=api_version)


def _joined(row: ProviderSpec, *, base_path: str, path: str, api_version: str | None) -> bytes:
    if row.root and base_path.endswith(row.root):
        path = path.removeprefix(row.root)
    if row.version == "api-version" and api_version is not None:
        path += ("&" if "?" in path else "?") + urlencode({"api-version": api_version})
    return quote(base_path + path, safe="/%:?&=+$,;@!*'()~").encode("ascii")


def request_headers(row: ProviderSpec, *, extra: Mapping[str, str], api_version: str | None) -> bytes:
    """Header lines, each ended by CR LF: user agent, version, and `extra`, which wins over ours.

    Without the credential, without `content-type`, which is the body's, and without what frames the
    message, which the HTTP client adds. Raises ValueError naming the header, never its value, where
    a name or value cannot be sent.
    """
    given = {name.lower(): value for name, value in extra.items()}
    ours = {"user-agent": USER_AGENT, "accept-encoding": "identity"}
    if row.version == "anthropic-version":
        ours["anthropic-version"] = api_version or row.quirks.api_version
    return b"".join(_line(name, value) for name, value in (ours | given).items())


def credential(row: ProviderSpec, *, key: str | None, extra: Mapping[str, str]) -> bytes:
    """The header line with the key; empty where there is none, or where `extra` has a credential.
    Raises ValueError like `head`.
    """
    if key is None or CREDENTIALS & {name.lower() for name in extra}:
        return b""
    match row.auth:
        case "bearer":
            return _line("authorization", f"Bearer {key}")
        case "x-api-key" | "api-key" | "x-goog-api-key":
            return _line(row.auth, key)
        case "none":
            return b""
        case _:
            assert_never(row.auth)


def _line(name: str, value: str) -> bytes:
    if not _name.fullmatch(name):
        raise ValueError(f"{name!r} is not a header's name.")
    if not _value.fullmatch(value):
        raise ValueError(f"The value of the header {name!r} holds a line break or a character outside ASCII.")
    return f"{name}: {value.strip()}\r\n".encode("ascii")
