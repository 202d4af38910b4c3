"""What a request looks like on the wire, and what is refused before it is sent."""

import asyncio
from typing import Any

import pytest

from modelplex.http_client import Origin

from .upstream import KEY, OK, PATIENT, Run, client, read_request, send, upstream


@pytest.mark.parametrize("size", [0, 2, 16_000, 20_000, 200_000, 600_000, 5_000_000])
def test_a_request_arrives_whole_at_every_size(run: Run, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    got: list[tuple[bytes, bytes]] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        got.append(await read_request(reader))
        writer.write(OK)
        await reader.read()

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            reply = await send(pool, up.origin, body=body)
            assert (reply.status, await reply.body(limit=100)) == (200, b"hello")
            head, body_got = got[0]
            assert head == (
                b"POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nauthorization: Bearer %b\r\n"
                b"accept-encoding: identity\r\ncontent-length: %d\r\n\r\n"
            ) % (up.origin.port, KEY, size)
            assert body_got == body

    run(scenario)


def test_encoded_header_lines_are_sent_unchanged_and_a_get_has_no_content_length(run: Run) -> None:
    got: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        got.append((await read_request(reader))[0])
        writer.write(OK)
        await reader.read()

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            lines = b"X-One: 1\r\nx-two:2\r\n"
            reply = await pool.send(up.origin, method=b"GET", target=b"/", headers=lines, timeouts=PATIENT)
            await reply.body(limit=100)
            assert got == [b"GET / HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n" % up.origin.port + lines + b"\r\n"]

    run(scenario)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x", b"a\r\nb: c")],
        [(b"x", b"a\nb")],
        [(b"x", b"a\0")],
        [(b"x y", b"a")],
        [(b"", b"a")],
        [(b"Host", b"a")],
        [(b"content-length", b"3")],
        [(b"Transfer-Encoding", b"chunked")],
        b"x: a",
        b"x: a\n",
        b"x: a\r\n\r\n",
        b"x: a\r\n b\r\n",
        b"x: a\rb\r\n",
        b"x\r\n",
        b"X: a\r\nHOST: b\r\n",
        b"content-length:3\r\n",
    ],
)
def test_a_header_that_could_split_or_reframe_the_request_is_refused(headers: Any) -> None:
    async def scenario() -> None:
        async with client() as pool:
            origin = Origin(host="127.0.0.1", port=1, tls=False)
            with pytest.raises(ValueError, match=r"header|Header"):
                await pool.send(origin, target=b"/", headers=headers, timeouts=PATIENT)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("method", "target"), [(b"GE T", b"/"), (b"GET", b"/a b"), (b"GET", b"/\r\n"), (b"GET", b"")]
)
def test_a_target_or_method_that_could_split_the_request_is_refused(method: bytes, target: bytes) -> None:
    async def scenario() -> None:
        async with client() as pool:
            origin = Origin(host="127.0.0.1", port=1, tls=False)
            with pytest.raises(ValueError, match="HTTP does not allow"):
                await pool.send(origin, method=method, target=target, headers=b"", timeouts=PATIENT)

    asyncio.run(scenario())
