"""Access tokens of Google Cloud, by application default credentials.

A credentials file is of one of these types: service_account, authorized_user, external_account
(workload identity federation, with the subject token in a file or at an address) and
impersonated_service_account. Without a file, the metadata server of the machine is asked.

Sources (read 2026-12-01): https://google.aip.dev/auth (AIP-4110 to 4118),
https://cloud.google.com/docs/authentication/application-default-credentials,
https://cloud.google.com/compute/docs/metadata/querying-metadata.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from time import time
from typing import Any

import msgspec

from modelplex.credentials.key_file import MAX_SIZE, as_key, read_key
from modelplex.credentials.oauth import Token
from modelplex.credentials.signed_jwt import load_key, signed_jwt
from modelplex.credentials.source import CredentialError, Expiring
from modelplex.credentials.token_request import JSON, LOCAL_TIMEOUTS, ask, post_form, read
from modelplex.http_client import HttpClient

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
METADATA_HOST = "metadata.google.internal"
TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name
LIFE_S = 3600


class _Format(msgspec.Struct, frozen=True):
    type: str = "text"
    subject_token_field_name: str = ""


class _Source(msgspec.Struct, frozen=True):
    """`credential_source` of AIP-4117."""

    file: str = ""
    url: str = ""
    headers: dict[str, str] = {}
    format: _Format = _Format()


class _File(msgspec.Struct):
    """A credentials file; each type has some of these members."""

    type: str = ""
    client_email: str = ""
    private_key: str = ""
    private_key_id: str = ""
    token_uri: str = TOKEN_URL
    client_id: str = ""
    client_secret: str = ""
    refresh_token: str = ""
    audience: str = ""
    subject_token_type: str = ""
    token_url: str = ""
    credential_source: _Source = _Source()
    service_account_impersonation_url: str = ""
    source_credentials: dict[str, Any] = {}


class _Impersonated(msgspec.Struct, rename="camel"):
    access_token: str
    expire_time: str


class GoogleCredentials:
    """`file` is a credentials file; "" looks where Google's own libraries look."""

    def __init__(
        self,
        file: str,
        client: HttpClient,
        *,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time,
    ) -> None:
        self._client = client
        self._clock = clock
        self._environ = os.environ if environ is None else environ
        self._file = file

    def __repr__(self) -> str:
        return f"<GoogleCredentials {self._file or 'by default'}>"

    async def fetch(self) -> Expiring[str]:
        path = self._file or self._environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
        if path:
            return await self._from_file(path)
        usual = self._usual_file()
        if await asyncio.to_thread(usual.is_file):
            return await self._from_file(str(usual))
        return await self._of_machine()

    def _usual_file(self) -> Path:
        folder = self._environ.get("CLOUDSDK_CONFIG", "")
        home = self._environ.get("HOME", "")
        base = Path(folder) if folder else Path(home or "/") / ".config" / "gcloud"
        return base / "application_default_credentials.json"

    async def _from_file(self, path: str) -> Expiring[str]:
        place = f"the credentials file {path}"
        try:
            content = await asyncio.to_thread(_read, path)
            found = msgspec.json.decode(content, type=_File)
        except OSError as error:
            raise CredentialError(f"{place}: {os.strerror(error.errno or 0)}") from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise CredentialError(f"{place} is no JSON of Google's credentials") from None
        return await self._of(found, place)

    async def _of(self, found: _File, place: str) -> Expiring[str]:
        if found.type == "service_account":
            return await self._service_account(found, place)
        if found.type == "authorized_user":
            fields = {
                "grant_type": "refresh_token",
                "client_id": found.client_id,
                "client_secret": found.client_secret,
                "refresh_token": found.refresh_token,
            }
            return await self._exchange(found.token_uri, fields)
        if found.type == "external_account":
            token = await self._external_account(found, place)
            return await self._impersonated(found, token)
        if found.type == "impersonated_service_account":
            try:
                inner = msgspec.convert(found.source_credentials, _File)
            except msgspec.ValidationError:
                raise CredentialError(f"source_credentials in {place} are not Google's") from None
            if inner.type not in {"service_account", "authorized_user"}:
                raise CredentialError(f'{place}: "type" in source_credentials is {inner.type!r}')
            return await self._impersonated(found, await self._of(inner, place))
        raise CredentialError(
            f'{place}: "type" is {found.type!r}; it must be service_account, authorized_user, external_account '
            "or impersonated_service_account"
        )

    async def _service_account(self, found: _File, place: str) -> Expiring[str]:
        now = int(self._clock())
        claims: dict[str, str | int] = {
            "iss": found.client_email,
            "scope": SCOPE,
            "aud": found.token_uri,
            "iat": now,
            "exp": now + LIFE_S,
        }
        assertion = await asyncio.to_thread(_assertion, found, claims, place)
        return await self._exchange(found.token_uri, {"grant_type": JWT_BEARER, "assertion": assertion})

    async def _external_account(self, found: _File, place: str) -> Expiring[str]:
        fields = {
            "grant_type": EXCHANGE,
            "audience": found.audience,
            "scope": SCOPE,
            "requested_token_type": ACCESS_TOKEN,
            "subject_token_type": found.subject_token_type,
            "subject_token": await self._subject_token(found.credential_source, place),
        }
        return await self._exchange(found.token_url, fields)

    async def _subject_token(self, source: _Source, place: str) -> str:
        if source.file:
            content = (await asyncio.to_thread(read_key, source.file)).encode()
            where = f"the subject token in {source.file}"
        elif source.url:
            where = f"the subject token at {source.url}"
            headers = [(name.lower().encode(), value.encode()) for name, value in source.headers.items()]
            answered = await ask(
                self._client, source.url, place=where, headers=headers, timeouts=LOCAL_TIMEOUTS
            )
            if answered.status != 200:
                raise CredentialError(f"{where}: the answer was {answered.status}")
            content = answered.body
        else:
            raise CredentialError(f'{place}: "credential_source" has neither "file" nor "url"')
        if source.format.type != "json":
            return as_key(content, where)
        try:
            members = msgspec.json.decode(content, type=dict[str, Any])
            return as_key(str(members[source.format.subject_token_field_name]).encode(), where)
        except (msgspec.DecodeError, KeyError):
            name = source.format.subject_token_field_name
            raise CredentialError(f"{where} is no JSON with the member {name!r}") from None

    async def _impersonated(self, found: _File, token: Expiring[str]) -> Expiring[str]:
        """A token of the service account that the file names, got with `token`; `token` itself
        where it names none.
        """
        url = found.service_account_impersonation_url
        if not url:
            return token
        place = "the service account's generateAccessToken"
        answered = await ask(
            self._client,
            url,
            place=place,
            method=b"POST",
            headers=[
                (b"authorization", b"Bearer " + token.value.encode("latin-1")),
                (b"content-type", JSON),
            ],
            body=msgspec.json.encode({"scope": [SCOPE], "lifetime": f"{LIFE_S}s"}),
        )
        got = read(answered, kind=_Impersonated, place=place)
        try:
            expires = datetime.fromisoformat(got.expire_time).timestamp()
        except ValueError:
            raise CredentialError(f"{place} answered with an expireTime that is no date") from None
        return Expiring(got.access_token, expires)

    async def _exchange(self, url: str, fields: Mapping[str, str]) -> Expiring[str]:
        token = await post_form(self._client, url, fields, kind=Token, place=f"Google's token endpoint {url}")
        return token.expiring(self._clock())

    async def _of_machine(self) -> Expiring[str]:
        host = self._environ.get("GCE_METADATA_HOST", "") or METADATA_HOST
        url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"
        place = "Google's metadata server"
        try:
            answered = await ask(
                self._client,
                url,
                place=place,
                headers=[(b"metadata-flavor", b"Google")],
                timeouts=LOCAL_TIMEOUTS,
            )
        except CredentialError as error:
            raise CredentialError(
                f"no credentials of Google Cloud: GOOGLE_APPLICATION_CREDENTIALS is not set, there is no "
                f"{self._usual_file()}, and {error}"
            ) from None
        return read(answered, kind=Token, place=place).expiring(self._clock())


def _read(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(MAX_SIZE)


def _assertion(found: _File, claims: Mapping[str, str | int], place: str) -> str:
    """Signed with RS256, the only algorithm of Google's token endpoint."""
    key = load_key(found.private_key, f"private_key in {place}")
    if key.algorithm != "RS256":
        raise CredentialError(f"private_key in {place} is no RSA key")
    return signed_jwt(key, claims, key_id=found.private_key_id)
