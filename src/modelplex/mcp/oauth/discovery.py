"""Finds the authorization server of a tool server.

Requests carry no credential. Redirects are not followed.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from modelplex.credentials.source import CredentialError
from modelplex.credentials.token_request import ask
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

T = TypeVar("T")


class Discovered(msgspec.Struct, frozen=True, kw_only=True):
    """`resource` names the tool server in requests for tokens (RFC 8707). `scope` is what it says
    that it needs; None if it says nothing.
    """

    resource: str
    scope: str | None
    server: ServerMetadata


async def discover(
    client: HttpClient, server: str, *, challenge: Challenge | None = None, issuer: str = ""
) -> Discovered:
    """`server` is the URL of the tool server, and `issuer` the authorization server of the config.
    Raises CredentialError.
    """
    resource = await _resource(client, server, challenge)
    named = resource.authorization_servers
    if issuer and named and issuer not in named:
        raise CredentialError(
            f"the tool server's authorization server is {named[0]}, and `issuer` in its `auth` is {issuer}"
        )
    chosen = issuer or (named[0] if named else "")
    found = await _authorization_server(client, chosen, server)
    for endpoint in found.endpoints:
        if not is_private(endpoint, server=server):
            raise CredentialError(f"{endpoint} is named as an endpoint, and is not https")
    scope = challenge.scope if challenge is not None and challenge.scope else None
    if scope is None and resource.scopes_supported is not None:
        scope = " ".join(resource.scopes_supported)
    return Discovered(resource=resource.resource or server, scope=scope, server=found)


async def _resource(client: HttpClient, server: str, challenge: Challenge | None) -> ResourceMetadata:
    """Empty where the server has none: older ones are their own authorization servers."""
    named = challenge.metadata if challenge is not None else ""
    for place in [named] if named else resource_places(server):
        found = await _get(client, place, ResourceMetadata, server=server)
        if found is None:
            continue
        if not covers(found.resource, server):
            raise CredentialError(
                f"the metadata at {place} is of another resource than the tool server: {found.resource!r}"
            )
        if not found.authorization_servers:
            raise CredentialError(f"the metadata at {place} names no authorization server")
        return found
    if named:
        raise CredentialError(f"the tool server's metadata is not at {named}")
    return ResourceMetadata()


async def _authorization_server(client: HttpClient, issuer: str, server: str) -> ServerMetadata:
    if issuer and not is_private(issuer, server=server):
        raise CredentialError(f"the authorization server {issuer} is not https")
    chosen = issuer or origin_of(server)
    for place in issuer_places(chosen):
        found = await _get(client, place, ServerMetadata, server=server)
        if found is None:
            continue
        if found.issuer != chosen and issuer:
            raise CredentialError(
                f"the metadata at {place} is of another issuer than {chosen}: {found.issuer!r}"
            )
        if not found.token_endpoint:
            raise CredentialError(f"the metadata at {place} names no token endpoint")
        return found
    if issuer:
        raise CredentialError(f"the authorization server {issuer} has no metadata")
    return old_endpoints(server)


async def _get(client: HttpClient, place: str, kind: type[T], *, server: str) -> T | None:
    """The document at an address; None if there is none. Raises CredentialError if the service
    cannot be reached, or answers with something else.
    """
    if not is_private(place, server=server):
        raise CredentialError(f"the address {place} is not https")
    answered = await ask(client, place, place=place)
    if answered.status != 200:
        return None
    try:
        return msgspec.json.decode(answered.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
