"""Tokens of Google Cloud by each kind of application default credentials; google-auth is the oracle
of a service account's assertion.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from modelplex.credentials.google import GoogleCredentials
from modelplex.credentials.source import CredentialError, Expiring
from modelplex.http_client import HttpClient
from tests.credentials.clouds import Clock, Reply, cloud, form
from tests.credentials.oracles import google_crypt
from tests.upstreams import Seen

NOW = 1_800_000_000.0


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture(scope="session")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


async def fetched(
    folder: Path,
    credentials: dict[str, Any],
    reply: Callable[[Seen], Reply] = lambda _: (200, {"access_token": "t", "expires_in": 3599}),
) -> tuple[Expiring[str], list[Seen]]:
    """CLOUD in the credentials is the scripted cloud's address."""
    client = HttpClient()
    try:
        async with cloud(reply) as service:
            file = folder / "credentials.json"
            file.write_text(json.dumps(credentials).replace("CLOUD", service.url))
            environ = {"GOOGLE_APPLICATION_CREDENTIALS": str(file)}
            found = await GoogleCredentials("", client, environ=environ, clock=Clock(NOW)).fetch()
            return found, service.seen
    finally:
        await client.aclose()


async def test_a_service_account_signs_an_assertion(tmp_path: Path, rsa_key: rsa.RSAPrivateKey) -> None:
    account = {
        "type": "service_account",
        "client_email": "robot@p.iam.gserviceaccount.com",
        "private_key": pem(rsa_key),
        "private_key_id": "key-7",
        "token_uri": "CLOUD/token",
    }
    found, (seen,) = await fetched(tmp_path, account)
    assert found == Expiring("t", NOW + 3599)
    fields = form(seen)
    assert fields["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    public = rsa_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signed, _, signature = fields["assertion"].rpartition(".")
    header, claims = (json.loads(base64.urlsafe_b64decode(f"{part}==")) for part in signed.split("."))
    assert header == {"alg": "RS256", "typ": "JWT", "kid": "key-7"}
    assert claims["iat"] == NOW
    assert claims["exp"] == NOW + 3600
    assert claims["iss"] == "robot@p.iam.gserviceaccount.com"
    assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
    assert claims["aud"].endswith("/token")
    verifier = google_crypt.RSAVerifier.from_string(public)
    assert verifier.verify(signed.encode(), base64.urlsafe_b64decode(signature + "=="))


async def test_a_user_has_a_refresh_token(tmp_path: Path) -> None:
    user = {
        "type": "authorized_user",
        "client_id": "id",
        "client_secret": "secret",
        "refresh_token": "r",
        "token_uri": "CLOUD/token",
    }
    _, (seen,) = await fetched(tmp_path, user)
    assert form(seen) == {
        "grant_type": "refresh_token",
        "client_id": "id",
        "client_secret": "secret",
        "refresh_token": "r",
    }


def federated(reply_file: Path, **more: object) -> dict[str, Any]:
    return {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "CLOUD/sts",
        "credential_source": {"file": str(reply_file)},
        **more,
    }


async def test_a_federated_identity_exchanges_its_token(tmp_path: Path) -> None:
    (tmp_path / "subject").write_text("jwt-of-the-pod\n")
    found, (seen,) = await fetched(tmp_path, federated(tmp_path / "subject"))
    assert found == Expiring("t", NOW + 3599)
    fields = form(seen)
    assert fields["subject_token"] == "jwt-of-the-pod"
    assert fields["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
    assert fields["requested_token_type"] == "urn:ietf:params:oauth:token-type:access_token"


async def test_a_federated_identity_acts_as_a_service_account(tmp_path: Path) -> None:
    def reply(seen: Seen) -> Reply:
        if seen.target == "/sts":
            return 200, {"access_token": "federated", "expires_in": 3600}
        if seen.target == "/subject":
            return 200, {"id": {"no": 1}, "value": "jwt-at-an-address"}
        assert seen.target == "/generate"
        assert seen.headers["authorization"] == "Bearer federated"
        return 200, {"accessToken": "acting", "expireTime": "2027-01-15T09:00:00Z"}

    source = {
        "url": "CLOUD/subject",
        "headers": {"X-A": "b"},
        "format": {"type": "json", "subject_token_field_name": "value"},
    }
    account = federated(
        tmp_path, credential_source=source, service_account_impersonation_url="CLOUD/generate"
    )
    found, seen = await fetched(tmp_path, account, reply)
    assert found == Expiring("acting", NOW + 3600)
    assert [each.target for each in seen] == ["/subject", "/sts", "/generate"]
    assert seen[0].headers["x-a"] == "b"
    assert form(seen[1])["subject_token"] == "jwt-at-an-address"


async def test_a_user_acts_as_a_service_account(tmp_path: Path) -> None:
    def reply(seen: Seen) -> Reply:
        if seen.target == "/token":
            return 200, {"access_token": "of-the-user", "expires_in": 3600}
        assert seen.headers["authorization"] == "Bearer of-the-user"
        return 200, {"accessToken": "acting", "expireTime": "2027-01-15T09:00:00Z"}

    account = {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": "CLOUD/generate",
        "source_credentials": {"type": "authorized_user", "refresh_token": "r", "token_uri": "CLOUD/token"},
    }
    found, _ = await fetched(tmp_path, account, reply)
    assert found.value == "acting"


async def test_the_metadata_server_is_asked_where_there_is_no_file(tmp_path: Path) -> None:
    client = HttpClient()
    async with cloud(lambda _: (200, {"access_token": "t", "expires_in": 60})) as service:
        environ = {"HOME": str(tmp_path), "GCE_METADATA_HOST": service.url.removeprefix("http://")}
        found = await GoogleCredentials("", client, environ=environ, clock=Clock(NOW)).fetch()
        (seen,) = service.seen
    assert found == Expiring("t", NOW + 60)
    assert seen.target == "/computeMetadata/v1/instance/service-accounts/default/token"
    assert seen.headers["metadata-flavor"] == "Google"
    await client.aclose()


async def test_the_usual_file_of_the_command_line_is_found(tmp_path: Path) -> None:
    usual = tmp_path / ".config" / "gcloud" / "application_default_credentials.json"
    usual.parent.mkdir(parents=True)
    client = HttpClient()
    async with cloud(lambda _: (200, {"access_token": "t"})) as service:
        usual.write_text(json.dumps({"type": "authorized_user", "token_uri": f"{service.url}/token"}))
        assert (await GoogleCredentials("", client, environ={"HOME": str(tmp_path)}).fetch()).value == "t"
    await client.aclose()


@pytest.mark.parametrize(
    ("credentials", "reason"),
    [
        ({"type": "gdch"}, "\"type\" is 'gdch'; it must be service_account"),
        ({"type": "service_account", "private_key": "nonsense"}, "is no private key"),
        ({"type": "external_account"}, 'neither "file" nor "url"'),
        ({"type": "impersonated_service_account"}, "\"type\" in source_credentials is ''"),
    ],
)
async def test_a_file_that_cannot_be_used_is_told(
    tmp_path: Path, credentials: dict[str, Any], reason: str
) -> None:
    with pytest.raises(CredentialError) as caught:
        await fetched(tmp_path, credentials)
    assert reason in str(caught.value)
    assert "credentials.json" in str(caught.value)


async def test_another_kind_of_key_is_told(tmp_path: Path) -> None:
    account = {"type": "service_account", "private_key": pem(ec.generate_private_key(ec.SECP256R1()))}
    with pytest.raises(CredentialError, match="no RSA key"):
        await fetched(tmp_path, account)
