"""The sentences of errors: they name the host, and quote no header and no received byte."""

import asyncio
import errno
import socket
import ssl

import httptools
import pytest
import trustme

from modelplex.http_client import ConnectFailed, ConnectionCut, Origin, SendError, TlsFailed
from modelplex.http_client.errors import NO_ANSWER, map_connect_error, parser_reason

from .upstream import (
    KEY,
    OK,
    Run,
    client,
    counts,
    fetch,
    respond_then_close,
    respond_with,
    send,
    server_context,
    tls_origin,
    upstream,
)


def test_a_refused_connection_names_the_host(run: Run) -> None:
    async def scenario() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound and not listening: no other socket gets this port
            port = taken.getsockname()[1]
            async with client() as pool:
                with pytest.raises(ConnectFailed, match=f"127.0.0.1:{port} refused the connection"):
                    await send(pool, Origin(host="127.0.0.1", port=port, tls=False))

    run(scenario)


def test_a_name_that_cannot_exist_fails_to_connect(run: Run) -> None:
    async def scenario() -> None:
        async with client() as pool:
            with pytest.raises(ConnectFailed, match="could not be resolved"):
                await send(pool, Origin(host="a" * 70 + ".example", port=80, tls=False))

    run(scenario)


HERE = Origin(host="api.example", port=80, tls=False)
TLS = Origin(host="api.example", port=443, tls=True, ca_file="/ca.pem")
SOCKET = Origin(host="localhost", port=80, tls=False, unix="/run/x.sock")


@pytest.mark.parametrize(
    ("origin", "error", "kind", "sentence"),
    [
        (TLS, socket.gaierror(socket.EAI_NONAME, "Name or service not known"), ConnectFailed, "The name api.example could not be resolved."),
        (HERE, ValueError("label too long"), ConnectFailed, "The name api.example could not be resolved."),
        (HERE, ConnectionRefusedError(), ConnectFailed, "api.example refused the connection."),
        (HERE, ConnectionResetError(errno.ECONNRESET, "reset"), ConnectFailed, "api.example could not be reached: reset."),
        (HERE, OSError(errno.ENETUNREACH, "Network is unreachable"), ConnectFailed, "api.example could not be reached: Network is unreachable."),
        (HERE, OSError("Multiple exceptions: 10.0.0.1, 10.0.0.2"), ConnectFailed, f"api.example could not be reached: {NO_ANSWER}."),
        (TLS, ConnectionResetError(), TlsFailed, "api.example closed the connection during the TLS handshake."),
        (TLS, ssl.SSLError(1, "wrong version"), TlsFailed, "TLS with api.example failed: the handshake was aborted."),
        (TLS, FileNotFoundError(), TlsFailed, "The file of certificate authorities for api.example does not exist."),
        (SOCKET, FileNotFoundError(), ConnectFailed, "There is no file at the socket /run/x.sock."),
    ],
)  # fmt: skip
def test_an_error_of_a_connection_attempt_becomes_one_sentence(
    origin: Origin, error: OSError | ValueError, kind: type[ConnectFailed], sentence: str
) -> None:
    mapped = map_connect_error(origin, error)
    assert (type(mapped), mapped.sentence) == (kind, sentence)


def test_a_sentence_without_the_address_begins_with_the_name_in_its_place() -> None:
    refused = ConnectFailed("api.example:8080 refused the connection.")
    origin = Origin(host="api.example", port=8080, tls=False)
    assert refused.without_address(origin, name="it") == "It refused the connection."
    unknown = map_connect_error(origin, socket.gaierror(socket.EAI_NONAME, "x"))
    assert unknown.without_address(origin, name="it") == "The name of it could not be resolved."
    cut = ConnectionCut("api.example:8080 closed the connection.", started=True)
    assert cut.without_address(origin, name="the server") == "The server closed the connection."


def test_the_reason_of_a_parser_error_quotes_nothing() -> None:
    assert parser_reason(httptools.HttpParserUpgrade(0)) == "a change of protocol"
    assert parser_reason(httptools.HttpParserError("Expected HTTP/")) == "Expected HTTP/"
    assert parser_reason(httptools.HttpParserError()) == "it cannot be parsed"


def test_an_untrusted_certificate_or_one_of_another_name_is_a_tls_failure(
    run: Run, authority: tuple[trustme.CA, str]
) -> None:
    ca, path = authority

    async def scenario() -> None:
        async with client() as pool:
            async with upstream(respond_with(OK), tls=server_context(ca, "127.0.0.1")) as up:
                with pytest.raises(TlsFailed, match=r"certificate of 127\.0\.0\.1:\d+ is not trusted"):
                    await send(pool, tls_origin(up.origin, None))
            async with upstream(respond_with(OK), tls=server_context(ca, "other.example")) as up:
                with pytest.raises(TlsFailed, match=r"certificate of 127\.0\.0\.1:\d+ is not trusted"):
                    await send(pool, tls_origin(up.origin, path))
            with pytest.raises(TlsFailed, match="does not exist"):
                await send(pool, tls_origin(up.origin, "/nonexistent/ca.pem"))
            assert counts(pool) == (0, 0)

    run(scenario)


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_server_without_tls_is_a_tls_failure(run: Run, greeting: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.read(100)
        writer.write(greeting)
        await writer.drain()

    async def scenario() -> None:
        async with upstream(script) as up, client() as pool:
            with pytest.raises(TlsFailed, match=r"127\.0\.0\.1"):
                await send(pool, tls_origin(up.origin, None))

    run(scenario)


@pytest.mark.parametrize(
    "response", [b"", b"H", b"junk " + KEY + b"\r\n\r\n", OK[:-1], b"HTTP/1.1 200 OK\r\n" + KEY]
)
def test_no_error_quotes_a_header_or_received_bytes(run: Run, response: bytes) -> None:
    async def scenario() -> None:
        async with upstream(respond_then_close(response)) as up, client() as pool:
            with pytest.raises(SendError) as caught:
                await fetch(pool, up.origin)
            shown = f"{caught.value!r} {caught.value.sentence} {pool!r}"
            assert KEY.decode() not in shown
            assert caught.value.sentence.endswith(".")

    run(scenario)
