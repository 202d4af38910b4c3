"""The reader of requests without a connection: bytes in, heads and bodies out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelplex.server.admission import HEADER_COST, MAX_HEADS, USUAL_HEAD, USUAL_HEADERS, HeadMemory
from modelplex.server.connection_refusals import (
    HEAD_TOO_LARGE,
    TOO_MANY_HEADS,
    TOO_MANY_PIPELINED,
    ConnectionRefusal,
)
from modelplex.server.request_head import HttpHead, KnownHeads
from modelplex.server.request_reader import MAX_LENGTH_DIGITS, RequestReader

GET = b"GET /a?q=1 HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n"


class Receiver:
    """Keeps what a reader hands over."""

    def __init__(self) -> None:
        self.queue_is_full = False
        self.heads_started = 0
        self.heads: list[HttpHead] = []
        self.lengths: list[int | None] = []
        self.bodies: list[bytes] = []
        self.complete = 0

    def head_started(self) -> None:
        self.heads_started += 1

    @property
    def flags(self) -> list[tuple[bool, bool]]:
        return [(head.expects_100, head.keep_alive) for head in self.heads]

    def request_started(self, head: HttpHead, *, length: int | None) -> None:
        self.heads.append(head)
        self.lengths.append(length)
        self.bodies.append(b"")

    def body_received(self, data: bytes) -> None:
        self.bodies[-1] += data

    def request_complete(self) -> None:
        self.complete += 1

    def request_received(self, head: HttpHead, body: bytes) -> None:
        self.request_started(head, length=len(body))
        self.body_received(body)
        self.request_complete()


def reader(
    *, max_header_size: int = 4000, heads: HeadMemory | None = None, known: KnownHeads | None = None
) -> tuple[RequestReader, Receiver]:
    receiver = Receiver()
    made = RequestReader(
        receiver, max_header_size=max_header_size, heads=heads or HeadMemory(), known=known or KnownHeads()
    )
    return made, receiver


def test_a_head_is_read_with_its_target_and_headers() -> None:
    read, got = reader()
    assert read.feed(b"POST /a%20b/%C3%A4?q=%20 HTTP/1.1\r\nHost: x\r\nX-Two: 2\r\n\r\n") is None
    (head,) = got.heads
    assert (head.version, head.method, head.path) == ("1.1", "POST", "/a b/ä")
    assert (head.raw_path, head.query) == (b"/a%20b/%C3%A4", b"q=%20")
    assert head.headers == [(b"host", b"x"), (b"x-two", b"2")]
    assert (got.lengths, got.complete) == ([None], 1)
    assert read.stage == "between"


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_pieces_of_any_size_give_the_same_requests(size: int) -> None:
    read, got = reader()
    data = POST + b"body" + GET + POST + b"last"
    for at in range(0, len(data), size):
        assert read.feed(data[at : at + size]) is None
    assert [head.method for head in got.heads] == ["POST", "GET", "POST"]
    assert got.bodies == [b"body", b"", b"last"]
    assert got.complete == 3


def test_a_head_in_pieces_is_announced_once() -> None:
    read, got = reader()
    for piece in (GET[:5], GET[5:10], GET[10:]):
        read.feed(piece)
    assert (got.heads_started, got.complete) == (1, 1)
    read.feed(GET)
    assert got.heads_started == 1


def test_the_stage_and_the_unparsed_bytes_follow_the_request() -> None:
    read, _ = reader()
    assert read.stage == "between"
    read.feed(POST[:10])
    assert (read.stage, read.unparsed) == ("head", 10)
    read.feed(POST[10:])
    assert (read.stage, read.unparsed) == ("body", 0)
    read.feed(b"body")
    assert (read.stage, read.unparsed) == ("between", 0)


@pytest.mark.parametrize(
    ("head", "flags"),
    [
        (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", (False, True)),
        (b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", (False, False)),
        (b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", (False, False)),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\nExpect: 100-Continue\r\n\r\n", (True, True)),
    ],
)
def test_the_flags_of_a_request(head: bytes, flags: tuple[bool, bool]) -> None:
    read, got = reader()
    assert read.feed(head) is None
    assert got.flags == [flags]


def test_an_absolute_target_replaces_the_host() -> None:
    read, got = reader()
    read.feed(b"GET http://other:81/path HTTP/1.1\r\nhost: x\r\naccept: */*\r\n\r\n")
    (head,) = got.heads
    assert head.path == "/path"
    assert head.headers == [(b"host", b"other:81"), (b"accept", b"*/*")]


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"GET /path RTSP/1.0\r\n\r\n", "another protocol"),
        (b"\r\nSOURCE /path ICE/1.0\r\n\r\n", "another protocol"),
        (b"GET / HTTP/2.0\r\nhost: x\r\n\r\n", "HTTP/2.0"),
        (b"GET https://host/path HTTP/1.1\r\nhost: x\r\n\r\n", "another scheme"),
        (b"GET http://user@host/path HTTP/1.1\r\nhost: x\r\n\r\n", "user"),
        (b"CONNECT host:443 HTTP/1.1\r\nhost: x\r\n\r\n", "CONNECT"),
        (b"not a request\r\n\r\n", "method"),
        (b"GET / HTTP/1.1\r\nhost: x\r\n folded: y\r\n\r\nGET", ""),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", "Transfer-Encoding"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 000000000000000000000004\r\n\r\n0000", "too many digits"),
    ],
)  # fmt: skip
def test_what_is_no_http_request_is_refused_with_the_cause(data: bytes, cause: str) -> None:
    read, got = reader()
    refused = read.feed(data)
    assert refused is not None
    assert (refused.status, refused.code) == (400, "invalid_http")
    assert cause in refused.cause
    assert got.complete == 0


def test_a_head_above_the_size_is_refused_however_it_arrives() -> None:
    head = b"GET / HTTP/1.1\r\nhost: x\r\nx-long: " + b"y" * 5000 + b"\r\n\r\n"
    whole, got = reader()
    assert whole.feed(head) == HEAD_TOO_LARGE
    pieces, got_pieces = reader()
    assert [pieces.feed(head[:3000]), pieces.feed(head[3000:])] == [None, HEAD_TOO_LARGE]
    assert not got.heads + got_pieces.heads


def test_trailers_and_chunk_headers_have_the_same_bound() -> None:
    chunked = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    read, _ = reader()
    assert read.feed(chunked + b"0\r\n") is None
    assert read.feed(b"x-trailer: " + b"y" * 5000) == HEAD_TOO_LARGE


def test_trailers_do_not_reach_the_head() -> None:
    read, got = reader()
    read.feed(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    read.feed(b"1\r\na\r\n0\r\nx-api-key: forged\r\n\r\n")
    assert [name for name, _ in got.heads[0].headers] == [b"host", b"transfer-encoding"]
    assert (got.bodies, got.complete) == ([b"a"], 1)


def test_a_full_queue_refuses_the_next_request() -> None:
    read, got = reader()
    assert read.feed(GET) is None
    got.queue_is_full = True
    assert read.feed(GET) == TOO_MANY_PIPELINED
    assert len(got.heads) == 1


def test_large_heads_use_memory_until_they_are_released() -> None:
    heads = HeadMemory()
    rows = b"".join(b"x%d:\r\n" % number for number in range(USUAL_HEADERS + 10))
    read, got = reader(max_header_size=USUAL_HEAD * 4, heads=heads)
    assert read.feed(b"GET / HTTP/1.1\r\nhost: x\r\n" + rows + b"\r\n") is None
    assert heads.used == 0, "a head below the weight of a usual one is not counted"
    rows = b"".join(b"x%d: %b\r\n" % (number, b"y" * 50) for number in range(USUAL_HEADERS + 200))
    assert read.feed(b"GET / HTTP/1.1\r\nhost: x\r\n" + rows + b"\r\n") is None
    assert heads.used > USUAL_HEAD + HEADER_COST * USUAL_HEADERS
    heads.used += MAX_HEADS
    other, _ = reader(max_header_size=USUAL_HEAD * 4, heads=heads)
    assert other.feed(b"GET / HTTP/1.1\r\nhost: x\r\n" + rows) == TOO_MANY_HEADS
    heads.used -= MAX_HEADS
    other.close()
    read.close()
    assert heads.used == 0
    assert len(got.heads) == 2


@pytest.mark.parametrize("rest", [b"", b"bo", b"body"])
def test_a_request_with_upgrade_is_read_as_http(rest: bytes) -> None:
    read, got = reader()
    sent = b"POST /p HTTP/1.1\r\nhost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\ncontent-length: 4\r\n\r\n"
    assert read.feed(sent + rest) is None
    if rest != b"body":
        assert read.feed(b"body"[len(rest) :]) is None
    (head,) = got.heads
    assert [name for name, _ in head.headers] == [b"host", b"connection", b"upgrade"]
    assert got.lengths == [4]
    assert got.bodies == [b"body"]
    assert got.flags == [(False, False)]
    assert got.complete == 1


@pytest.mark.parametrize(("digits", "is_read"), [(MAX_LENGTH_DIGITS, True), (MAX_LENGTH_DIGITS + 1, False)])
def test_a_length_has_a_limit_of_digits(digits: int, is_read: bool) -> None:
    read, got = reader()
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %b5\r\n\r\n" % (b"0" * (digits - 1))
    assert (read.feed(head) is None) == is_read
    assert got.lengths == [5] * is_read


@pytest.mark.parametrize("rest", [b"", b"bo", b"body"])
def test_what_follows_a_request_with_upgrade_is_the_next_request(rest: bytes) -> None:
    """Its body is not read as a request: that would be one that the client did not send."""
    body = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
    sent = b"POST /p HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade\r\ncontent-length: %d\r\n\r\n"
    read, got = reader()
    data = sent % len(body) + body + GET
    cut = len(sent % len(body)) + len(rest)
    assert [read.feed(data[:cut]), read.feed(data[cut:])] == [None, None]
    assert [head.raw_path for head in got.heads] == [b"/p", b"/a"]
    assert got.bodies == [body, b""]


# --- known heads, against the parser


class Forgets(KnownHeads):
    """Knows no head, so that all are parsed."""

    def find(self, data: bytes) -> None:
        del data


def facts(got: Receiver) -> list[object]:
    return [
        (
            *(head.method, head.raw_path, head.path, head.query, head.version, head.headers),
            *(head.expects_100, head.keep_alive, length, body),
        )
        for head, length, body in zip(got.heads, got.lengths, got.bodies, strict=True)
    ]


def read_all(
    pieces: list[bytes], known: KnownHeads
) -> tuple[list[object], int, list[ConnectionRefusal | None], str]:
    """What a connection hands over for these pieces, up to a refusal, and up to a request that ends
    the connection: what follows it gets no response.
    """
    read, got = reader(max_header_size=65_536, known=known)
    refusals: list[ConnectionRefusal | None] = []
    for piece in pieces:
        refusals.append(read.feed(piece))
        if refusals[-1] is not None:
            break
    found = facts(got)
    last = next((number for number, head in enumerate(got.heads) if not head.keep_alive), None)
    if last is not None and (last + 1 < len(found) or got.complete > last):
        return found[: last + 1], last + 1, [], "between"
    return found, got.complete, [each for each in refusals if each], read.stage


LINES = st.sampled_from(
    [
        *(b"host: x", b"Host: y", b"accept: */*", b"a:", b"a: content-length: 5", b"x-content-length: 7"),
        *(b"connection: close", b"Connection: keep-alive", b"authorization: Bearer k", b"user-agent: u/1"),
        *(b"expect: 100-continue", b"upgrade: h2c", b"transfer-encoding: chunked", b" folded: y", b"b: \xe4"),
        *(
            b"content-length: 3",
            b"Content-Length:3",
            b"content-length: 03",
            b"CONTENT-LENGTH: 3",
            b"a: b\nc: d",
        ),
    ]
)
BODIES = st.sampled_from(
    [
        *(b"", b"abc", b"0\r\n\r\n", POST + b"body", GET, b"\r\n\r\n", b"content-length: 9\r\n\r\n"),
        *(b"x" * 70_000, b"3\r\nabc\r\n0\r\n\r\n"),
    ]
)
TARGETS = st.sampled_from([b"/", b"/v1/x?q=%20", b"/a%20b", b"http://h:1/p"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request that is often valid, and often of the form that is remembered."""
    lines, body = draw(st.lists(LINES, max_size=4)), draw(BODIES)
    if draw(st.integers(0, 9)):
        lines.insert(draw(st.integers(0, len(lines))), b"content-length: %d" % len(body))
    method, version = (
        draw(st.sampled_from([b"POST", b"POST", b"GET", b"PUT"])),
        draw(st.sampled_from([b"1.1", b"1.0"])),
    )
    first = b"%b %b HTTP/%b" % (method, draw(TARGETS), version)
    return b"\r\n".join((first, *lines, b"", body))


