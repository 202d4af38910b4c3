"""The headers that the server acts on, and heads that are known by their bytes."""

from __future__ import annotations

from typing import Any

import pytest

from modelplex.core.errors import BadRequest
from modelplex.dialects.registry import DEFAULT
from modelplex.server.admission import HeadMemory
from modelplex.server.request_head import KNOWN_HEADS, KNOWN_SIZE, HttpHead, KnownHeads, RequestHead
from modelplex.server.request_reader import RequestReader


def head(*headers: tuple[bytes, bytes], **more: Any) -> RequestHead:
    facts: dict[str, Any] = {"method": "POST", "path": "/p", "raw_path": b"/p", **more}
    return HttpHead(**facts, headers=list(headers)).facts


def test_a_head_without_headers_on_a_socket() -> None:
    assert head() == RequestHead(
        method="POST",
        path="/p",
        host=None,
        origin=None,
        authorization=None,
        content_type="",
        upgrade=False,
        operation=None,
        client=DEFAULT,
        detail=False,
    )


def test_every_header_that_is_read() -> None:
    found = head(
        (b"host", b"h\xe4"),
        (b"origin", b"http://o"),
        (b"authorization", b"Bearer t"),
        (b"content-type", b"Application/JSON; Charset=UTF-8"),
        (b"upgrade", b"WebSocket"),
        (b"anthropic-version", b"2023-06-01"),
        (b"content-encoding", b"identity"),
        (b"transfer-encoding", b" Chunked"),
        query=b"detail",
    )
    assert (found.host, found.origin, found.authorization) == ("hä", "http://o", "Bearer t")
    assert found.content_type == "application/json; Charset=UTF-8"
    assert (found.upgrade, found.client, found.detail) == (True, "anthropic_messages", True)


def test_the_headers_that_the_dialect_of_the_operation_passes_on() -> None:
    headers = [(b"host", b"h"), (b"anthropic-version", b"2023-06-01"), (b"x-other", b"1")]
    http = HttpHead(method="POST", path="/v1/messages", raw_path=b"/v1/messages", headers=headers)
    assert http.forwarded == ((b"anthropic-version", b"2023-06-01"),)
    chat = "/v1/chat/completions"
    assert HttpHead(method="POST", path=chat, raw_path=chat.encode(), headers=headers).forwarded == ()


@pytest.mark.parametrize("name", [b"host", b"origin"])
def test_a_second_host_or_origin_is_refused(name: bytes) -> None:
    with pytest.raises(BadRequest, match="twice"):
        head((name, b"a"), (name, b"a"))


@pytest.mark.parametrize("value", [b"gzip", b"GZIP", b" br ", b"identity, gzip"])
def test_an_encoded_body_is_a_415(value: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        head((b"content-encoding", value))
    assert (refused.value.status, refused.value.code) == (415, "unsupported_encoding")


@pytest.mark.parametrize("value", [b"gzip, chunked", b"chunked, chunked", b""])
def test_another_transfer_encoding_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest, match="chunked"):
        head((b"transfer-encoding", value))


# --- known heads


class Receiver:
    queue_is_full = False

    def __init__(self) -> None:
        self.heads: list[HttpHead] = []

    def head_started(self) -> None: ...
    def body_received(self, data: bytes) -> None: ...
    def request_complete(self) -> None: ...

    def request_started(self, head: HttpHead, *, length: int | None) -> None:
        self.heads.append(head)

    def request_received(self, head: HttpHead, body: bytes) -> None:
        self.heads.append(head)


def known_after(*heads: bytes) -> tuple[KnownHeads, list[HttpHead]]:
    """What is known when these were read, each on its own connection and with the body `body`."""
    known, receiver = KnownHeads(), Receiver()
    for each in heads:
        reader = RequestReader(receiver, max_header_size=65_536, heads=HeadMemory(), known=known)
        assert reader.feed(each + b"body") is None
    return known, receiver.heads


def post(*lines: bytes, target: bytes = b"/") -> bytes:
    return b"\r\n".join((b"POST %b HTTP/1.1" % target, b"host: x", *lines, b"", b""))


LENGTH = b"content-length: %d"


@pytest.mark.parametrize(
    "name", [b"content-length: ", b"Content-Length:", b"Content-length: ", b"content-Length: "]
)
@pytest.mark.parametrize("at", ["first", "last"])
def test_a_head_is_known_again_with_any_content_length(name: bytes, at: str) -> None:
    def sent(digits: bytes) -> bytes:
        return post(name + digits, b"a: b") if at == "first" else post(b"a: b", name + digits)

    known, (head,) = known_after(sent(b"4"))
    for digits in (b"4", b"0", b"12345", b"007", b"9" * 15):
        data = sent(digits)
        assert known.find(data) == (head, int(digits), len(data))
        assert known.find(data + b"a body\r\n\r\n") == (head, int(digits), len(data))
    for digits in (b"", b"-1", b"+1", b"1a", b"1 ", b"0x1", b"1,1", b"\xd9\xa1", b"9" * 16):
        assert known.find(sent(digits)) is None


