"""The caller's connection as the data path needs it: `ResponseOutput`, and the head of a response
as values, from which the server writes the header lines.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from modelplex.core.errors import ModelplexError
from modelplex.core.request import Change, StrippedValue

HeaderList = list[tuple[bytes, bytes]]


class ResponseHead(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The facts that the headers of one response report.

    dialect           the client's
    provider, model   of the last attempt; both empty where there was none
    overhead          the gateway's seconds until the upstream request was sent; None: not reported
    recording         the id of the recorded call that is the answer
    exhausted         providers whose usage limit this request found to be reached
    upstream_headers  headers of the provider's response that are passed on
    may_retry         False tells the client's library not to retry
    retry_after       seconds
    """

    content_type: bytes = b"application/json"
    dialect: str
    request_id: str
    provider: str = ""
    model: str = ""
    attempts: int = 0
    overhead: float | None = None
    changes: tuple[Change, ...] = ()
    stripped: tuple[StrippedValue, ...] = ()
    exhausted: tuple[str, ...] = ()
    recording: str = ""
    upstream_headers: tuple[tuple[bytes, bytes], ...] = ()
    may_retry: bool = True
    retry_after: float | None = None


class ResponseOutput(Protocol):
    """The caller's side of one request. `respond` or `start` sends the status, once; `started` is
    true from then on. `stop_error` is the error with which this request ends, once the gateway
    shuts down and its time is over, or the operator has stopped it.
    """

    @property
    def started(self) -> bool: ...
    @property
    def stop_error(self) -> ModelplexError | None: ...
    async def respond(self, status: int, head: ResponseHead, body: bytes) -> None: ...
    async def start(self, head: ResponseHead) -> None: ...
    async def write(self, data: bytes) -> None: ...
    def write_now(self, data: bytes) -> bool:
        """`write` without waiting. Returns False, and writes nothing, while the client does not
        read.
        """
        ...

    async def finish(self) -> None: ...
    def abort(self) -> None:
        """End the response so that its reader sees that it is incomplete."""
        ...
