"""Access keys of the container or the machine that the gateway runs on.

Sources (read 2026-12-01): https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html,
https://docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html (version 2 only).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import quote

import msgspec

from modelplex.credentials.key_file import read_key
from modelplex.credentials.source import CredentialError, Expiring
from modelplex.credentials.token_request import LOCAL_TIMEOUTS, Answered, ask, read
from modelplex.http_client import HttpClient
from modelplex.providers.sigv4 import AwsKeys

CONTAINER_HOST = "http://169.254.170.2"
MACHINE_HOST = "http://169.254.169.254"
TOKEN_SECONDS = b"21600"


class _Keys(msgspec.Struct, rename="pascal"):
    access_key_id: str = ""
    secret_access_key: str = ""
    token: str = ""
    session_token: str = ""
    expiration: str | None = None
    code: str = "Success"


def read_keys(answered: Answered, place: str) -> Expiring[AwsKeys]:
    """The keys, as containers, machines and credential processes write them."""
    found = read(answered, kind=_Keys, place=place)
    if found.code != "Success" or not (found.access_key_id and found.secret_access_key):
        raise CredentialError(f"{place}: {found.code if found.code != 'Success' else 'no keys in it'}")
    try:
        expires = datetime.fromisoformat(found.expiration).timestamp() if found.expiration else None
    except ValueError:
        raise CredentialError(f"{place}: Expiration is no date") from None
    token = found.token or found.session_token
    return Expiring(AwsKeys(found.access_key_id, found.secret_access_key, token), expires)


def is_container(environ: Mapping[str, str]) -> bool:
    return bool(
        environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        or environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    )


async def container_keys(client: HttpClient, environ: Mapping[str, str]) -> Expiring[AwsKeys]:
    relative = environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "")
    url = CONTAINER_HOST + relative if relative else environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
    token = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
    if token_file := environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", ""):
        token = await asyncio.to_thread(read_key, token_file)
    headers = [(b"authorization", token.encode("latin-1"))] if token else []
    place = "the container's credentials of AWS"
    answered = await ask(client, url, place=place, headers=headers, timeouts=LOCAL_TIMEOUTS)
    return read_keys(answered, place)


async def machine_keys(client: HttpClient, environ: Mapping[str, str]) -> Expiring[AwsKeys]:
    """The keys of the machine's role."""
    base = (environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or MACHINE_HOST).rstrip("/")
    place = "the machine's metadata service of AWS"
    token = await ask(
        client,
        f"{base}/latest/api/token",
        place=place,
        method=b"PUT",
        headers=[(b"x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS)],
        timeouts=LOCAL_TIMEOUTS,
    )
    if token.status != 200:
        raise CredentialError(f"{place} answered {token.status}")
    headers = [(b"x-aws-ec2-metadata-token", token.body.strip())]
    roles = f"{base}/latest/meta-data/iam/security-credentials/"
    listed = await ask(client, roles, place=place, headers=headers, timeouts=LOCAL_TIMEOUTS)
    names = listed.body.decode("latin-1").split()
    if listed.status != 200 or not names:
        raise CredentialError(f"{place} knows no role of this machine ({listed.status})")
    url = roles + quote(names[0], safe="")
    answered = await ask(client, url, place=place, headers=headers, timeouts=LOCAL_TIMEOUTS)
    return read_keys(answered, place)
