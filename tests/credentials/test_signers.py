"""Signers with a credential that expires: what they write, and whether there is another."""

from __future__ import annotations

import pytest

from modelplex.core.errors import UpstreamAuth
from modelplex.credentials.signers import AwsSigner, ExpiringKey
from modelplex.credentials.source import CredentialError, Expiring, Refreshed
from modelplex.providers.signing import UpstreamRequest
from modelplex.providers.sigv4 import AwsKeys
from tests.credentials.clouds import Clock

REQUEST = UpstreamRequest(b"POST", "h", b"/v1/x", b"content-type: application/json\r\n", b"{}")


def keys(*values: str) -> Refreshed[str]:
    left = iter(values)

    async def fetch() -> Expiring[str]:
        value = next(left, None)
        if value is None:
            raise CredentialError("there is no more")
        return Expiring(value)

    return Refreshed(fetch)


def line(key: str) -> bytes:
    if "\n" in key:
        raise ValueError("The value contains a line break.")
    return f"x-api-key: {key}\r\n".encode()


async def test_a_key_is_written_as_the_provider_takes_it() -> None:
    signer = ExpiringKey("up", keys("k1"), line)
    assert await signer.sign(REQUEST) == b"x-api-key: k1\r\n"
    assert signer.secrets == ("k1",)
    assert "k1" not in repr(signer)


async def test_a_refused_key_is_renewed_once() -> None:
    signer = ExpiringKey("up", keys("k1", "k2"), line)
    refused = await signer.sign(REQUEST)
    assert await signer.renew(refused)
    assert await signer.sign(REQUEST) == b"x-api-key: k2\r\n"
    assert await signer.renew(refused), "refused late: another request has renewed it"
    assert await signer.sign(REQUEST) == b"x-api-key: k2\r\n"


async def test_a_key_without_another_is_not_renewed() -> None:
    signer = ExpiringKey("up", keys("k1"), line)
    assert not await signer.renew(await signer.sign(REQUEST))


@pytest.mark.parametrize(("values", "reason"), [((), "there is no more"), (("a\nb",), "line break")])
async def test_no_credential_is_an_error_of_the_provider(values: tuple[str, ...], reason: str) -> None:
    with pytest.raises(UpstreamAuth, match=rf"up was not asked.*{reason}"):
        await ExpiringKey("up", keys(*values), line).sign(REQUEST)


async def test_aws_keys_sign_and_are_renewed() -> None:
    found = iter([AwsKeys("A1", "secret-one", "token-one"), AwsKeys("A2", "secret-two")])

    async def fetch() -> Expiring[AwsKeys]:
        return Expiring(next(found))

    signer = AwsSigner("up", Refreshed(fetch), region="r", service="s", clock=Clock())
    first = await signer.sign(REQUEST)
    assert b"Credential=A1/20270115/r/s/aws4_request" in first
    assert b"x-amz-date: 20270115T080000Z\r\n" in first
    assert signer.secrets == ("secret-one", "token-one")
    assert await signer.renew(first)
    assert b"Credential=A2/" in await signer.sign(REQUEST)
    assert "secret" not in repr(signer)
