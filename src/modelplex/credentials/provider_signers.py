"""The signers of a configured provider: one for each key, or one for its `auth`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from time import time

from modelplex.config import ProviderConfig, Secret
from modelplex.config.settings import (
    ApiKey,
    Auth,
    AwsAuth,
    CommandAuth,
    EntraAuth,
    GcpAuth,
    KeyInFile,
    OidcAuth,
)
from modelplex.credentials.aws import AwsCredentials, AwsSettings
from modelplex.credentials.entra import EntraSettings, entra_source
from modelplex.credentials.google import GoogleCredentials
from modelplex.credentials.key_command import KeyCommand, RunCommand
from modelplex.credentials.key_file import KeyFile
from modelplex.credentials.oauth import ClientCredentials, OAuthClient
from modelplex.credentials.signers import AwsSigner, ExpiringKey
from modelplex.credentials.source import Expiring, Refreshed
from modelplex.http_client import HttpClient
from modelplex.providers.request_head import credential
from modelplex.providers.signing import Signer, StaticKey, account
from modelplex.providers.specs import ProviderSpec


class Credentials:
    """What the sources of credentials need of the process. `failed` gets what a command wrote to
    stderr before it failed; `run` runs a command, by default as a child of this process.
    """

    def __init__(
        self,
        client: HttpClient,
        environ: Mapping[str, str],
        *,
        clock: Callable[[], float] = time,
        failed: Callable[[str], None] = lambda _: None,
        run: RunCommand | None = None,
    ) -> None:
        self.run = run
        self.client = client
        self.environ = environ
        self.clock = clock
        self.failed = failed

    def __repr__(self) -> str:
        return "<Credentials>"

    def signers(self, config: ProviderConfig, spec: ProviderSpec) -> list[tuple[Signer, str]]:
        """Each signer with its account: a short one-way hash, the same for the same key, or for the
        same place that a key is from.
        """
        if config.auth is not None:  # its `repr` hides the secrets, whose change is no other account
            return [(self._for_auth(config, config.auth, spec), account(repr(config.auth)))]
        return [self._for_key(config, key, spec) for key in config.api_key]

    def _for_key(self, config: ProviderConfig, key: ApiKey, spec: ProviderSpec) -> tuple[Signer, str]:
        extra = {name: value.reveal() for name, value in config.headers.items()}
        if isinstance(key, Secret):
            line = credential(spec, key=key.reveal(), extra=extra)
            return StaticKey(line), account(key.reveal())
        write = partial(_line, spec, extra)
        if isinstance(key, KeyInFile):
            source = KeyFile(key.path, clock=self.clock)
            return self._expiring(config.name, source.fetch, write), account(f"file:{key.path}")
        words = tuple(word.reveal() for word in key.words)
        command = KeyCommand(words, failed=self.failed, run=self.run, clock=self.clock)
        return self._expiring(config.name, command.fetch, write), account("\0".join(words))

    def _for_auth(self, config: ProviderConfig, auth: Auth, spec: ProviderSpec) -> Signer:
        if isinstance(auth, AwsAuth):
            settings = AwsSettings(
                region=config.region, profile=auth.profile, role=auth.role, external_id=auth.external_id
            )
            aws = AwsCredentials(
                settings,
                self.client,
                environ=self.environ,
                failed=self.failed,
                run=self.run,
                clock=self.clock,
            )
            return AwsSigner(
                config.name,
                Refreshed(aws.fetch, clock=self.clock),
                region=config.region,
                service=spec.signs_for or "bedrock",
                clock=self.clock,
            )
        extra = {name: value.reveal() for name, value in config.headers.items()}
        if isinstance(auth, CommandAuth):
            words = tuple(word.reveal() for word in auth.command)
            command = KeyCommand(words, ttl=auth.ttl, failed=self.failed, run=self.run, clock=self.clock)
            return self._expiring(config.name, command.fetch, partial(_line, spec, extra))
        return self._expiring(config.name, self._token_source(auth, spec), _bearer)

    def _token_source(
        self, auth: OidcAuth | EntraAuth | GcpAuth, spec: ProviderSpec
    ) -> Callable[[], Awaitable[Expiring[str]]]:
        secret = "" if isinstance(auth, GcpAuth) else _reveal(auth.client_secret)
        match auth:
            case GcpAuth():
                google = GoogleCredentials(
                    auth.credentials_file, self.client, environ=self.environ, clock=self.clock
                )
                return google.fetch
            case EntraAuth():
                settings = EntraSettings(
                    scope=auth.scope or spec.scope,
                    tenant=auth.tenant,
                    client_id=auth.client_id,
                    secret=secret,
                    token_file=auth.token_file,
                )
                return entra_source(settings, self.client, environ=self.environ, clock=self.clock).fetch
            case OidcAuth():
                oauth = OAuthClient(
                    token_url=auth.token_url,
                    client_id=auth.client_id,
                    secret=secret,
                    assertion_file=auth.assertion_file or "",
                    scope=auth.scope,
                    audience=auth.audience,
                )
                return ClientCredentials(oauth, self.client, clock=self.clock).fetch

    def _expiring(
        self, name: str, fetch: Callable[[], Awaitable[Expiring[str]]], line: Callable[[str], bytes]
    ) -> ExpiringKey:
        return ExpiringKey(name, Refreshed(fetch, clock=self.clock), line)


def _line(spec: ProviderSpec, extra: Mapping[str, str], key: str) -> bytes:
    return credential(spec, key=key, extra=extra)


def _bearer(token: str) -> bytes:
    return f"authorization: Bearer {token}\r\n".encode("latin-1")


def _reveal(secret: Secret | None) -> str:
    return "" if secret is None else secret.reveal()
