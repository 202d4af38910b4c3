"""Requests to token endpoints."""

from __future__ import annotations

import pytest

from modelplex.credentials.source import CredentialError
from modelplex.credentials.token_request import MAX_BODY, ask
from modelplex.http_client import HttpClient
from tests.credentials.clouds import cloud


async def test_an_address_keeps_its_path_and_query() -> None:
    client = HttpClient()
    async with cloud(lambda _: (200, b"x")) as service:
        for path in ("", "/", "/a", "/a/", "/a?b=c&d=%2F"):
            await ask(client, service.url + path, place="here")
        assert [each.target for each in service.seen] == ["/", "/", "/a", "/a/", "/a?b=c&d=%2F"]
    await client.aclose()


@pytest.mark.parametrize("url", ["ftp://x/", "http://user:password@x/", "no address"])
async def test_a_wrong_address_is_told(url: str) -> None:
    client = HttpClient()
    with pytest.raises(CredentialError, match="the address of here"):
        await ask(client, url, place="here")
    await client.aclose()


async def test_an_answer_has_a_limit() -> None:
    client = HttpClient()
    async with cloud(lambda _: (200, b"x" * (MAX_BODY + 1))) as service:
        with pytest.raises(CredentialError, match="here: "):
            await ask(client, service.url, place="here")
    await client.aclose()
