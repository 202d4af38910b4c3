"""Keys as containers, machines and processes write them."""

from __future__ import annotations

import json

import pytest

from modelplex.credentials.aws_machine import is_container, read_keys
from modelplex.credentials.source import CredentialError, Expiring
from modelplex.credentials.token_request import Answered
from modelplex.providers.sigv4 import AwsKeys


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({"AccessKeyId": "A", "SecretAccessKey": "S"}, Expiring(AwsKeys("A", "S"))),
        ({"AccessKeyId": "A", "SecretAccessKey": "S", "SessionToken": "T"}, Expiring(AwsKeys("A", "S", "T"))),
        (
            {"AccessKeyId": "A", "SecretAccessKey": "S", "Token": "T", "Expiration": "2027-01-15T08:00:00Z"},
            Expiring(AwsKeys("A", "S", "T"), 1_800_000_000.0),
        ),
    ],
)
def test_keys_are_read(keys: dict[str, str], found: Expiring[AwsKeys]) -> None:
    assert read_keys(Answered(200, json.dumps(keys).encode()), "here") == found


@pytest.mark.parametrize(
    ("status", "keys", "reason"),
    [
        (200, {}, "here: no keys in it"),
        (200, {"Code": "AssumeRoleUnauthorizedAccess"}, "here: AssumeRoleUnauthorizedAccess"),
        (200, {"AccessKeyId": "A", "SecretAccessKey": "S", "Expiration": "soon"}, "Expiration is no date"),
        (500, {"message": "later"}, "here answered 500: later"),
    ],
)
def test_what_is_no_key_is_told(status: int, keys: dict[str, str], reason: str) -> None:
    with pytest.raises(CredentialError, match=reason):
        read_keys(Answered(status, json.dumps(keys).encode()), "here")


def test_a_container_is_known_by_its_variables() -> None:
    assert is_container({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x"})
    assert is_container({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://x"})
    assert not is_container({})