def test_only_the_same_bytes_are_known() -> None:
    sent = post(b"content-length: 4", b"a: b")
    known, _ = known_after(sent)
    for end in range(len(sent)):
        assert known.find(sent[:end]) is None
    for at in range(len(sent) - 4):
        if sent[at : at + 1].isdigit() and sent[at - 2 : at] == b": ":
            continue  # the content-length
        for other in (b"", b"z", b" ", b"\n", b"\r\n", sent[at : at + 1] * 2):
            if other != sent[at : at + 1]:
                assert known.find(sent[:at] + other + sent[at + 1 :]) is None, (at, other)
    for ending in (b"\n\n", b"\r\n\n", b"\n\r\n", b"\r\r", b"\r\n\r"):
        assert known.find(sent[:-4] + ending + b"x") is None
    for before in (b"\r\n", b"\n", b"\r", b" "):
        assert known.find(before + sent) is None


@pytest.mark.parametrize(
    "sent",
    [
        post(b"transfer-encoding: chunked").replace(b"POST", b"POST") + b"4\r\nbody\r\n0\r\n\r\n",
        post(b"x: content-length: 4", b"transfer-encoding: chunked") + b"0\r\n\r\n",
        post(b"expect: 100-continue", LENGTH % 4),
        post(b"Expect: 100-Continue", LENGTH % 4),
        post(b"connection: upgrade", b"upgrade: websocket", LENGTH % 4),
        post(b"upgrade: h2c", LENGTH % 4),
        post(b"a: b", b" folded: c", LENGTH % 4),
        post(b"a: b", b"\tcontent-length: 9", LENGTH % 4),
        post(LENGTH % 4).replace(b"host: x\r\n", b"host: x\n"),
        post(LENGTH % 4).replace(b": 4\r\n", b": 4\n"),
        post(LENGTH % 4).replace(b"\r\n\r\n", b"\n\n"),
        b"\r\n" + post(LENGTH % 4),
        b"\n" + post(LENGTH % 4),
        post(),
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        post(b"a: content-length: 4"),
        post(LENGTH % 4, LENGTH % 4),
        post(LENGTH % 4, LENGTH % 5),
        post(b"content-length: 4, 4"),
        post(b"content-length: \t4"),
        post(b"content-length:  4"),
        post(b"content-length: 4 "),
        post(b"content-length : 4"),
        post(b"CONTENT-LENGTH: 4"),
        post(b"content-length: 0000000000000004"),
        post(b"a: " + b"b" * KNOWN_SIZE, LENGTH % 4),
        post(LENGTH % 4, target=b"http://other/").replace(b"host: x\r\n", b""),
    ],
)
def test_a_head_of_another_form_is_not_remembered(sent: bytes) -> None:
    known, receiver = KnownHeads(), Receiver()
    reader = RequestReader(receiver, max_header_size=65_536, heads=HeadMemory(), known=known)
    reader.feed(sent)
    assert repr(known) == "<KnownHeads []>"
    assert known.find(sent) is None


def test_a_head_that_comes_in_pieces_or_behind_another_is_not_remembered() -> None:
    known, receiver = KnownHeads(), Receiver()
    reader = RequestReader(receiver, max_header_size=65_536, heads=HeadMemory(), known=known)
    sent = post(LENGTH % 0)
    for piece in (sent[:30], sent[30:], b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" + sent):
        assert reader.feed(piece) is None
    assert len(receiver.heads) == 3
    assert known.find(sent) is None


@pytest.mark.parametrize(("over", "found"), [(0, True), (1, False)])
def test_a_known_head_has_a_limit_of_size(over: int, found: bool) -> None:
    usual = len(post(b"a: ", LENGTH % 4))
    sent = post(b"a: " + b"b" * (KNOWN_SIZE - usual + over), LENGTH % 4)
    assert len(sent) == KNOWN_SIZE + over
    known, _ = known_after(sent)
    assert (known.find(sent) is not None) is found


def test_the_number_of_known_heads_is_bounded_and_all_are_forgotten_when_it_is_full() -> None:
    sent = [post(LENGTH % 4, target=b"/%d" % number) for number in range(KNOWN_HEADS + 1)]
    known, _ = known_after(*sent[:-1])
    assert all(known.find(each) for each in sent[:-1])
    known, (*_, last) = known_after(*sent)
    assert [known.find(each) for each in sent] == [None] * KNOWN_HEADS + [(last, 4, len(sent[-1]))]


def test_known_heads_share_one_value_and_its_facts() -> None:
    sent = post(b"anthropic-version: 2023-06-01", LENGTH % 4)
    known, (first, second) = known_after(sent, sent.replace(b": 4", b": 0004"))
    assert first is second
    assert first.facts is second.facts
    assert known.find(sent) is not None
