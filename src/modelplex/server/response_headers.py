"""Writes the header lines of a response: request id, provider, attempts, changes, retry advice."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote

from modelplex.core.request import Change, StrippedValue
from modelplex.dialects.registry import request_names
from modelplex.pipeline.response_output import HeaderList, ResponseHead
from modelplex.server.http_exchange import header_lines

CHANGES_LIMIT = 1024
"""Bytes of x-modelplex-changes and of x-modelplex-stripped. The Record has all of them."""
PATH_MARKS = "/:@+;()[]"
"""Characters of a path that are not encoded in x-modelplex-changes. A comma separates changes, and
a member may have any name.
"""
POINTER_MARKS = PATH_MARKS + "%~"
"""The rare characters of a JSON pointer are encoded already."""
OVERHEAD = b"x-modelplex-overhead-ms"
STREAM_HEADERS = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
"""A stream is not cached, and nginx does not buffer it."""


def response_headers(head: ResponseHead) -> bytes:
    """The encoded lines. Raises ValueError for a value with a line break."""
    lines = _template(head.content_type, head.dialect, head.provider, head.model, head.attempts).replace(
        ID_MARK, head.request_id.encode()
    )
    if head.overhead is not None:
        lines += b"%b: %.3f\r\n" % (OVERHEAD, head.overhead * 1000)
    more: HeaderList = []
    if head.changes:
        more.append((b"x-modelplex-changes", changes_value(head.changes)))
    if head.stripped:
        more.append((b"x-modelplex-stripped", stripped_value(head.stripped)))
    if head.recording:
        more.append((b"x-modelplex-recording", visible(head.recording)))
    if head.exhausted:
        more.append((b"x-modelplex-exhausted", b",".join(visible(name) for name in head.exhausted)))
    upstream = head.upstream_headers
    if not head.may_retry:
        more += [header for header in upstream if header[0] != b"x-should-retry"]
        more.append((b"x-should-retry", b"false"))
    else:
        more += upstream
    if head.retry_after is not None and not any(name == b"retry-after" for name, _ in upstream):
        more.append((b"retry-after", b"%.12g" % head.retry_after))
    return lines + header_lines(more) if more else lines


ID_MARK = b"\0id\0"
"""Stands for the request's id in a template. No header may have a NUL."""


@lru_cache(maxsize=1024)
def _template(content_type: bytes, dialect: str, provider: str, model: str, attempts: int) -> bytes:
    """The lines that are the same for many responses, but for the request's id."""
    headers = [(b"content-type", content_type), *request_names(dialect, ID_MARK.decode())]
    if provider:
        headers += (
            (b"x-modelplex-provider", visible(provider)),
            (b"x-modelplex-model", visible(model)),
            (b"x-modelplex-attempts", b"%d" % attempts),
        )
    if content_type.startswith(b"text/event-stream"):
        headers += STREAM_HEADERS
    return header_lines(headers)


@lru_cache(maxsize=1024)
def visible(text: str) -> bytes:
    """A name as a header value, percent-encoded."""
    return quote(text, safe="/:@+,;=()[] ").encode()


def changes_value(changes: tuple[Change, ...]) -> bytes:
    """`op=path[,...]` up to CHANGES_LIMIT bytes, then the number of further changes
    (docs/reference/translation.md#losses).
    """
    items = (f"{change.op}={quote(change.path, safe=PATH_MARKS)}" for change in changes)
    return _joined(items, total=len(changes))


def stripped_value(stripped: tuple[StrippedValue, ...]) -> bytes:
    """`pointer=rule[,...]`, limited like the changes."""
    items = (f"{quote(each.pointer, safe=POINTER_MARKS)}={each.rule}" for each in stripped)
    return _joined(items, total=len(stripped))


def _joined(items: Iterable[str], *, total: int) -> bytes:
    """The items that fit. The others are not formatted: a body may have one for each member."""
    kept: list[str] = []
    size = 0
    for item in items:
        if size + len(item) > CHANGES_LIMIT:
            kept.append(f"more={total - len(kept)}")
            break
        kept.append(item)
        size += len(item) + 1
    return ",".join(kept).encode()
