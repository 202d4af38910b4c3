"""The client that the gateway is at an authorization server.

In this order: a client that was registered beforehand, the address of a client ID metadata
document, dynamic registration. Source:
https://modelcontextprotocol.io/specification/2026-07-28/basic/authorization/client-registration
(read 2026-12-02), RFC 7591.
"""

from __future__ import annotations

from typing import Final

import msgspec

from modelplex.config.mcp_settings import McpOAuth
from modelplex.credentials.source import CredentialError, CredentialRefused
from modelplex.credentials.token_request import JSON, ask, read
from modelplex.http_client import HttpClient
from modelplex.mcp.oauth.metadata import DEVICE_GRANT, ServerMetadata
from modelplex.mcp.oauth.sign_in import Method, RegisteredClient
from modelplex.mcp.oauth.token_endpoint import method_of

CLIENT_NAME: Final = "Modelplex"


class _Registered(msgspec.Struct):
    """RFC 7591 3.2.1."""

    client_id: str
    client_secret: str = ""
    client_secret_expires_at: float = 0.0
    token_endpoint_auth_method: str = ""

    def __repr__(self) -> str:
        return f"<_Registered {self.client_id}>"


def configured_client(auth: McpOAuth, server: ServerMetadata) -> RegisteredClient | None:
    """The client of the config, if it names one."""
    if not auth.client_id:
        return None
    secret = "" if auth.client_secret is None else auth.client_secret.reveal()
    method: Method = (
        "private_key_jwt"
        if auth.private_key_file
        else method_of(server.token_endpoint_auth_methods_supported, secret=secret)
    )
    return RegisteredClient(id=auth.client_id, secret=secret, issuer=server.issuer, method=method)


async def registered_client(
    client: HttpClient,
    auth: McpOAuth,
    server: ServerMetadata,
    *,
    redirect: str,
    before: RegisteredClient | None,
    now: float,
) -> RegisteredClient:
    """`before` is the client of an earlier sign-in; it is used again at the authorization server
    that registered it, for the address that was registered, until its secret expires. Raises
    CredentialError.
    """
    configured = configured_client(auth, server)
    if configured is not None:
        return configured
    if auth.client_metadata and server.client_id_metadata_document_supported:
        return RegisteredClient(id=auth.client_metadata, issuer=server.issuer)
    if before is not None and _serves(before, server, redirect=redirect, now=now):
        return before
    if server.registration_endpoint:
        return await _register(client, server, redirect=redirect)
    raise CredentialError(
        f"{server.issuer} registers no clients by itself: register one there, with the redirect address "
        f'{redirect}, and name it in the config: auth = {{ type = "oauth", client_id = "..." }}'
    )


def _serves(before: RegisteredClient, server: ServerMetadata, *, redirect: str, now: float) -> bool:
    same = before.issuer == server.issuer and before.redirect == redirect
    return same and not 0 < before.secret_expires_at <= now


async def _register(client: HttpClient, server: ServerMetadata, *, redirect: str) -> RegisteredClient:
    supported = server.token_endpoint_auth_methods_supported
    wanted = "none" if supported is None or "none" in supported else method_of(supported, secret="any")  # noqa: S106 - the method alone is chosen
    grants = ["authorization_code", "refresh_token", *([DEVICE_GRANT] if server.has_device_flow else [])]
    asked = {
        "client_name": CLIENT_NAME,
        "application_type": "native",
        "redirect_uris": [redirect],
        "grant_types": grants,
        "response_types": ["code"],
        "token_endpoint_auth_method": wanted,
    }
    place = f"the registration endpoint {server.registration_endpoint}"
    answered = await ask(
        client,
        server.registration_endpoint,
        place=place,
        method=b"POST",
        headers=[(b"content-type", JSON)],
        body=msgspec.json.encode(asked),
    )
    try:
        found = read(answered, kind=_Registered, place=place)
    except CredentialRefused as refused:
        raise CredentialError(f"the gateway could not be registered as a client: {refused}") from None
    if not found.client_id:
        raise CredentialError(f"{place} answered without a client_id")
    return RegisteredClient(
        id=found.client_id,
        secret=found.client_secret,
        secret_expires_at=found.client_secret_expires_at,
        issuer=server.issuer,
        method=_method(found, supported),
        redirect=redirect,
    )


def _method(found: _Registered, supported: tuple[str, ...] | None) -> Method:
    """What the answer names, if the gateway can do it: it registers no key."""
    match found.token_endpoint_auth_method:
        case "none":
            return "none"
        case "client_secret_basic" | "client_secret_post" as method if found.client_secret:
            return method
        case _:
            return method_of(supported, secret=found.client_secret)
