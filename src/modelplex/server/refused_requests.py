"""Requests that a connection refused before they reached the app, as rows of the record: no valid
HTTP, a head that is too large or too slow, too many connections.

A flood of them costs nothing: some a second are rows, and all are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from time import time
from typing import Final

from modelplex.records.record import Record
from modelplex.server.callers import ClientConnection
from modelplex.server.connection_refusals import ConnectionRefusal
from modelplex.server.reports import Reports
from modelplex.server.tool_endpoints import request_ids

ROWS: Final = 5
"""In a second."""
SERVER_FAULT: Final = 500
"""Statuses from here on are the gateway's: it has no room."""


class RefusedRequests:
    """`counts` has the refusals by code. `ids` are those of the rows, `now` returns Unix time."""

    def __init__(
        self,
        record: Callable[[Record], None],
        *,
        counts: MutableMapping[str, int],
        ids: Iterator[str],
        now: Callable[[], float] = time,
    ) -> None:
        self._record = record
        self._counts = counts
        self._ids = ids
        self._now = now
        self._second = 0.0
        self._rows = 0
        self._omitted = 0

    def __repr__(self) -> str:
        return f"<RefusedRequests {sum(self._counts.values())}, {self._omitted} since the last row>"

    def add(self, client: object, refusal: ConnectionRefusal, /) -> None:
        """Refusals of connections without a ClientConnection are not recorded."""
        self._counts[refusal.code] = self._counts.get(refusal.code, 0) + 1
        now = self._now()
        if now - self._second >= 1.0 or now < self._second:
            self._second, self._rows = now, 0
        if self._rows >= ROWS or not isinstance(client, ClientConnection):
            self._omitted += 1
            return
        self._rows += 1
        error = refusal.message + (f" ({refusal.cause})" if refusal.cause else "")
        if self._omitted:
            error += f" {self._omitted} more were refused since the last such row."
            self._omitted = 0
        caller = client.caller
        self._record(
            Record(
                id=next(self._ids),
                started=now,
                listener=caller.listener,
                client=caller.client,
                agent=caller.agent,
                peer=caller.peer,
                peer_network=caller.attested,
                endpoint="",
                dialect="",
                requested_model="",
                status=refusal.status,
                outcome="error",
                blame="gateway" if refusal.status >= SERVER_FAULT else "client",
                error=error,
                code=refusal.code,
            )
        )


def refusals_of(reports: Reports) -> RefusedRequests:
    return RefusedRequests(reports.refused, counts=reports.metrics.refused_requests, ids=request_ids())
