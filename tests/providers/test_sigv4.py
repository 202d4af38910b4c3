"""Signatures, compared with those of AWS's own library."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from modelplex.providers.signing import UpstreamRequest
from modelplex.providers.sigv4 import AwsKeys, sign
from tests.credentials.oracles import aws_auth, aws_credentials, aws_request

NOW = datetime(2026, 12, 1, 20, 30, 0, tzinfo=UTC)
KEYS = AwsKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SESSION = AwsKeys("ASIAEXAMPLE", "secret/+", "FwoGZXIvYXdzE//////////token==")


def _now(**_: object) -> datetime:
    return NOW


@pytest.mark.parametrize("keys", [KEYS, SESSION], ids=["user", "session"])
@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/openai/v1/chat/completions",
        "/model/anthropic.claude%3A0/invoke",
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aprofile%2Fx/converse-stream",
        "/v1/messages?beta=true",
        "/a/../b//c/",
        "/list?b=2&a=1&a=0&flag&c=%20x~",
    ],
)
def test_a_signature_is_that_of_the_library(
    target: str, keys: AwsKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = '{"messages":[{"role":"user","content":"Grüße"}]}'.encode()
    request = UpstreamRequest(
        b"POST",
        "bedrock.us-east-1.example",
        target.encode(),
        b"content-type:  application/json\r\nx-a: b\r\n",
        body,
    )
    ours = sign(request, keys, region="us-east-1", service="bedrock", now="20261201T203000Z")
    monkeypatch.setattr(aws_auth, "get_current_datetime", _now)
    theirs: Any = aws_request.AWSRequest(
        method="POST",
        url=f"https://bedrock.us-east-1.example{target}",
        data=body,
        headers={"content-type": "application/json"},
    )
    credentials = aws_credentials.Credentials(keys.access_key, keys.secret_key, keys.token or None)
    aws_auth.SigV4Auth(credentials, "bedrock", "us-east-1").add_auth(theirs)
    lines = dict(line.split(": ", 1) for line in ours.decode().splitlines())
    assert lines["authorization"] == theirs.headers["Authorization"]
    assert lines["x-amz-date"] == theirs.headers["X-Amz-Date"]
    assert lines.get("x-amz-security-token") == theirs.headers.get("X-Amz-Security-Token")


def test_keys_are_in_no_repr() -> None:
    assert repr(SESSION) == "<AwsKeys>"
