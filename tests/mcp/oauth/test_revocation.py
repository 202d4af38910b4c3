from __future__ import annotations

import pytest

from modelplex.config.mcp_settings import McpOAuth
from modelplex.credentials.source import CredentialError
from modelplex.mcp.oauth.revocation import revoke
from tests.credentials.clouds import Reply, form
from tests.upstreams import Seen

from .web import ISSUER, sign_in, web

PLACE = f"{ISSUER}/revoke"


async def test_the_refresh_token_is_revoked_first() -> None:
    async with web({PLACE: (200, b"")}) as client:
        assert await revoke(client, sign_in(revocation_endpoint=PLACE), McpOAuth(), now=1.0)
        assert [form(seen) for seen in client.seen] == [
            {"token": "first-refresh-token", "token_type_hint": "refresh_token", "client_id": "c"},
            {"token": "first-access-token", "token_type_hint": "access_token", "client_id": "c"},
        ]


async def test_without_an_endpoint_nothing_is_sent() -> None:
    async with web({}) as client:
        assert not await revoke(client, sign_in(), McpOAuth(), now=1.0)
        assert client.asked == []


async def test_only_tokens_that_are_there_are_revoked() -> None:
    async with web({PLACE: (200, b"")}) as client:
        kept = sign_in(revocation_endpoint=PLACE, refresh_token="")
        assert await revoke(client, kept, McpOAuth(), now=1.0)
        assert [form(seen)["token_type_hint"] for seen in client.seen] == ["access_token"]


@pytest.mark.parametrize("status", [302, 400, 503])
async def test_a_refusal_is_told_without_the_token(status: int) -> None:
    def reply(seen: Seen) -> Reply:
        return status, {"error": "invalid_request", "error_description": seen.body.decode()}

    async with web({PLACE: reply}) as client:
        with pytest.raises(CredentialError) as refused:
            await revoke(client, sign_in(revocation_endpoint=PLACE), McpOAuth(), now=1.0)
    assert str(refused.value) == f"the revocation endpoint {PLACE} answered {status}"
