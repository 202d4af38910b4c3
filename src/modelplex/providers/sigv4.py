"""AWS Signature Version 4 for one request, with headers as it is sent.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
(read 2026-12-01). The path is encoded once more than on the wire, as for every service but S3.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from posixpath import normpath
from typing import Final
from urllib.parse import quote

import msgspec

from modelplex.providers.signing import UpstreamRequest

ALGORITHM: Final = "AWS4-HMAC-SHA256"


class AwsKeys(msgspec.Struct, frozen=True):
    """Access keys; `token` is the session's, "" for those of a user."""

    access_key: str
    secret_key: str
    token: str = ""

    def __repr__(self) -> str:
        return "<AwsKeys>"


def sign(request: UpstreamRequest, keys: AwsKeys, *, region: str, service: str, now: str) -> bytes:
    r"""The header lines that authenticate `request`, each ending in `\r\n`. `now` is the time in
    UTC as `20261201T203000Z`.

    Signed are host, content type, time and session token. Headers that a proxy may change are not.
    """
    path, _, query = request.target.decode("ascii").partition("?")
    headers = {"host": request.host, "x-amz-date": now}
    if keys.token:
        headers["x-amz-security-token"] = keys.token
    if content_type := _content_type(request.headers):
        headers["content-type"] = content_type
    names = ";".join(sorted(headers))
    canonical = "\n".join(
        (
            request.method.decode("ascii"),
            quote(_normalized(path), safe="/~-._"),
            _sorted_query(query),
            "".join(f"{name}:{headers[name]}\n" for name in sorted(headers)),
            names,
            hashlib.sha256(request.body).hexdigest(),
        )
    )
    scope = f"{now[:8]}/{region}/{service}/aws4_request"
    to_sign = "\n".join((ALGORITHM, now, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = _signing_key(keys.secret_key, now[:8], region, service)
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    proof = f"Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    lines = [f"authorization: {ALGORITHM} {proof}", f"x-amz-date: {now}"]
    if keys.token:
        lines.append(f"x-amz-security-token: {keys.token}")
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


@lru_cache(maxsize=64)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """Of one day, so that it is derived once a day."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _normalized(path: str) -> str:
    if not path:
        return "/"
    # RFC 3986 6.2.2.3; POSIX keeps two slashes at the start.
    normal = normpath(path).replace("//", "/", 1)
    return f"{normal}/" if path.endswith("/") and normal != "/" else normal


def _sorted_query(query: str) -> str:
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&") if pair)
    return "&".join(f"{name}={value}" for name, value in pairs)


def _content_type(headers: bytes) -> str:
    for line in headers.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-type":
            return " ".join(value.decode("latin-1").split())
    return ""
