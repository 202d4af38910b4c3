"""Ends a sign-in at the authorization server (RFC 7009)."""

from __future__ import annotations

from urllib.parse import urlencode

from modelplex.config.mcp_settings import McpOAuth
from modelplex.credentials.source import CredentialError
from modelplex.credentials.token_request import FORM, ask
from modelplex.http_client import HttpClient
from modelplex.mcp.oauth.sign_in import SignIn
from modelplex.mcp.oauth.token_endpoint import authentication


async def revoke(client: HttpClient, sign_in: SignIn, auth: McpOAuth, *, now: float) -> bool:
    """Revoke the tokens; False where the server has no endpoint for it. The refresh token first:
    most servers end its access tokens with it. Raises CredentialError.
    """
    if not sign_in.revocation_endpoint:
        return False
    headers, proof = await authentication(
        sign_in.client, key_file=auth.private_key_file, key_id=auth.key_id, now=now
    )
    tokens = {"refresh_token": sign_in.refresh_token, "access_token": sign_in.access_token}
    for hint, token in tokens.items():
        if not token:
            continue
        fields = {"token": token, "token_type_hint": hint} | proof
        place = f"the revocation endpoint {sign_in.revocation_endpoint}"
        answered = await ask(
            client,
            sign_in.revocation_endpoint,
            place=place,
            method=b"POST",
            headers=[(b"content-type", FORM), *headers],
            body=urlencode(fields).encode("ascii"),
        )
        if answered.status != 200:
            raise CredentialError(f"{place} answered {answered.status}")
    return True
