from __future__ import annotations

from typing import Any

import pytest

from modelplex.config import Secret
from modelplex.config.mcp_settings import McpOAuth
from modelplex.credentials.source import CredentialError
from modelplex.mcp.oauth.metadata import DEVICE_GRANT, ServerMetadata
from modelplex.mcp.oauth.registration import configured_client, registered_client
from modelplex.mcp.oauth.sign_in import RegisteredClient

from .web import ISSUER, Page, Web, web

PLACE = f"{ISSUER}/register"
REDIRECT = "http://127.0.0.1:7/callback"
BEFORE = RegisteredClient(id="before", issuer=ISSUER, redirect=REDIRECT)


def server(**more: Any) -> ServerMetadata:
    fields: dict[str, Any] = {"issuer": ISSUER, "registration_endpoint": PLACE, **more}
    return ServerMetadata(**fields)


async def register(page: Page, **more: Any) -> tuple[RegisteredClient, Web]:
    options: dict[str, Any] = {"auth": McpOAuth(), "server": server(), "before": None, "now": 1_000.0, **more}
    async with web({PLACE: page}) as client:
        found = await registered_client(
            client,
            options["auth"],
            options["server"],
            redirect=REDIRECT,
            before=options["before"],
            now=options["now"],
        )
        return found, client


async def refusal(page: Page, **more: Any) -> str:
    with pytest.raises(CredentialError) as refused:
        await register(page, **more)
    return str(refused.value)


async def test_a_native_client_is_registered_for_the_redirect() -> None:
    found, client = await register(
        (201, {"client_id": "new"}), server=server(device_authorization_endpoint=f"{ISSUER}/device")
    )
    assert found == RegisteredClient(id="new", issuer=ISSUER, redirect=REDIRECT)
    assert client.seen[0].json == {
        "client_name": "Modelplex",
        "application_type": "native",
        "redirect_uris": [REDIRECT],
        "grant_types": ["authorization_code", "refresh_token", DEVICE_GRANT],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    }


@pytest.mark.parametrize(
    ("answer", "supported", "method"),
    [
        ({}, None, "none"),
        ({"client_secret": "s"}, None, "client_secret_basic"),
        ({"client_secret": "s"}, ("client_secret_post",), "client_secret_post"),
        ({"client_secret": "s", "token_endpoint_auth_method": "none"}, None, "none"),
        (
            {"client_secret": "s", "token_endpoint_auth_method": "client_secret_post"},
            None,
            "client_secret_post",
        ),
        ({"token_endpoint_auth_method": "client_secret_basic"}, None, "none"),
        # The gateway registered no key, whatever the server says.
        ({"token_endpoint_auth_method": "private_key_jwt"}, None, "none"),
        ({"token_endpoint_auth_method": "tls_client_auth"}, None, "none"),
    ],
)
async def test_the_method_is_one_that_the_gateway_can_do(
    answer: dict[str, Any], supported: tuple[str, ...] | None, method: str
) -> None:
    page = (201, {"client_id": "new", **answer})
    found, _ = await register(page, server=server(token_endpoint_auth_methods_supported=supported))
    assert found.method == method
    assert "client_secret" not in repr(found)


@pytest.mark.parametrize(
    "page",
    [
        (201, b""),
        (201, b"[" * 50_000),
        (201, {}),
        (201, {"client_id": ""}),
        (201, {"client_id": 7, "client_secret": "a-new-secret"}),
    ],
)
async def test_a_malformed_answer_is_told(page: Page) -> None:
    told = await refusal(page)
    assert told.startswith(f"the registration endpoint {PLACE} answered")
    assert "a-new-secret" not in told


async def test_a_refusal_has_the_reason_of_the_server() -> None:
    page = (400, {"error": "invalid_redirect_uri", "error_description": "no loopback"})
    assert await refusal(page) == (
        f"the gateway could not be registered as a client: the registration endpoint {PLACE} answered 400:"
        " invalid_redirect_uri: no loopback"
    )


async def test_a_registered_client_is_used_again_where_it_was_registered() -> None:
    found, client = await register((500, b""), before=BEFORE)
    assert (found, client.asked) == (BEFORE, [])


@pytest.mark.parametrize(
    "before",
    [
        RegisteredClient(id="before", issuer="http://127.0.0.1:9", redirect=REDIRECT),
        RegisteredClient(id="before", issuer=ISSUER, redirect="http://127.0.0.1:8/callback"),
        RegisteredClient(id="before", issuer=ISSUER, redirect=REDIRECT, secret="s", secret_expires_at=1_000),
    ],
)
async def test_a_client_of_elsewhere_or_with_an_expired_secret_is_registered_anew(
    before: RegisteredClient,
) -> None:
    found, _ = await register(
        (201, {"client_id": "new", "client_secret": "t", "client_secret_expires_at": 2_000}), before=before
    )
    assert (found.id, found.secret_expires_at) == ("new", 2_000)
    again, client = await register((500, b""), before=found)
    assert (again, client.asked) == (found, [])


async def test_the_config_comes_first_and_then_the_document() -> None:
    auth = McpOAuth(client_id="ours", client_metadata="https://x/client.json")
    found, _ = await register((500, b""), auth=auth, before=BEFORE)
    assert found.id == "ours"
    document = McpOAuth(client_metadata="https://x/client.json")
    described = server(client_id_metadata_document_supported=True)
    found, _ = await register((500, b""), auth=document, server=described, before=BEFORE)
    assert found.id == "https://x/client.json"
    found, _ = await register((500, b""), auth=document, before=BEFORE)
    assert found == BEFORE


async def test_without_registration_the_owner_is_told_the_redirect() -> None:
    told = await refusal((500, b""), server=server(registration_endpoint=""))
    assert f"with the redirect address {REDIRECT}" in told


def test_a_configured_client_proves_itself_as_the_server_supports() -> None:
    assert configured_client(McpOAuth(), server()) is None
    posts = server(token_endpoint_auth_methods_supported=("client_secret_post",))
    found = configured_client(McpOAuth(client_id="c", client_secret=Secret("s")), posts)
    assert found is not None
    assert (found.method, found.secret, found.issuer) == ("client_secret_post", "s", ISSUER)
    keyed = configured_client(McpOAuth(client_id="c", private_key_file="/k.pem"), posts)
    assert keyed is not None
    assert keyed.method == "private_key_jwt"
