"""Keys of a role: requests as STS takes them, signed as botocore signs them."""

from __future__ import annotations

import pytest

from modelplex.credentials.aws_sts import RoleKeys, dns_suffix
from modelplex.credentials.source import CredentialError, Expiring
from modelplex.http_client import HttpClient
from modelplex.providers.sigv4 import AwsKeys
from tests.credentials.clouds import Clock, cloud, form
from tests.credentials.oracles import aws_signature
from tests.upstreams import Seen

NOW = 1_800_000_000.0
STS_REPLY = b"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>STSA</AccessKeyId><SecretAccessKey>STSS</SecretAccessKey><SessionToken>STST</SessionToken>
<Expiration>2027-01-15T09:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"""
STS_ERROR = b"""<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>AccessDenied</Code><Message>Not authorized to assume it</Message></Error></ErrorResponse>"""


async def assumed(status: int, reply: bytes) -> tuple[Expiring[AwsKeys], Seen]:
    client = HttpClient()
    try:
        async with cloud(lambda _: (status, reply)) as service:
            roles = RoleKeys(
                client, region="us-east-1", environ={"AWS_ENDPOINT_URL_STS": service.url}, clock=Clock(NOW)
            )
            found = await roles.assumed("arn:r", AwsKeys("A", "S", "T"), external_id="")
            return found, service.seen[0]
    finally:
        await client.aclose()


async def test_a_role_is_assumed_with_a_signed_request() -> None:
    found, seen = await assumed(200, STS_REPLY)
    assert found == Expiring(AwsKeys("STSA", "STSS", "STST"), NOW + 3600)
    assert form(seen) == {
        "Action": "AssumeRole",
        "RoleArn": "arn:r",
        "RoleSessionName": "modelplex",
        "Version": "2011-06-15",
    }
    assert seen.headers["authorization"] == aws_signature(seen, "A", "S", "T", service="sts")


@pytest.mark.parametrize(
    ("status", "reply", "reason"),
    [
        (403, STS_ERROR, "answered 403: AccessDenied, Not authorized"),
        (200, b"not XML", "without XML"),
        (200, b"<a/>", "without keys"),
        (502, b"", "answered 502 without XML"),
    ],
)
async def test_a_refusal_is_told(status: int, reply: bytes, reason: str) -> None:
    with pytest.raises(CredentialError, match=reason):
        await assumed(status, reply)


def test_china_has_names_of_its_own() -> None:
    assert (dns_suffix("cn-north-1"), dns_suffix("us-east-1")) == ("amazonaws.com.cn", "amazonaws.com")
