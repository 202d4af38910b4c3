"""A response read from bytes, without a connection."""

from __future__ import annotations

import pytest

from modelplex.http_client import BadResponse, Origin
from modelplex.http_client.errors import SendError
from modelplex.http_client.incoming_response import (
    HEAD_LIMIT,
    HEADER_COUNT_LIMIT,
    IncomingResponse,
    ends_with_connection,
    read_whole,
)

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nX-One: 1\r\n\r\n"


class Incoming(IncomingResponse):
    """Keeps what a response asks of its connection."""

    def __init__(self) -> None:
        super().__init__(Origin("host", 80, tls=False))
        self.paused = 0
        self.aborted = False

    def fail(self, fault: SendError) -> None:
        self.fault = fault

    def body_buffered(self) -> None:
        self.paused += 1

    def unexpected(self) -> None:
        self.aborted = True

    def feed(self, data: bytes, *, size: int = 1 << 20) -> None:
        for at in range(0, len(data), size):
            self.parse(memoryview(data[at : at + size]))


def incoming(*, is_head_request: bool = False) -> Incoming:
    made = Incoming()
    made.begin(is_head_request=is_head_request)
    return made


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_pieces_of_any_size_give_the_same_response(size: int) -> None:
    response = incoming()
    response.feed(HEAD + b"hello", size=size)
    assert (response.status, response.headers) == (200, [(b"content-length", b"5"), (b"x-one", b"1")])
    assert (b"".join(response.chunks), response.buffered) == (b"hello", 5)
    assert response.complete
    assert response.keep_alive
    assert not response.parsing


def test_the_parser_reads_one_response_after_the_other() -> None:
    response = incoming()
    parser = response.parser
    for _ in range(3):
        response.feed(HEAD + b"hello")
        assert response.complete
        response.end()
        response.chunks.clear()
        response.begin(is_head_request=False)
    assert response.parser is parser


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_a_status_without_a_body_ends_with_its_head_and_the_next_response_is_read(status: bytes) -> None:
    response = incoming()
    response.feed(b"HTTP/1.1 %b\r\ncontent-length: 5\r\n\r\n" % status)
    assert response.complete
    response.end()
    response.begin(is_head_request=False)
    response.feed(HEAD + b"hello")
    assert b"".join(response.chunks) == b"hello"


def test_after_a_head_request_another_parser_reads_the_next_response() -> None:
    response = incoming(is_head_request=True)
    response.feed(HEAD)
    assert response.complete
    response.end()
    response.begin(is_head_request=False)
    response.feed(HEAD + b"hello")
    assert b"".join(response.chunks) == b"hello"


@pytest.mark.parametrize(
    ("data", "complete"),
    [(HEAD + b"hello" + HEAD, True), (HEAD + b"hello", True), (HEAD + b"hell", False)],
)
def test_bytes_after_a_response_forbid_its_connection(data: bytes, complete: bool) -> None:
    response = incoming()
    response.feed(data)
    assert response.complete is complete
    assert response.keep_alive is not data.endswith(HEAD)


def test_bytes_without_a_request_end_the_connection() -> None:
    response = Incoming()
    response.feed(HEAD)
    assert response.aborted
    assert not response.started


def test_interim_responses_are_skipped() -> None:
    response = incoming()
    response.feed(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + HEAD + b"hello")
    assert (response.status, len(response.headers)) == (200, 2)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * HEAD_LIMIT,
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * HEAD_LIMIT + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: a\r\n" * (HEADER_COUNT_LIMIT + 1) + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;" + b"a" * 2 * HEAD_LIMIT,
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
)
@pytest.mark.parametrize("size", [1000, 16_384])
def test_what_is_no_bounded_response_is_a_fault(data: bytes, size: int) -> None:
    response = incoming()
    response.feed(data, size=size)
    assert isinstance(response.fault, BadResponse)
    assert not response.keep_alive or not response.complete


def test_a_large_body_behind_a_head_does_not_count_for_the_head() -> None:
    response = incoming()
    body = b"x" * (2 * HEAD_LIMIT)
    response.feed(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body, size=16_384)
    assert response.complete
    assert response.paused == len(response.chunks)
    response.read_paused = True


@pytest.mark.parametrize(
    ("headers", "ends"),
    [
        ([], True),
        ([(b"content-length", b"5")], False),
        ([(b"transfer-encoding", b"chunked")], False),
        ([(b"transfer-encoding", b"gzip, Chunked ")], False),
        ([(b"transfer-encoding", b"gzip")], True),
    ],
)
def test_which_bodies_end_with_the_connection(headers: list[tuple[bytes, bytes]], ends: bool) -> None:
    assert ends_with_connection(headers) is ends


HEADS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-One:  two words \t\r\nx-empty:\r\nDate: now",
    b"HTTP/1.1 200\r\ncontent-length: 5",
    b"HTTP/1.1 200 \r\ncontent-length:5\r\nconnection: Keep-Alive\r\nkeep-alive: timeout=5",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-one: \xe9\x80\xff",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6",
    b"HTTP/1.1 200 OK\r\ncontent-length: +5",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5 5",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5, 5",
    b"HTTP/1.1 200 OK\r\ncontent-length: 0x5",
    b"HTTP/1.1 200 OK\r\ncontent-length : 5",
    b"HTTP/1.1 200 OK\r\n content-length: 5",
    b"HTTP/1.1 200 OK\r\nx: y\r\n folded\r\ncontent-length: 5",
    b"HTTP/1.1 200 OK\ncontent-length: 5",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: a\nb: c",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: a\rb: c",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: a\0b",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx y: z",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nno colon",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n: no name",
    b"HTTP/1.1 200 OK\r\nx: y",
    b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999",
    b"HTTP/1.1 204 No Content\r\ncontent-length: 5",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5",
    b"HTTP/1.0 200 OK\r\ncontent-length: 5",
    b"HTTP/1.1 2000 OK\r\ncontent-length: 5",
    b"HTTP/1.1  200 OK\r\ncontent-length: 5",
    b"http/1.1 200 OK\r\ncontent-length: 5",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nupgrade: h2c",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nproxy-connection: close",
]


@pytest.mark.parametrize("body", [b"hello", b"hell", b"hello!", b""])
@pytest.mark.parametrize("head", HEADS)
def test_what_is_read_without_the_parser_is_read_as_by_it(head: bytes, body: bytes) -> None:
    data = head + b"\r\n\r\n" + body
    whole = read_whole(data)
    if whole is None:
        return
    parsed = incoming()
    for at in range(0, len(data), 16):  # in pieces, which are for the parser
        parsed.parse(memoryview(data[at : at + 16]))
    assert (parsed.headers, b"".join(parsed.chunks)) == whole
    assert (parsed.status, parsed.complete, parsed.keep_alive, parsed.fault) == (200, True, True, None)


def test_usual_responses_need_no_parser() -> None:
    read = [head for head in HEADS if read_whole(head + b"\r\n\r\nhello") is not None]
    assert read == HEADS[:4]


def test_bytes_of_every_kind_in_a_head_are_read_as_by_the_parser() -> None:
    for byte in range(256):
        for place in (b"x%by: z", b"x: y%bz"):
            test_what_is_read_without_the_parser_is_read_as_by_it(
                b"HTTP/1.1 200 OK\r\n" + place % bytes((byte,)) + b"\r\ncontent-length: 5", b"hello"
            )
