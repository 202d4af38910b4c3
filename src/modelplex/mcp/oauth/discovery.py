"""Finds the authorization server of a tool server.

Requests carry no credential. Redirects are not followed. An address is used only if it is https (or
http on this machine, for a tool server there), and leads no nearer than the tool server.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from modelplex.credentials.source import CredentialError
from modelplex.credentials.token_request import UNREADABLE, ask
from modelplex.http_client import HttpClient
from modelplex.mcp.oauth.challenge import Challenge
from modelplex.mcp.oauth.metadata import (
    ResourceMetadata,
    ServerMetadata,
    covers,
    is_private,
    issuer_places,
    old_endpoints,
    origin_of,
    resource_places,
)
from modelplex.mcp.oauth.reach import Reach, Resolve, look_up

T = TypeVar("T")
SHOWN: Final = 200
"""Characters of a foreign address in a sentence."""


class Discovered(msgspec.Struct, frozen=True, kw_only=True):
    """`resource` names the tool server in requests for tokens (RFC 8707). `scope` is what it says
    that it needs; None if it says nothing.
    """

    resource: str
    scope: str | None
    server: ServerMetadata


class _Documents:
    """What the two servers serve about themselves, at addresses that may be asked."""

    def __init__(self, client: HttpClient, server: str, reach: Reach) -> None:
        self._client = client
        self._server = server
        self._reach = reach

    async def get(self, place: str, kind: type[T]) -> T | None:
        """None if there is nothing of this kind: many servers answer any path with a page. Raises
        CredentialError if the service cannot be reached, or has a fault that may pass.
        """
        await self.check(place)
        answered = await ask(self._client, place, place=place[:SHOWN])
        if answered.status >= 500:
            raise CredentialError(f"{place[:SHOWN]} answered {answered.status}")
        if answered.status != 200:
            return None
        try:
            return msgspec.json.decode(answered.body, type=kind)
        except UNREADABLE:
            return None

    async def check(self, url: str) -> None:
        """Raises CredentialError."""
        if not is_private(url, server=self._server):
            raise CredentialError(f"the address {url[:SHOWN]} is not https")
        await self._reach.check(url)


async def discover(
    client: HttpClient,
    server: str,
    *,
    challenge: Challenge | None = None,
    issuer: str = "",
    resolve: Resolve = look_up,
) -> Discovered:
    """`server` is the URL of the tool server, and `issuer` the authorization server of the config.
    Raises CredentialError.
    """
    documents = _Documents(client, server, Reach(server, issuer=issuer, resolve=resolve))
    resource = await _resource(documents, server, challenge)
    named = resource.authorization_servers
    if issuer and named and issuer not in named:
        raise CredentialError(
            f"the tool server's authorization server is {named[0][:SHOWN]}, and `issuer` in its `auth` is {issuer}"
        )
    chosen = issuer or (named[0] if named else "")
    found = await _authorization_server(documents, chosen, server)
    for endpoint in found.endpoints:
        await documents.check(endpoint)
    scope = challenge.scope if challenge is not None and challenge.scope else None
    if scope is None and resource.scopes_supported is not None:
        scope = " ".join(resource.scopes_supported)
    return Discovered(resource=resource.resource or server, scope=scope, server=found)


async def _resource(documents: _Documents, server: str, challenge: Challenge | None) -> ResourceMetadata:
    """Empty where the server has none: older ones are their own authorization servers."""
    named = challenge.metadata if challenge is not None else ""
    for place in [named] if named else resource_places(server):
        found = await documents.get(place, ResourceMetadata)
        if found is None:
            continue
        if not covers(found.resource, server):
            raise CredentialError(
                f"the metadata at {place[:SHOWN]} is of another resource than the tool server:"
                f" {found.resource[:SHOWN]!r}"
            )
        if not found.authorization_servers:
            raise CredentialError(f"the metadata at {place[:SHOWN]} names no authorization server")
        return found
    if named:
        raise CredentialError(f"the tool server's metadata is not at {named[:SHOWN]}")
    return ResourceMetadata()


async def _authorization_server(documents: _Documents, issuer: str, server: str) -> ServerMetadata:
    """Metadata of another issuer is not used (RFC 8414 3.3): its codes would go to the wrong server
    without anyone noticing. A server that is its own, and was not named, may end in a slash.
    """
    if issuer:
        await documents.check(issuer)
    chosen = issuer or origin_of(server)
    for place in issuer_places(chosen):
        found = await documents.get(place, ServerMetadata)
        if found is None:
            continue
        if found.issuer != chosen and (issuer or found.issuer != f"{chosen}/"):
            raise CredentialError(
                f"the metadata at {place[:SHOWN]} is of another issuer than {chosen[:SHOWN]}: {found.issuer[:SHOWN]!r}"
            )
        if not found.token_endpoint:
            raise CredentialError(f"the metadata at {place[:SHOWN]} names no token endpoint")
        return found
    if issuer:
        raise CredentialError(
            f"the authorization server {issuer[:SHOWN]} has no metadata, or none that is valid"
        )
    return old_endpoints(server)
