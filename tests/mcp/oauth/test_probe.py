from __future__ import annotations

import pytest

from modelplex.credentials.source import CredentialError
from modelplex.http_client import HttpClient
from modelplex.mcp.oauth.challenge import Challenge
from modelplex.mcp.oauth.probe import challenge_of
from tests.upstreams import Act, provider, raw


def answers(status: int, *rows: str) -> Act:
    head = "".join(f"{row}\r\n" for row in rows)
    return raw(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n{head}\r\n".encode())


async def probed(*acts: Act) -> tuple[Challenge | None, list[str]]:
    client = HttpClient()
    async with provider(*acts) as server:
        try:
            found = await challenge_of(client, server.url)
        finally:
            await client.aclose()
        assert not any("authorization" in seen.headers for seen in server.seen)
        return found, [seen.json["method"] for seen in server.seen]


async def test_the_handshake_is_challenged() -> None:
    found, asked = await probed(
        answers(401, "www-authenticate: Basic realm=x", 'WWW-Authenticate: Bearer scope="a"')
    )
    assert (found, asked) == (Challenge(401, scope="a"), ["initialize"])


async def test_some_servers_challenge_only_the_list_of_tools() -> None:
    found, asked = await probed(answers(200), answers(401))
    assert (found, asked) == (Challenge(401), ["initialize", "tools/list"])


@pytest.mark.parametrize("status", [200, 302, 403, 404, 500])
async def test_nothing_else_is_a_challenge(status: int) -> None:
    found, asked = await probed(answers(status, 'www-authenticate: Bearer scope="a"'))
    assert (found, len(asked)) == (None, 2)


@pytest.mark.parametrize("data", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 401 X\r\nx: " + b"y" * 100_000])
async def test_a_server_that_speaks_no_http_is_told(data: bytes) -> None:
    with pytest.raises(CredentialError, match="the tool server cannot be reached"):
        await probed(raw(data))


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http://127.0.0.1:0/", "http://[::1/"])
async def test_a_wrong_address_is_told(url: str) -> None:
    client = HttpClient()
    with pytest.raises(CredentialError, match="the tool server cannot be reached"):
        await challenge_of(client, url)
    await client.aclose()
