from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from modelplex.credentials.source import CredentialError, CredentialRefused
from modelplex.credentials.token_request import MAX_BODY
from modelplex.mcp.oauth.sign_in import Method, RegisteredClient
from modelplex.mcp.oauth.token_endpoint import GrantedToken, TokenEndpoint, method_of
from tests.credentials.clouds import Reply, form
from tests.upstreams import Seen

from .web import ISSUER, TOKEN, TOOLS, Page, web

NOW = 1_800_000_000.0
FIELDS = {"grant_type": "refresh_token", "refresh_token": "first-refresh-token"}
GRANTED = {"access_token": "second-access-token", "token_type": "bearer", "expires_in": 60}


def endpoint(method: Method = "none", **more: Any) -> TokenEndpoint:
    client = RegisteredClient(id="client", issuer=ISSUER, secret="a secret:of/it", method=method)
    return TokenEndpoint(url=TOKEN, resource=TOOLS, client=client, **more)


async def ask(page: Page, method: Method = "none", **more: Any) -> tuple[GrantedToken, Seen]:
    async with web({TOKEN: page}) as client:
        token = await endpoint(method, **more).ask(client, FIELDS, now=NOW)
        return token, client.seen[0]


async def refusal(page: Page, method: Method = "none") -> CredentialError:
    with pytest.raises(CredentialError) as refused:
        await ask(page, method)
    return refused.value


async def test_a_public_client_names_itself_and_the_tool_server() -> None:
    token, seen = await ask((200, GRANTED))
    assert form(seen) == {**FIELDS, "resource": TOOLS, "client_id": "client"}
    assert (token.access_token, token.expires_at(NOW)) == ("second-access-token", NOW + 60)
    assert "second-access" not in repr(token)


async def test_a_secret_is_sent_as_the_method_says() -> None:
    _, seen = await ask((200, GRANTED), "client_secret_post")
    assert form(seen)["client_secret"] == "a secret:of/it"
    _, seen = await ask((200, GRANTED), "client_secret_basic")
    pair = base64.b64decode(seen.headers["authorization"].removeprefix("Basic "))
    assert pair == b"client:a%20secret%3Aof%2Fit"
    assert "client_secret" not in form(seen)


async def test_a_key_signs_an_assertion_for_the_issuer(tmp_path: Path) -> None:
    pem = tmp_path / "key.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    _, seen = await ask((200, GRANTED), "private_key_jwt", key_file=str(pem), key_id="k")
    claims = form(seen)["client_assertion"].split(".")[1]
    found = json.loads(base64.urlsafe_b64decode(claims + "=="))
    assert (found["iss"], found["aud"], found["exp"] - found["iat"]) == ("client", ISSUER, 300)


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN PRIVATE KEY-----\nAAAA"])
async def test_a_key_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    pem = tmp_path / "key.pem"
    if content is not None:
        pem.write_bytes(content)
    async with web({}) as client:
        with pytest.raises(CredentialError, match="the key file") as refused:
            await endpoint("private_key_jwt", key_file=str(pem)).ask(client, FIELDS, now=NOW)
        assert client.asked == []
    assert "AAAA" not in str(refused.value)


@pytest.mark.parametrize(
    "token",
    ["a\r\nx-admin: 1", "a\nb", "a\tb", "", "t\u00f6ken", "a\x00b", "a\x7f"],
)
async def test_a_token_that_no_header_can_hold_is_refused(token: str) -> None:
    error = await refusal((200, {**GRANTED, "access_token": token}))
    assert str(error) == f"the token endpoint {TOKEN} gave a token that no header can hold"


@pytest.mark.parametrize(
    "page",
    [
        (200, b""),
        (200, b"<html>"),
        (200, b"[" * 50_000),
        (200, {"token_type": "bearer"}),
        (200, {"access_token": None}),
        (200, {**GRANTED, "refresh_token": 1}),
        (200, b'{"access_token": "second-access-token", "expires_in": 1' + b"0" * 500 + b"}"),
        (200, b" " * (MAX_BODY + 1)),
        (200, {**GRANTED, "token_type": "DPoP" * 1_000}),
        (302, b""),
        (400, b"[" * 50_000),
        (500, b"second-access-token"),
    ],
)
async def test_a_malformed_answer_is_an_error_without_its_content(page: Reply) -> None:
    error = await refusal(page)
    assert "second-access-token" not in str(error)
    assert len(str(error)) < 400


@pytest.mark.parametrize("method", ["none", "client_secret_post", "client_secret_basic"])
async def test_an_error_repeats_no_secret(method: Method) -> None:
    """Some servers say which token they refuse, and some repeat the whole request."""

    def reply(seen: Seen) -> Reply:
        sent = ", ".join(form(seen).values()) + seen.headers.get("authorization", "")
        padded = "x" * 180 + " first-refresh-token"  # cut in its middle
        return 400, {"error": "invalid_grant", "error_description": sent, "message": padded}

    error = await refusal(reply, method)
    assert isinstance(error, CredentialRefused)
    assert error.code == "invalid_grant"
    for secret in ("first-refresh-token", "a secret:of/it", base64.b64encode(b"client:a%20").decode()[:12]):
        assert secret not in str(error)


async def test_a_secret_at_the_cut_of_an_error_is_masked_too() -> None:
    page = (400, {"error": "invalid_grant", "error_description": "x" * 190 + "first-refresh-token"})
    assert "first" not in str(await refusal(page))


@pytest.mark.parametrize(
    ("told", "until"),
    [
        (60, NOW + 60),
        ("60", NOW + 60),
        (59.5, NOW + 59.5),
        (-5, NOW),
        (None, None),
        ("soon", NOW + 300),
        ("nan", NOW + 300),
        ("inf", NOW + 315_360_000),
        (10**18, NOW + 315_360_000),
    ],
)
def test_the_end_of_a_token_is_a_date(told: Any, until: float | None) -> None:
    assert GrantedToken("t", told).expires_at(NOW) == until


def test_a_method_that_the_server_has_is_chosen() -> None:
    assert method_of(None, secret="s") == "client_secret_basic"
    assert method_of(("client_secret_post", "none"), secret="s") == "client_secret_post"
    assert method_of(("private_key_jwt",), secret="s") == "none"
    assert method_of(None, secret="") == "none"