@given(st.lists(requests(), min_size=1, max_size=4), st.lists(st.integers(0, 500), max_size=4), st.booleans())
@settings(max_examples=600, deadline=None)
def test_known_heads_give_the_requests_that_the_parser_gives(
    sent: list[bytes], cuts: list[int], pipelined: bool
) -> None:
    """First each request alone, which makes its head known; then all of them on one connection."""
    known = KnownHeads()
    for each in sent:
        assert read_all([each], known) == read_all([each], Forgets())
    again = [*sent, *reversed(sent)]
    assert read_all(again, known) == read_all(again, Forgets())
    data = b"".join(again)
    ends = [*sorted(cut for cut in cuts if cut < len(data)), len(data)] if not pipelined else [len(data)]
    pieces = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert read_all(pieces, known) == read_all(pieces, Forgets())


KNOWN = b"POST /k HTTP/1.1\r\nHost: x\r\na: content-length: 5\r\nContent-Length: %d\r\nb: c\r\n\r\n"
LOOKALIKES = [
    *(b"", b"abc", POST + b"body", KNOWN % 7, (KNOWN % 3) * 3, b"\r\n\r\n", b"0\r\n\r\n"),
    *(b"\r\ncontent-length: 9\r\n\r\n", b"x" * 70_000, b"HTTP/1.1 200 OK\r\n\r\n"),
]


