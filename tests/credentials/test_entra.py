"""Tokens of Microsoft Entra ID."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from modelplex.credentials.entra import EntraSettings, entra_source
from modelplex.credentials.source import Expiring
from modelplex.http_client import HttpClient
from tests.credentials.clouds import Clock, cloud, form
from tests.upstreams import Seen

SCOPE = "https://cognitiveservices.azure.com/.default"


async def fetched(reply: object, environ: dict[str, str], **settings: str) -> tuple[Expiring[str], Seen]:
    client = HttpClient()
    try:
        async with cloud(lambda _: (200, reply)) as service:
            own = {name: value.replace("CLOUD", service.url) for name, value in environ.items()}
            source = entra_source(
                EntraSettings(scope=SCOPE, **settings), client, environ=own, clock=Clock(100.0)
            )
            return await source.fetch(), service.seen[0]
    finally:
        await client.aclose()


async def test_a_client_with_a_secret() -> None:
    found, seen = await fetched(
        {"access_token": "t", "expires_in": "3599"},
        {"AZURE_AUTHORITY_HOST": "CLOUD/"},
        tenant="my tenant",
        client_id="app",
        secret="s",
    )
    assert found == Expiring("t", 3699.0)
    assert seen.target == "/my%20tenant/oauth2/v2.0/token"
    assert form(seen) == {
        "grant_type": "client_credentials",
        "client_id": "app",
        "client_secret": "s",
        "scope": SCOPE,
    }


async def test_workload_identity_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("projected-1")
    _, seen = await fetched(
        {"access_token": "t", "expires_in": 3599},
        {
            "AZURE_AUTHORITY_HOST": "CLOUD",
            "AZURE_TENANT_ID": "tenant",
            "AZURE_CLIENT_ID": "app",
            "AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "token"),
        },
    )
    assert form(seen)["client_assertion"] == "projected-1"


async def test_the_identity_of_the_machine() -> None:
    found, seen = await fetched(
        {"access_token": "t", "expires_in": "86399", "expires_on": "1800000000"},
        {"AZURE_POD_IDENTITY_AUTHORITY_HOST": "CLOUD"},
        client_id="one-of-several",
    )
    assert found == Expiring("t", 1_800_000_000.0)
    assert seen.headers["metadata"] == "true"
    url = urlsplit(seen.target)
    assert url.path == "/metadata/identity/oauth2/token"
    assert parse_qs(url.query) == {
        "api-version": ["2018-02-01"],
        "resource": ["https://cognitiveservices.azure.com"],
        "client_id": ["one-of-several"],
    }


async def test_the_identity_of_app_service() -> None:
    _, seen = await fetched(
        {"access_token": "t", "expires_on": 1_800_000_000},
        {"IDENTITY_ENDPOINT": "CLOUD/msi/token", "IDENTITY_HEADER": "proof"},
    )
    assert seen.headers["x-identity-header"] == "proof"
    assert parse_qs(urlsplit(seen.target).query)["api-version"] == ["2019-08-01"]
