"""Access keys of AWS, from where the AWS command line and SDKs look for them, in their order:
environment, web identity, profile (keys, role, SSO, process), container, machine.

Sources (read 2026-12-01): https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
and its pages for each provider; https://docs.aws.amazon.com/STS/latest/APIReference/welcome.html;
https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_GetRoleCredentials.html.
"""

from __future__ import annotations

import asyncio
import configparser
import hashlib
import os
import shlex
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from time import time
from urllib.parse import urlencode

import msgspec

from modelplex.credentials.aws_machine import container_keys, is_container, machine_keys, read_keys
from modelplex.credentials.aws_sts import RoleKeys, dns_suffix
from modelplex.credentials.key_command import RunCommand, run_command
from modelplex.credentials.key_file import read_key
from modelplex.credentials.source import CredentialError, Expiring
from modelplex.credentials.token_request import Answered, ask, read
from modelplex.http_client import HttpClient
from modelplex.providers.sigv4 import AwsKeys

MAX_ROLES = 8
"""Profiles in a chain of `source_profile`."""
Section = Mapping[str, str]
Keys = Expiring[AwsKeys]


class _SsoKeys(msgspec.Struct, rename="camel"):
    access_key_id: str
    secret_access_key: str
    session_token: str
    expiration: int


class _SsoAnswer(msgspec.Struct, rename="camel"):
    role_credentials: _SsoKeys


class _SsoToken(msgspec.Struct, rename="camel"):
    access_token: str
    expires_at: str


class AwsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Of `auth = { type = "aws", ... }`. `role` is assumed with the keys that were found."""

    region: str
    profile: str = ""
    role: str = ""
    external_id: str = ""


class AwsCredentials:
    """Access keys by the default chain."""

    def __init__(
        self,
        settings: AwsSettings,
        client: HttpClient,
        *,
        environ: Mapping[str, str] | None = None,
        failed: Callable[[str], None] = lambda _: None,
        run: RunCommand | None = None,
        clock: Callable[[], float] = time,
    ) -> None:
        self._settings = settings
        self._client = client
        self._environ = os.environ if environ is None else environ
        self._failed = failed
        self._run = run_command if run is None else run
        self._clock = clock
        self._roles = RoleKeys(client, region=settings.region, environ=self._environ, clock=clock)

    def __repr__(self) -> str:
        return f"<AwsCredentials {self._settings.profile or 'by default'}>"

    async def fetch(self) -> Keys:
        keys = await self._found()
        role = self._settings.role
        if not role:
            return keys
        return await self._roles.assumed(role, keys.value, external_id=self._settings.external_id)

    async def _found(self) -> Keys:
        environ = self._environ
        if self._settings.profile:
            return await self._of_profile(self._settings.profile)
        if environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"):
            return Expiring(
                AwsKeys(
                    environ["AWS_ACCESS_KEY_ID"],
                    environ["AWS_SECRET_ACCESS_KEY"],
                    environ.get("AWS_SESSION_TOKEN", ""),
                )
            )
        if environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") and environ.get("AWS_ROLE_ARN"):
            name = environ.get("AWS_ROLE_SESSION_NAME", "")
            token = await asyncio.to_thread(read_key, environ["AWS_WEB_IDENTITY_TOKEN_FILE"])
            return await self._roles.of_web_identity(environ["AWS_ROLE_ARN"], token, session=name)
        profile = environ.get("AWS_PROFILE", "") or "default"
        profiles = await asyncio.to_thread(self._profiles)
        if profile in profiles or environ.get("AWS_PROFILE"):
            return await self._of_profile(profile)
        if is_container(environ):
            return await container_keys(self._client, self._environ)
        if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true":
            try:
                return await machine_keys(self._client, self._environ)
            except CredentialError as error:
                reason = str(error)
        else:
            reason = "AWS_EC2_METADATA_DISABLED is true"
        raise CredentialError(
            f"no credentials of AWS: neither in the environment, nor in {self._config_file()}, nor from a "
            f"container, and {reason}"
        )

    # --- profiles ---------------------------------------------------------------------------------

    def _config_file(self) -> Path:
        return _file(self._environ, "AWS_CONFIG_FILE", "config")

    def _profiles(self) -> dict[str, Section]:
        return read_profiles(self._environ)

    async def _of_profile(self, name: str, depth: int = 0) -> Keys:
        profiles = await asyncio.to_thread(self._profiles)
        profile = profiles.get(name)
        if profile is None:
            raise CredentialError(f"there is no AWS profile {name!r} in {self._config_file()}")
        role = profile.get("role_arn", "")
        if role and (token_file := profile.get("web_identity_token_file", "")):
            token = await asyncio.to_thread(read_key, token_file)
            session = profile.get("role_session_name", "")
            return await self._roles.of_web_identity(role, token, session=session)
        if role:
            if depth >= MAX_ROLES:
                raise CredentialError(f"the AWS profile {name!r} has too long a chain of source_profile")
            if source := profile.get("source_profile", ""):
                # A profile may be its own source: then its keys are meant.
                own = source == name
                keys = _static(profile) if own else await self._of_profile(source, depth + 1)
            else:
                keys = await self._of_source(profile.get("credential_source", ""), name)
            if keys is None:
                raise CredentialError(f"the AWS profile {name!r} names itself as source, and has no keys")
            return await self._roles.assumed(role, keys.value, external_id=profile.get("external_id", ""))
        if keys := _static(profile):
            return keys
        if profile.get("sso_account_id"):
            return await self._of_sso(name, profile, profiles)
        if process := profile.get("credential_process", ""):
            output = await self._run(shlex.split(process), failed=self._failed)
            return read_keys(Answered(200, output), f"the credential_process of {name!r}")
        raise CredentialError(
            f"the AWS profile {name!r} has no keys, role_arn, SSO account or credential_process"
        )

    async def _of_source(self, source: str, name: str) -> Keys:
        if source == "Environment":
            access, secret = (
                self._environ.get("AWS_ACCESS_KEY_ID"),
                self._environ.get("AWS_SECRET_ACCESS_KEY"),
            )
            if access and secret:
                return Expiring(AwsKeys(access, secret, self._environ.get("AWS_SESSION_TOKEN", "")))
            raise CredentialError(
                f"the AWS profile {name!r} takes its keys from the environment, which has none"
            )
        if source == "Ec2InstanceMetadata":
            return await machine_keys(self._client, self._environ)
        if source == "EcsContainer":
            return await container_keys(self._client, self._environ)
        raise CredentialError(f"the AWS profile {name!r} has a role_arn without a source_profile")

    async def _of_sso(self, name: str, profile: Section, profiles: Mapping[str, Section]) -> Keys:
        session = profile.get("sso_session", "")
        settings = {**profiles.get(f"sso-session {session}", {}), **profile} if session else profile
        start, region = settings.get("sso_start_url", ""), settings.get("sso_region", "")
        cached = hashlib.sha1((session or start).encode(), usedforsecurity=False).hexdigest()
        path = aws_home(self._environ) / "sso" / "cache" / f"{cached}.json"
        login = f"run: aws sso login --profile {name}"
        try:
            token = msgspec.json.decode(await asyncio.to_thread(path.read_bytes), type=_SsoToken)
            expires = datetime.fromisoformat(token.expires_at.replace("UTC", "Z")).timestamp()
        except (OSError, ValueError, msgspec.DecodeError):
            raise CredentialError(f"the AWS profile {name!r} is not signed in; {login}") from None
        if expires <= self._clock():
            raise CredentialError(f"the sign-in of the AWS profile {name!r} has expired; {login}")
        query = urlencode(
            {"role_name": profile.get("sso_role_name", ""), "account_id": profile["sso_account_id"]}
        )
        base = (
            self._environ.get("AWS_ENDPOINT_URL_SSO") or f"https://portal.sso.{region}.{dns_suffix(region)}"
        )
        place = "AWS IAM Identity Center"
        answered = await ask(
            self._client,
            f"{base.rstrip('/')}/federation/credentials?{query}",
            place=place,
            headers=[(b"x-amz-sso_bearer_token", token.access_token.encode("latin-1"))],
        )
        if answered.status == 401:
            raise CredentialError(f"the sign-in of the AWS profile {name!r} is refused; {login}")
        got = read(answered, kind=_SsoAnswer, place=place).role_credentials
        return Expiring(
            AwsKeys(got.access_key_id, got.secret_access_key, got.session_token), got.expiration / 1000
        )


def _static(profile: Section) -> Keys | None:
    access, secret = profile.get("aws_access_key_id", ""), profile.get("aws_secret_access_key", "")
    if not (access and secret):
        return None
    return Expiring(AwsKeys(access, secret, profile.get("aws_session_token", "")))


def aws_files(environ: Mapping[str, str]) -> tuple[Path, Path]:
    """The config file and the credentials file."""
    return (
        _file(environ, "AWS_CONFIG_FILE", "config"),
        _file(environ, "AWS_SHARED_CREDENTIALS_FILE", "credentials"),
    )


def _file(environ: Mapping[str, str], variable: str, name: str) -> Path:
    named = environ.get(variable, "")
    return Path(named).expanduser() if named else aws_home(environ) / name


def aws_home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or "/") / ".aws"


def read_profiles(environ: Mapping[str, str]) -> dict[str, Section]:
    """The profiles by name, and the SSO sessions as `sso-session NAME`. Keys of the credentials
    file come before those of the config file. Blocks. Raises CredentialError.
    """
    found: dict[str, Section] = {}
    for path, prefix in zip(aws_files(environ), ("profile ", ""), strict=True):
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(path.read_text())
        except OSError:
            continue
        except (configparser.Error, UnicodeDecodeError):
            raise CredentialError(f"{path} is no file of AWS profiles") from None
        for section in parser.sections():
            name = section.removeprefix(prefix).strip() if prefix else section
            found[name] = {**found.get(name, {}), **dict(parser.items(section))}
    return found


def process_commands(environ: Mapping[str, str]) -> list[tuple[str, ...]]:
    """The commands that the profiles name as `credential_process`. Blocks. Empty where the files
    cannot be read.
    """
    try:
        profiles = read_profiles(environ)
    except CredentialError:
        return []
    found = (profile.get("credential_process", "") for profile in profiles.values())
    return [tuple(shlex.split(command)) for command in found if command]
