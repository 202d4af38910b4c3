from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from modelplex.credentials.source import CredentialError
from modelplex.mcp.oauth.redirect import DONE, FOREIGN, MAX_HEAD, RedirectAnswer, redirect_listener


async def test_an_answer_needs_the_state_and_the_issuer() -> None:
    answer = RedirectAnswer("https://a", iss_promised=True)
    assert not answer.take("/callback?code=c&state=other")
    assert answer.take(f"/callback?code=c&state={answer.state}&iss=https%3A%2F%2Fa")
    assert await answer.code() == "c"


@pytest.mark.parametrize(
    "query", ["code=c", "code=c&iss=https://b", "error=x&iss=https://b", "iss=https://a"]
)
async def test_an_answer_of_another_server_is_refused(query: str) -> None:
    answer = RedirectAnswer("https://a", iss_promised=True)
    assert answer.take(f"/callback?{query}&state={answer.state}")
    with pytest.raises(CredentialError) as refused:
        await answer.code()
    assert str(refused.value) != "x"


async def test_an_error_is_told_and_cut() -> None:
    answer = RedirectAnswer("https://a", iss_promised=False)
    error, about = "e" * 5_000, "d" * 5_000
    assert answer.take(f"/callback?error={error}&error_description={about}&state={answer.state}")
    with pytest.raises(CredentialError) as refused:
        await answer.code()
    assert str(refused.value) == f"the authorization server refused: {error[:100]}: {about[:200]}"


async def test_the_first_answer_with_the_state_counts() -> None:
    answer = RedirectAnswer("https://a", iss_promised=False)
    for code in ("first", "second"):
        assert answer.take(f"/callback?code={code}&state={answer.state}")
    assert await answer.code() == "first"
    assert "first" not in repr(answer)
    assert answer.state not in repr(answer)


@pytest.mark.parametrize(
    "target", ["", "/callback", "//[", "http://[::1/callback?state=x", "?state=", "/callback?state=\u00e9"]
)
async def test_what_is_no_answer_is_not_taken(target: str) -> None:
    assert not RedirectAnswer("https://a", iss_promised=False).take(target)


async def said_to(uri: str, request: bytes) -> bytes:
    at = urlsplit(uri)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    writer.write(request)
    writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_a_listener_takes_the_answer_and_nothing_else() -> None:
    async with redirect_listener(0) as listener:
        assert listener.uri.startswith("http://127.0.0.1:")
        get = b"GET %b HTTP/1.1\r\n\r\n"
        assert FOREIGN.encode() in await said_to(listener.uri, get % b"/callback?code=c&state=")
        answer = listener.answer = RedirectAnswer("https://a", iss_promised=False)
        right = f"/callback?code=c&state={answer.state}".encode()
        for request in (
            get % b"/callback?code=evil&state=wrong",
            get % b"/other" + right,
            get % b"//[" + right,
            right.join((b"POST ", b" HTTP/1.1\r\n\r\n")),
            b"\r\n\r\n",
            b"GET\r\n\r\n",
        ):
            assert b"404 Not Found" in await said_to(listener.uri, request)
        for request in (b"", b"GET / HTTP/1.1\r\n", b"x" * (2 * MAX_HEAD)):
            assert await said_to(listener.uri, request) == b""
        page = await said_to(listener.uri, get % right)
        assert DONE.encode() in page
        assert b"referrer-policy: no-referrer" in page
        assert await answer.code() == "c"


async def test_a_port_in_use_is_told() -> None:
    async with redirect_listener(0) as listener:
        port = urlsplit(listener.uri).port
        assert port
        with pytest.raises(CredentialError, match=f"port {port} of 127.0.0.1"):
            async with redirect_listener(port):
                pass
