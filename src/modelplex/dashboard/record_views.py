"""Views on the store of records: calls, requests, runs, spending and plots."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from time import time
from typing import TypeVar

import msgspec

from modelplex.commands.export import jsonl, read_calls
from modelplex.core.errors import BadRequest, NotFound
from modelplex.dashboard import records
from modelplex.dashboard.calls import CallFeed, filter_of
from modelplex.dashboard.records import PageRecords
from modelplex.dashboard.request import PageRequest
from modelplex.records.store import rows
from modelplex.records.store.database import Database
from modelplex.records.store.queries import (
    StoredCall,
    one_call,
    one_run,
    recent_acts,
    recent_runs,
    request_body,
    request_headers,
    response_body,
    sent_body,
)

T = TypeVar("T")
RUNS = 200
"""Rows of the list of runs."""
ACTS = 50
"""Rows of the list of acts."""
DAYS = {"day": 1, "week": 7, "month": 30}
EXPORTS = {"jsonl": "jsonl", "otlp": "json", "inspect": "json"}
"""The ending of the file of each format."""
NO_BODIES = 'The bodies of this call are not stored: [record] content = "full" stores them.'


class Download(msgspec.Struct, frozen=True):
    """Bytes that are sent as they are; with a `name` as a file to be kept."""

    body: bytes
    name: str = ""


class RecordViews:
    """`store` is None where nothing is recorded."""

    def __init__(
        self, store: PageRecords | None, feed: CallFeed, *, limits: Callable[[], Awaitable[object]]
    ) -> None:
        self._store = store
        self._feed = feed
        self._limits = limits

    async def calls(self, request: PageRequest) -> object:
        """The calls that have ended, the newest first."""
        wanted, before = filter_of(request.arguments), _before(request.arguments.get("before", ""))
        page = await self._query(lambda db: records.call_page(db, wanted, before))
        if page is None:
            return {"rows": [], "last": None, "stored": False}
        return {"rows": page.rows, "last": page.last, "stored": True}

    async def call(self, request: PageRequest, id: str) -> object:
        """One call, from the store or, before it is there, from the feed. Raises NotFound."""
        found = await self._query(lambda db: one_call(db, id))
        if found is not None:
            return _call_view(found)
        recent = self._feed.find(id)
        if recent is None:
            raise NotFound(f"No call {id!r} is known.")
        detail = rows.detail_of(recent)
        return _call_view(StoredCall(rows.summary_of(recent), detail, False, False)) | {"stored": False}

    async def content(self, request: PageRequest, id: str) -> object:
        """The call with the parts of its request, and its response. Raises NotFound."""
        found = await self._query(lambda db: records.find_call(db, id))
        if found is None:
            raise NotFound(f"No call {id!r} is stored.")
        headers = await self._query(lambda db: request_headers(db, found[0]))
        return {"call": _call_view(found[0]) | {"headers": headers}, "content": found[1]}

    async def body(self, request: PageRequest, id: str, which: str) -> Download:
        """The bytes that a client sent or got, or that a provider got. Raises NotFound."""
        if which == "sent":
            return await self._sent_bytes(request, id)
        read = response_body if which == "response" else request_body
        body = await self._query(lambda db: read(db, id))
        if body is None:
            raise NotFound(NO_BODIES)
        return Download(body)

    async def _sent_bytes(self, request: PageRequest, id: str) -> Download:
        """What a provider got, in the attempt of this number or the last one."""
        found = await self._query(lambda db: one_call(db, id))
        if found is None:
            raise NotFound(f"No call {id!r} is stored.")
        try:
            attempt = int(request.arguments.get("attempt", len(found.detail.attempts)))
        except ValueError:
            raise BadRequest("'attempt' is a number.") from None
        body = await self._query(lambda db: sent_body(db, id, attempt))
        if body is None:
            raise NotFound("No provider got this request, or what it got is not stored.")
        return Download(body)

    async def runs(self, request: PageRequest) -> object:
        found = await self._query(
            lambda db: recent_runs(db, agent=request.arguments.get("agent", ""), limit=RUNS)
        )
        return {"runs": found or [], "stored": self._store is not None}

    async def run(self, request: PageRequest, id: str) -> object:
        """A run and its calls, oldest first. Raises NotFound."""
        run = await self._query(lambda db: one_run(db, id))
        if run is None:
            raise NotFound(f"No run {id!r} is stored.")
        return {"run": run, "calls": await self._query(lambda db: records.run_calls(db, id))}

    async def search(self, request: PageRequest, id: str) -> object:
        text = request.arguments.get("q", "").strip()
        return {"found": await self._query(lambda db: records.search_run(db, id, text)) if text else []}

    async def export(self, request: PageRequest, id: str) -> Download:
        """Raises BadRequest and NotFound."""
        form = request.arguments.get("format", "jsonl")
        if form not in EXPORTS:
            raise BadRequest(f"There is no format {form!r}: {', '.join(EXPORTS)}.")
        body = await self._query(partial(_exported, id=id, form=form))
        if body is None:
            raise NotFound(f"No run {id!r} is stored.")
        return Download(body, f"{_file_name(id)}.{form}.{EXPORTS[form]}".replace(".jsonl.jsonl", ".jsonl"))

    async def spend(self, request: PageRequest) -> object:
        """Sums of the last days, and what is left of the budgets."""
        days = DAYS.get(request.arguments.get("range", "week"), 7)
        found = await self._query(lambda db: records.spending(db, time(), days))
        return {
            "spending": found,
            "days": days,
            "now": time(),
            "limits": await self._limits(),
            "stored": self._store is not None,
        }

    async def series(self, request: PageRequest) -> records.Series | None:
        """Plots of the last so many seconds; None where nothing is recorded."""
        try:
            seconds = min(max(float(request.arguments.get("seconds", "3600")), 60.0), 31 * records.DAY)
        except ValueError:
            raise BadRequest("'seconds' is a number.") from None
        return await self._query(lambda db: records.series(db, time(), seconds))

    async def acts(self, request: PageRequest) -> object:
        """What admins did, the newest first."""
        found = await self._query(lambda db: recent_acts(db, limit=ACTS))
        return {"acts": found or [], "stored": self._store is not None}

    async def _query(self, query: Callable[[Database], T]) -> T | None:
        return await self._store.read(query) if self._store is not None else None


def _call_view(found: StoredCall) -> dict[str, object]:
    call, detail = msgspec.to_builtins(found.call), found.detail
    return {
        **call,
        "host": found.host,
        "attempts": detail.attempts,
        "changes": detail.changes,
        "stripped": detail.stripped,
        "uid": detail.uid,
        "interfaces": detail.interfaces,
        "passthrough": detail.passthrough,
        "queued": detail.queued,
        "cut": detail.cut,
        "masked": detail.masked,
        "declared": detail.declared,
        "method": detail.method,
        "decision": detail.decision,
        "rule": detail.rule,
        "definition": detail.definition,
        "trace": detail.trace.trace_id if detail.trace is not None else "",
        "has_request": found.has_request,
        "has_response": found.has_response,
        "stored": True,
    }


def _before(text: str) -> tuple[float, str] | None:
    """`started,id` of the last row that the page has. Raises BadRequest."""
    if not text:
        return None
    started, _, call = text.partition(",")
    try:
        return float(started), call
    except ValueError:
        raise BadRequest("'before' is the time and the id of a call.") from None


def _exported(db: Database, *, id: str, form: str) -> bytes | None:
    run = one_run(db, id)
    if run is None:
        return None
    match form:
        case "jsonl":
            return b"".join(jsonl(db, run))
        case "otlp":
            from modelplex.commands.otlp import otlp

            return otlp(run, list(read_calls(db, run)))
        case _:
            from modelplex.commands.inspect_log import inspect_log

            return inspect_log(run, list(read_calls(db, run)))


def _file_name(id: str) -> str:
    return "".join(char if char.isalnum() or char in "-_" else "-" for char in id)[:80]
