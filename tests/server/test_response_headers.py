"""The header lines of a response."""

from __future__ import annotations

from modelplex.core.request import Change, StrippedValue
from modelplex.pipeline.response_output import ResponseHead
from modelplex.server.response_headers import CHANGES_LIMIT, changes_value, response_headers, stripped_value


def lines(head: ResponseHead) -> list[tuple[bytes, bytes]]:
    """The header lines, as names and values."""
    *written, end = response_headers(head).split(b"\r\n")
    assert end == b""
    return [(name, value) for name, _, value in (line.partition(b": ") for line in written)]


def test_a_response_without_an_attempt_has_only_its_type_and_request_id() -> None:
    assert lines(ResponseHead(dialect="openai_chat", request_id="r-1")) == [
        (b"content-type", b"application/json"),
        (b"x-request-id", b"r-1"),
    ]


def test_a_stream_reports_its_attempt_and_is_not_cached() -> None:
    head = ResponseHead(
        content_type=b"text/event-stream; charset=utf-8",
        dialect="anthropic_messages",
        request_id="r-1",
        provider="ä b",
        model="m/1",
        attempts=2,
        overhead=0.0012345,
        changes=(Change("drop", "a,b", "why"),),
        stripped=(StrippedValue("/tools/0", "web-search"),),
        upstream_headers=((b"x-ratelimit-limit", b"9"),),
    )
    assert lines(head) == [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"x-request-id", b"r-1"),
        (b"request-id", b"r-1"),
        (b"x-modelplex-provider", b"%C3%A4 b"),
        (b"x-modelplex-model", b"m/1"),
        (b"x-modelplex-attempts", b"2"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
        (b"x-modelplex-overhead-ms", b"1.234"),
        (b"x-modelplex-changes", b"drop=a%2Cb"),
        (b"x-modelplex-stripped", b"/tools/0=web-search"),
        (b"x-ratelimit-limit", b"9"),
    ]


def test_the_providers_retry_headers_are_kept_unless_a_retry_is_pointless() -> None:
    upstream = ((b"x-should-retry", b"true"), (b"retry-after", b"7"))
    head = ResponseHead(dialect="openai_chat", request_id="r", upstream_headers=upstream, retry_after=3.0)
    assert lines(head)[2:] == list(upstream)
    final = ResponseHead(dialect="openai_chat", request_id="r", upstream_headers=upstream[:1], may_retry=False, retry_after=2.5)  # fmt: skip
    assert lines(final)[2:] == [(b"x-should-retry", b"false"), (b"retry-after", b"2.5")]


def test_long_lists_are_cut_with_the_number_of_those_left_out() -> None:
    changes = changes_value(tuple(Change("drop", f"messages[{n}].name", "") for n in range(500)))
    stripped = stripped_value(tuple(StrippedValue(f"/tools/{n}", "web-search") for n in range(500)))
    for value in (changes, stripped):
        *kept, last = value.split(b",")
        assert len(b",".join(kept)) <= CHANGES_LIMIT
        assert last == b"more=%d" % (500 - len(kept))
