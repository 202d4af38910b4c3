"""A signer sees the final body, path and headers."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import cast

import pytest

from modelplex.pipeline.upstream import HttpUpstream
from modelplex.providers.signing import StaticKey, UpstreamRequest
from tests.gateways import Answer, Running, gateway, one
from tests.upstreams import Seen, answer, chat_answer, provider


class HashSigner:
    """Signs with a hash over all that it sees, as SigV4 does."""

    async def sign(self, request: UpstreamRequest, /) -> bytes:
        return b"authorization: Hash %s\r\n" % digest(
            request.method, request.host, request.target, request.headers, request.body
        )

    async def renew(self, signature: bytes, /) -> bool:
        del signature
        return False

    @property
    def secrets(self) -> tuple[str, ...]:
        return ()


def digest(method: bytes, host: str, target: bytes, headers: bytes, body: bytes) -> bytes:
    lines = b"\n".join(sorted(line.lower() for line in headers.split(b"\r\n") if line))
    parts = b"\n".join((method, host.encode(), target, lines, sha256(body).hexdigest().encode()))
    return sha256(parts).hexdigest().encode()


def expected(seen: Seen) -> str:
    """The signature over the request as it arrived."""
    line, *rows = seen.head.strip().split(b"\r\n")
    method, target, _ = line.split(b" ")
    framing = (b"host:", b"content-length:", b"authorization:")
    headers = b"\r\n".join(row for row in rows if not row.lower().startswith(framing))
    signature = digest(method, seen.headers["host"], target, headers, seen.body)
    return f"Hash {signature.decode()}"


def sign_with_hash(gw: Running) -> None:
    upstream = cast("HttpUpstream", gw.process.app.gateway.upstreams["up"])
    upstream.signers = [HashSigner()]


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("way", ["passthrough", "translated", "renamed"])
async def test_the_signature_is_over_what_arrives(way: str, *, sealed: bool, tmp_path: Path) -> None:
    config = '\n[aliases]\nother = "up/m"\n'
    async with provider(answer(chat_answer())) as up:
        async with gateway(one(up.url, api_key="sk-unused-key") + config, folder=tmp_path) as gw:
            sign_with_hash(gw)
            assert (await ask(gw, way, unix=sealed)).status == 200
    (seen,) = up.seen
    assert seen.json["model"] == "m"
    assert seen.headers["authorization"] == expected(seen)
    assert b"sk-unused-key" not in seen.head


async def ask(gw: Running, way: str, *, unix: bool) -> Answer:
    if way == "translated":
        body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        return await gw.ask("POST", "/v1/messages", body, unix=unix)
    return await gw.chat("other" if way == "renamed" else "m", unix=unix)


async def test_the_request_for_the_models_is_signed_too(tmp_path: Path) -> None:
    listing = b'{"object":"list","data":[{"id":"m","object":"model"}]}'
    async with provider(answer(listing)) as up, gateway(one(up.url), folder=tmp_path) as gw:
        sign_with_hash(gw)
        upstream = gw.process.app.gateway.upstreams["up"]
        assert [model.id for model in await upstream.models()] == ["m"]
        seen = up.seen[-1]
    assert seen.headers["authorization"] == expected(seen)


async def test_a_static_key_is_one_line_and_not_in_its_repr() -> None:
    request = UpstreamRequest(b"POST", "h", b"/", b"")
    key = StaticKey(b"authorization: Bearer sk-1\r\n")
    assert await key.sign(request) == b"authorization: Bearer sk-1\r\n"
    assert await StaticKey(b"").sign(request) == b""
    assert (repr(key), repr(StaticKey(b""))) == ("<StaticKey set>", "<StaticKey none>")
