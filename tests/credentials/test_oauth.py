"""Tokens of an OAuth 2 client of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelplex.credentials.oauth import UNTOLD_S, ClientCredentials, OAuthClient
from modelplex.credentials.source import CredentialError, Expiring
from modelplex.http_client import HttpClient
from tests.credentials.clouds import Clock, cloud, form
from tests.upstreams import Seen


async def fetched(
    settings: dict[str, str], reply: object, *, status: int = 200
) -> tuple[Expiring[str], Seen]:
    client = HttpClient()
    try:
        async with cloud(lambda _: (status, reply)) as service:
            oauth = OAuthClient(token_url=f"{service.url}/oauth/token", client_id="me", **settings)
            found = await ClientCredentials(oauth, client, clock=Clock(100.0)).fetch()
        return found, service.seen[0]
    finally:
        await client.aclose()


async def test_a_secret_is_exchanged_for_a_token() -> None:
    found, seen = await fetched(
        {"secret": "s&=", "scope": "a b", "audience": "https://x"}, {"access_token": "t", "expires_in": 600}
    )
    assert found == Expiring("t", 700.0)
    assert seen.target == "/oauth/token"
    assert seen.headers["content-type"] == "application/x-www-form-urlencoded"
    assert form(seen) == {
        "grant_type": "client_credentials",
        "client_id": "me",
        "client_secret": "s&=",
        "scope": "a b",
        "audience": "https://x",
    }


async def test_an_assertion_is_read_for_each_exchange(tmp_path: Path) -> None:
    file = tmp_path / "assertion"
    file.write_text("jwt-1\n")
    found, seen = await fetched({"assertion_file": str(file)}, {"access_token": "t"})
    assert found == Expiring("t", 100.0 + UNTOLD_S)
    assert form(seen)["client_assertion"] == "jwt-1"
    assert form(seen)["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert "client_secret" not in form(seen)


@pytest.mark.parametrize(
    ("status", "reply", "reason"),
    [
        (401, {"error": "invalid_client", "error_description": "No."}, "answered 401: invalid_client: No."),
        (403, {"error": {"code": 403, "message": "Disabled."}}, "answered 403: Disabled."),
        (500, b"<html>", "answered 500"),
        (200, {"token": "t"}, "something other than the token"),
        (200, b"\xff", "something other than the token"),
    ],
)
async def test_a_refusal_has_the_services_reason(status: int, reply: object, reason: str) -> None:
    with pytest.raises(CredentialError) as caught:
        await fetched({"secret": "sk-secret"}, reply, status=status)
    assert reason in str(caught.value)
    assert "sk-secret" not in str(caught.value)


async def test_an_endpoint_that_is_away_is_told() -> None:
    client = HttpClient()
    oauth = OAuthClient(token_url="http://127.0.0.1:9/token", client_id="me", secret="s")
    with pytest.raises(CredentialError, match=r"http://127.0.0.1:9/token: "):
        await ClientCredentials(oauth, client).fetch()
    await client.aclose()
