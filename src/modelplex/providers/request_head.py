"""Request target and header lines for one provider.

The result is sent as it is, so values that could start another header line are rejected.
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
"""Headers with a credential. One of them in `extra` replaces the key: two are never sent."""


def target(
    spec: ProviderSpec, *, base_path: str, endpoint: str, model: str, stream: bool, api_version: str | None
) -> bytes:
    """Path and query of a request. `base_path` is the path of the configured base URL, without a
    trailing slash.
    """
    path = spec.path(endpoint, stream=stream).replace("{model}", quote(model, safe=""))
    return _full_target(spec, base_path=base_path, path=path, api_version=api_version)


def models_target(spec: ProviderSpec, *, base_path: str, api_version: str | None) -> bytes:
    """Path and query of the request for the list of models."""
    return _full_target(spec, base_path=base_path, path=spec.models_path, api_version=api_version)


def _full_target(spec: ProviderSpec, *, base_path: str, path: str, api_version: str | None) -> bytes:
    if spec.root and base_path.endswith(spec.root):
        path = path.removeprefix(spec.root)
    if spec.version == "api-version" and api_version is not None:
        path += ("&" if "?" in path else "?") + urlencode({"api-version": api_version})
    return quote(base_path + path, safe="/%:?&=+$,;@!*'()~").encode("ascii")


def request_headers(spec: ProviderSpec, *, extra: Mapping[str, str], api_version: str | None) -> bytes:
    """Header lines, each ending in CR LF: user agent, version, and `extra`, which takes precedence.

    Without the credential, `content-type`, and the framing headers, which the HTTP client adds.
    Raises ValueError naming the header, never its value, if a name or value is invalid.
    """
    given = {name.lower(): value for name, value in extra.items()}
    ours = {"user-agent": USER_AGENT, "accept-encoding": "identity"}
    if spec.version == "anthropic-version":
        ours["anthropic-version"] = api_version or spec.quirks.api_version
    return b"".join(_line(name, value) for name, value in (ours | given).items())


def credential(spec: ProviderSpec, *, key: str | None, extra: Mapping[str, str]) -> bytes:
    """The header line with the key; empty without a key, or if `extra` has a credential. Raises
    ValueError like `request_headers`.
    """
    if key is None or CREDENTIALS & {name.lower() for name in extra}:
        return b""
    match spec.auth:
        case "bearer":
            return _line("authorization", f"Bearer {key}")
        case "x-api-key" | "api-key" | "x-goog-api-key":
            return _line(spec.auth, key)
        case "none":
            return b""
        case _:
            assert_never(spec.auth)


def _line(name: str, value: str) -> bytes:
    if not _name.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid header name.")
    if not _value.fullmatch(value):
        raise ValueError(
            f"The value of the header {name!r} contains a line break or a character outside ASCII."
        )
    return f"{name}: {value.strip()}\r\n".encode("ascii")
