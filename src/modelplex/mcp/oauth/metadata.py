"""What a tool server and its authorization server say of themselves, and where they say it.

PURE. Source: RFC 9728 (protected resource metadata), RFC 8414 and OpenID Connect Discovery 1.0
(authorization server metadata), in the order of
https://modelcontextprotocol.io/specification/2026-07-28/basic/authorization/authorization-server-discovery
(read 2026-12-02).
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

RESOURCE_SUFFIX: Final = "/.well-known/oauth-protected-resource"
OAUTH_SUFFIX: Final = "/.well-known/oauth-authorization-server"
OPENID_SUFFIX: Final = "/.well-known/openid-configuration"
DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"


class ResourceMetadata(msgspec.Struct, frozen=True):
    """RFC 9728 2."""

    resource: str = ""
    authorization_servers: tuple[str, ...] = ()
    scopes_supported: tuple[str, ...] | None = None


class ServerMetadata(msgspec.Struct, frozen=True):
    """RFC 8414 2, RFC 8628 4, RFC 7009, RFC 9207 3."""

    issuer: str = ""
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    registration_endpoint: str = ""
    device_authorization_endpoint: str = ""
    revocation_endpoint: str = ""
    scopes_supported: tuple[str, ...] | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] | None = None
    code_challenge_methods_supported: tuple[str, ...] | None = None
    client_id_metadata_document_supported: bool = False
    authorization_response_iss_parameter_supported: bool = False

    @property
    def endpoints(self) -> tuple[str, ...]:
        found = (
            self.authorization_endpoint,
            self.token_endpoint,
            self.registration_endpoint,
            self.device_authorization_endpoint,
            self.revocation_endpoint,
        )
        return tuple(endpoint for endpoint in found if endpoint)

    @property
    def has_device_flow(self) -> bool:
        return bool(self.device_authorization_endpoint)


def resource_places(server: str) -> Iterator[str]:
    """Where the metadata of a server at this URL may be, the most specific place first."""
    parts = urlsplit(server)
    path = parts.path.rstrip("/")
    if path:
        yield urlunsplit((parts.scheme, parts.netloc, RESOURCE_SUFFIX + path, parts.query, ""))
    yield urlunsplit((parts.scheme, parts.netloc, RESOURCE_SUFFIX, "", ""))


def issuer_places(issuer: str) -> Iterator[str]:
    """Where the metadata of an authorization server may be."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    paths = (OAUTH_SUFFIX + path, OPENID_SUFFIX + path) + ((path + OPENID_SUFFIX,) if path else ())
    for place in paths:
        yield urlunsplit((parts.scheme, parts.netloc, place, "", ""))


def old_endpoints(server: str) -> ServerMetadata:
    """The endpoints of a server without any metadata.

    Source: https://modelcontextprotocol.io/specification/2025-03-26/basic/authorization, "Fallbacks
    for Servers without Metadata Discovery" (read 2026-12-02).
    """
    base = origin_of(server)
    return ServerMetadata(
        issuer=base,
        authorization_endpoint=f"{base}/authorize",
        token_endpoint=f"{base}/token",
        registration_endpoint=f"{base}/register",
        code_challenge_methods_supported=("S256",),
    )


def origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def covers(resource: str, server: str) -> bool:
    """Whether a resource of this name is the server, or has it below its path."""
    try:
        one, other = urlsplit(resource), urlsplit(server)
        same = (one.hostname, _port(one.scheme, one.port)) == (
            other.hostname,
            _port(other.scheme, other.port),
        )
    except ValueError:
        return False
    if not same or one.scheme.lower() != other.scheme.lower() or one.fragment:
        return False
    path = one.path.rstrip("/")
    return f"{other.path.rstrip('/')}/".startswith(f"{path}/")


def _port(scheme: str, port: int | None) -> int | None:
    return port if port is not None else {"http": 80, "https": 443}.get(scheme.lower())


def is_private(url: str, *, server: str) -> bool:
    """Whether what is sent to this address is private: https, or http on the loopback of a tool
    server that is there too. A remote server could name a service of this machine otherwise.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if not host or parts.username is not None or parts.fragment or not (url.isascii() and url.isprintable()):
        return False
    if parts.scheme == "https":
        return is_loopback(urlsplit(server).hostname or "") or not is_loopback(host)
    return parts.scheme == "http" and is_loopback(host) and is_loopback(urlsplit(server).hostname or "")


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
