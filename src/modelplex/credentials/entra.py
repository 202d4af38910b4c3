"""Access tokens of Microsoft Entra ID: by a client's secret, by workload identity, or by the
managed identity of an Azure machine.

Sources (read 2026-12-01):
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow,
https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token,
https://learn.microsoft.com/azure/app-service/overview-managed-identity (IDENTITY_ENDPOINT),
https://azure.github.io/azure-workload-identity/docs/ (AZURE_FEDERATED_TOKEN_FILE).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import time
from urllib.parse import quote, urlencode

import msgspec

from modelplex.credentials.oauth import ClientCredentials, OAuthClient, Token
from modelplex.credentials.source import CredentialError, Expiring
from modelplex.credentials.token_request import LOCAL_TIMEOUTS, ask, read
from modelplex.http_client import HttpClient

AUTHORITY = "https://login.microsoftonline.com"
METADATA = "http://169.254.169.254"
"""The instance metadata service of a virtual machine."""


class EntraSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Of `auth = { type = "entra", ... }`. What is empty comes from the environment variables that
    Azure's own libraries read.

    scope   of the token, such as "https://cognitiveservices.azure.com/.default"
    """

    scope: str
    tenant: str = ""
    client_id: str = ""
    secret: str = ""
    token_file: str = ""

    def __repr__(self) -> str:
        return f"<EntraSettings {self.client_id} of {self.tenant}>"


def entra_source(
    settings: EntraSettings,
    client: HttpClient,
    *,
    environ: Mapping[str, str],
    clock: Callable[[], float] = time,
) -> ClientCredentials | ManagedIdentity:
    """A secret, then a federated token, then the managed identity, as DefaultAzureCredential asks
    for them.
    """
    tenant = settings.tenant or environ.get("AZURE_TENANT_ID", "")
    client_id = settings.client_id or environ.get("AZURE_CLIENT_ID", "")
    secret = settings.secret or ("" if settings.token_file else environ.get("AZURE_CLIENT_SECRET", ""))
    token_file = settings.token_file or environ.get("AZURE_FEDERATED_TOKEN_FILE", "")
    if tenant and client_id and (secret or token_file):
        authority = (environ.get("AZURE_AUTHORITY_HOST") or AUTHORITY).rstrip("/")
        oauth = OAuthClient(
            token_url=f"{authority}/{quote(tenant, safe='')}/oauth2/v2.0/token",
            client_id=client_id,
            secret=secret,
            assertion_file="" if secret else token_file,
            scope=settings.scope,
        )
        return ClientCredentials(oauth, client, clock=clock)
    return ManagedIdentity(settings.scope, client_id, client, environ=environ, clock=clock)


class ManagedIdentity:
    """The identity of the machine, or of the App Service or Arc agent that sets IDENTITY_ENDPOINT.
    `client_id` chooses one of several; "" is the machine's own.
    """

    def __init__(
        self,
        scope: str,
        client_id: str,
        client: HttpClient,
        *,
        environ: Mapping[str, str],
        clock: Callable[[], float] = time,
    ) -> None:
        self._resource = scope.removesuffix("/.default")
        self._client_id = client_id
        self._client = client
        self._clock = clock
        self._endpoint = environ.get("IDENTITY_ENDPOINT", "")
        self._header = environ.get("IDENTITY_HEADER", "")
        self._metadata = environ.get("AZURE_POD_IDENTITY_AUTHORITY_HOST") or METADATA

    def __repr__(self) -> str:
        return "<ManagedIdentity>"

    async def fetch(self) -> Expiring[str]:
        query = {"resource": self._resource}
        if self._client_id:
            query["client_id"] = self._client_id
        if self._endpoint and self._header:
            url = f"{self._endpoint}?{urlencode({'api-version': '2019-08-01', **query})}"
            headers = [(b"x-identity-header", self._header.encode("latin-1"))]
        else:
            base = self._metadata.rstrip("/")
            query = {"api-version": "2018-02-01", **query}
            url = f"{base}/metadata/identity/oauth2/token?{urlencode(query)}"
            headers = [(b"metadata", b"true")]
        place = "the managed identity of this machine"
        answered = await ask(self._client, url, place=place, headers=headers, timeouts=LOCAL_TIMEOUTS)
        token = read(answered, kind=_IdentityToken, place=place)
        if not token.access_token:
            raise CredentialError(f"{place} answered without a token")
        return token.expiring(self._clock())


class _IdentityToken(Token):
    """With its end in Unix seconds, as a string."""

    expires_on: int | str | None = None

    def expiring(self, now: float) -> Expiring[str]:
        try:
            expires = float(self.expires_on) if self.expires_on is not None else None
        except ValueError:
            expires = None
        return super().expiring(now) if expires is None else Expiring(self.access_token, expires)