def knowing() -> KnownHeads:
    known = KnownHeads()
    assert read_all([KNOWN % 1 + b"z"], known)[1] == 1
    assert known.find(KNOWN % 5) is not None
    return known


@pytest.mark.parametrize("body", LOOKALIKES, ids=lambda body: repr(body[:20]))
def test_the_body_behind_a_known_head_is_never_read_as_a_request(body: bytes) -> None:
    sent = [KNOWN % len(body) + body, GET, KNOWN % 2 + b"ok", KNOWN % len(body) + body, POST + b"last"]
    for pieces in (sent, [b"".join(sent)]):
        found, complete, refusals, stage = read_all(pieces, knowing())
        assert [each[1] for each in found] == [b"/k", b"/a", b"/k", b"/k", b"/"]  # type: ignore[index]
        assert [each[-1] for each in found] == [body, b"", b"ok", body, b"last"]  # type: ignore[index]
        assert (complete, refusals, stage) == (5, [], "between")


@pytest.mark.parametrize("body", [b"", b"abc", KNOWN % 0, POST])
def test_a_known_head_split_at_every_byte_gives_the_same_requests(body: bytes) -> None:
    data = (KNOWN % len(body) + body) * 2 + GET + KNOWN % 1 + b"z"
    whole = read_all([data], Forgets())
    assert whole[1] == 4
    for at in range(len(data)):
        assert read_all([data[:at], data[at:]], knowing()) == whole
    for size in (1, 2, 3, 50):
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert read_all(pieces, knowing()) == whole


def test_line_breaks_before_a_known_head_are_not_unparsed_bytes_of_its_body() -> None:
    """The deadline of a body is set anew only while no bytes are unparsed."""
    read, _ = reader(known=knowing())
    for data in (b"\r\n", KNOWN % 5 + b"ab"):
        assert read.feed(data) is None
    assert (read.stage, read.unparsed) == ("body", 0)


def test_a_known_head_waits_for_a_place_in_the_queue_as_any_other() -> None:
    read, got = reader(known=knowing())
    got.queue_is_full = True
    assert read.feed(KNOWN % 0) == TOO_MANY_PIPELINED
    assert not got.heads
