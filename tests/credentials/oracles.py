"""The clouds' own libraries, which check what is signed here. They have no types."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tests.upstreams import Seen

aws_auth: Any = import_module("botocore.auth")
aws_request: Any = import_module("botocore.awsrequest")
aws_credentials: Any = import_module("botocore.credentials")
google_crypt: Any = import_module("google.auth.crypt")


def aws_signature(seen: Seen, access_key: str, secret_key: str, token: str | None, *, service: str) -> str:
    """The `authorization` of a request as it arrived, by botocore."""
    signed = seen.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    request = aws_request.AWSRequest(
        method=seen.head.split(b" ", 1)[0].decode(),
        url=f"http://{seen.headers['host']}{seen.target}",
        data=seen.body,
        headers={name: seen.headers[name] for name in signed},
    )
    request.context["timestamp"] = seen.headers["x-amz-date"]
    credentials = aws_credentials.Credentials(access_key, secret_key, token)
    signer = aws_auth.SigV4Auth(credentials, service, "us-east-1")
    proof = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    return (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={';'.join(signed)}, "
        f"Signature={proof}"
    )
