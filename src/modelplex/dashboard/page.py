"""The page's paths below /_internal/: sign-in, files, views as JSON or server-sent events, changes.

Who may use them is decided before: server/internal_routes.py has the right that each needs. A
request must not be one that another page caused (access.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import partial
from html import escape
from time import perf_counter
from typing import Any, Protocol
from urllib.parse import parse_qs

import msgspec

from modelplex.core.errors import BadRequest, Busy, NotFound
from modelplex.dashboard import assets, health
from modelplex.dashboard.access import check_own_page, cookie_header
from modelplex.dashboard.calls import CallFeed, filter_of
from modelplex.dashboard.live import LiveSampler
from modelplex.dashboard.record_views import Download, RecordViews
from modelplex.dashboard.records import PageRecords
from modelplex.dashboard.request import ApprovedName, LiveCall, PageOutput, PageRequest, PageSources

STREAMS = 16
"""Pages that may look at once: each is sent one or two events a second."""
NOW_S = 1.0
CALLS_S = 0.5
"""Seconds between two events."""
MAX_CHANGE = 65_536
"""Bytes of the body of a change, which names a request or some tools."""
RETRY = b"retry: 1000\n\n"
"""Milliseconds after which a browser connects again. The page shows that it does."""
JSON = b"application/json"
EVENTS = b"text/event-stream; charset=utf-8"
TEXT = b"text/plain; charset=utf-8"
Answer = Callable[[PageRequest], Awaitable[object]]


class AnswerOfOne(Protocol):
    """A view of the call or run with this id."""

    def __call__(self, request: PageRequest, /, id: str) -> Awaitable[object]: ...


def _of_one(view: AnswerOfOne) -> Answer:
    return lambda request: view(request, request.value)


_encode = msgspec.json.Encoder().encode


class StopRequest(msgspec.Struct, forbid_unknown_fields=True):
    request: str = ""
    agent: str = ""
    run: str = ""


class ResetRequest(msgspec.Struct, forbid_unknown_fields=True):
    provider: str


class ApproveRequest(msgspec.Struct, forbid_unknown_fields=True):
    server: str
    names: list[ApprovedName]


class Dashboard:
    """`is_token` tells whether a text is a token of somebody who may sign in. `views` are what
    shows and what changes something, by the path of their routes.
    """

    def __init__(self, sources: PageSources, is_token: Callable[[str], Awaitable[bool]]) -> None:
        self._sources = sources
        self._is_token = is_token
        self._feed = CallFeed(sources.attach, sources.detach)
        self._sampler = LiveSampler(self._bytes_per_token)
        self._open = 0
        store = PageRecords(sources.open_store) if sources.is_recording else None
        self._records = records = RecordViews(store, self._feed, limits=self._limits)
        call, run = "page/api/call/{id}", "page/api/run/{id}"
        self.views: Mapping[str, Answer] = {
            "page/api/me": _me,
            "page/api/calls": records.calls,
            "page/api/runs": records.runs,
            "page/api/spend": records.spend,
            "page/api/acts": records.acts,
            "page/api/health": self._health,
            "page/api/tools": self._tools,
            call: _of_one(records.call),
            f"{call}/content": _of_one(records.content),
            f"{call}/request": _of_one(partial(records.body, which="request")),
            f"{call}/response": _of_one(partial(records.body, which="response")),
            f"{call}/sent": _of_one(partial(records.body, which="sent")),
            run: _of_one(records.run),
            f"{run}/search": _of_one(records.search),
            f"{run}/export": _of_one(records.export),
            "page/api/stop": self._stop,
            "page/api/reset": self._reset,
            "page/api/approve": self._approve,
        }
        self.streams: Mapping[str, Callable[[PageRequest], AsyncGenerator[bytes]]] = {
            "page/api/now": self._now,
            "page/api/calls/live": self._calls,
        }
        self.files: Mapping[str, Callable[[PageRequest, PageOutput], Awaitable[None]]] = {
            "": self._index,
            "page/static/{name}": self._file,
            "page/login": self._sign_in,
        }

    def __repr__(self) -> str:
        return f"<Dashboard {self._open} streams open>"

    async def answer(self, path: str, request: PageRequest, output: PageOutput) -> None:
        """`path` is that of the route. Raises ModelplexError."""
        if (stream := self.streams.get(path)) is not None:
            await self._send_events(stream(request), output)
        elif (file := self.files.get(path)) is not None:
            await file(request, output)
        else:
            found = await self.views[path](request)
            if isinstance(found, Download):
                await _send_file(output, found)
            else:
                await _respond(output, encode(found))

    # --- files and sign-in

    async def _index(self, request: PageRequest, output: PageOutput) -> None:
        given = request.arguments.get("token")
        if given is not None:
            await self._set_cookie(given, output)
        elif request.may is None:
            await _respond_html(output, 401, _login(""))
        else:
            await _send_asset("index.html", request, output)

    async def _file(self, request: PageRequest, output: PageOutput) -> None:
        await _send_asset(request.value, request, output)

    async def _sign_in(self, request: PageRequest, output: PageOutput) -> None:
        check_own_page(request.headers)
        form = parse_qs((await request.read(MAX_CHANGE)).decode("utf-8", "replace"), max_num_fields=8)
        await self._set_cookie(form.get("token", [""])[0].strip(), output)

    async def _set_cookie(self, given: str, output: PageOutput) -> None:
        """Sign in, and go to the page: by a refresh and no redirect, since a browser withholds a
        strict cookie from a redirect that another site's link began.
        """
        if not await self._is_token(given):
            await _respond_html(output, 403, _login("That is not the token of this gateway."))
            return
        body = (
            b'<!doctype html><meta http-equiv="refresh" content="0;url=/_internal/"><title>Modelplex</title>'
        )
        await _respond_html(output, 200, body, cookie=cookie_header(given))

    # --- events

    async def _send_events(self, events: AsyncGenerator[bytes], output: PageOutput) -> None:
        if self._open >= STREAMS:
            raise Busy(f"{STREAMS} pages are open already. Close one, and try again.")
        self._open += 1
        try:
            output.cancel_on_disconnect()
            await output.start([*assets.FRESH, (b"content-type", EVENTS), (b"x-accel-buffering", b"no")])
            await output.write(RETRY)
            async with contextlib.aclosing(events):
                async for event in events:
                    await output.write(b"data: " + event + b"\n\n")
            await output.finish()
        finally:
            self._open -= 1

    async def _now(self, request: PageRequest) -> AsyncGenerator[bytes]:
        del request
        while not self._sources.stopping():
            await self._sources.refresh("part")
            yield encode(self._snapshot())
            await asyncio.sleep(NOW_S)

    def _snapshot(self) -> dict[str, object]:
        sources, metrics = self._sources, self._sources.metrics
        calls = metrics.requests.copy()
        status = sources.view("status")
        return {
            "streams": self._sampler.sample(sources.running(), now=perf_counter()),
            "seen": sources.seen(),
            "limits": sources.view("agents")["agents"],
            "breakers": [
                {"provider": provider["name"], **breaker}
                for provider in status["providers"]
                for breaker in provider["breakers"]
            ],
            "totals": {
                "calls": sum(calls.values()),
                "failed": sum(count for key, count in calls.items() if key[5] != "ok"),
                "tokens_in": sum(one.tokens[0] for one in list(metrics.series.values())),
                "tokens_out": sum(one.tokens[1] for one in list(metrics.series.values())),
                "cost": sum(one.cost for one in list(metrics.series.values())),
                "unpriced": sum(one.unpriced for one in list(metrics.series.values())),
            },
            "version": status["version"],
            "uptime": status["uptime_seconds"],
            "providers": [
                {"name": each["name"], "type": each["type"], "fault": each["listing_fault"]}
                for each in status["providers"]
            ],
        }

    async def _limits(self) -> object:
        await self._sources.refresh("part")
        return self._sources.view("agents")

    def _bytes_per_token(self, call: LiveCall) -> float | None:
        return health.bytes_per_token(
            self._sources.metrics, call.provider, call.provider_model, call.endpoint
        )

    async def _calls(self, request: PageRequest) -> AsyncGenerator[bytes]:
        subscription = self._feed.subscribe(filter_of(request.arguments))
        try:
            while not self._sources.stopping():
                await self._sources.refresh("calls")
                yield encode(subscription.take())
                await asyncio.sleep(CALLS_S)
        finally:
            subscription.close()

    # --- views

    async def _health(self, request: PageRequest) -> object:
        await self._sources.refresh("part")
        metrics = self._sources.metrics
        status = self._sources.view("status")
        return {
            "status": status,
            "figures": health.providers(metrics),
            "errors": health.errors(metrics),
            "lost_lines": dict(metrics.lost_lines()),
            "series": await self._records.series(request),
        }

    async def _tools(self, request: PageRequest) -> object:
        del request
        await self._sources.refresh("part")
        return {**self._sources.view("mcp"), "definitions": await self._sources.definitions()}

    # --- changes

    async def _stop(self, request: PageRequest) -> object:
        wanted = await _body(request, StopRequest)
        named = {kind: name for kind, name in msgspec.structs.asdict(wanted).items() if name}
        if len(named) != 1:
            raise BadRequest("Name a 'request', an 'agent' or a 'run' to stop.")
        ((kind, name),) = named.items()
        request.note.target = f"{kind} {name}"
        stopped = await self._sources.stop(request=wanted.request, agent=wanted.agent, run=wanted.run)
        told = {"stopped": len(stopped.runs), **({"refused": True} if stopped.is_refused else {})}
        own = [wanted.run] if stopped.is_refused else []
        request.note.detail = dict(told)
        request.note.runs = tuple(sorted({run for run in (*stopped.runs, *own) if run}))
        return told

    async def _reset(self, request: PageRequest) -> object:
        wanted = await _body(request, ResetRequest)
        request.note.target = f"provider {wanted.provider}"
        found = await self._sources.reset(wanted.provider)
        request.note.detail = {"reset": found}
        return {"reset": found}

    async def _approve(self, request: PageRequest) -> object:
        wanted = await _body(request, ApproveRequest)
        request.note.target = f"server {wanted.server}"
        request.note.detail = {"names": [f"{each.kind} {each.name} {each.hash}" for each in wanted.names]}
        return {"approved": await self._sources.approve(wanted.server, wanted.names)}


async def _me(request: PageRequest) -> object:
    """Who has signed in, so that the page shows no buttons that would be refused."""
    return {"admin": request.admin, "may": sorted(request.may or ())}


Shape = Any


async def _body(request: PageRequest, shape: type[Shape]) -> Shape:
    try:
        return msgspec.json.decode(await request.read(MAX_CHANGE), type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not valid: {error}.") from None


def encode(value: object) -> bytes:
    """JSON of one line. Names that a client sent may hold lone surrogates, which UTF-8 has not."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value)).encode()


async def _respond(output: PageOutput, body: bytes) -> None:
    await output.respond(200, [*assets.FRESH, (b"content-type", JSON)], body)


async def _send_asset(name: str, request: PageRequest, output: PageOutput) -> None:
    asset = assets.find(name)
    if asset is None:
        raise NotFound(f"The page has no {request.path}.")
    if request.headers.get("if-none-match") == f'"{asset.tag}"':
        await output.respond(304, asset.headers(), b"")
    else:
        await output.respond(200, asset.headers(), asset.body)


async def _send_file(output: PageOutput, file: Download) -> None:
    """As text, whatever it is: a browser must not take a model's words for a page."""
    headers = [*assets.FRESH, (b"content-type", TEXT)]
    if file.name:
        headers.append((b"content-disposition", f'attachment; filename="{file.name}"'.encode()))
    await output.respond(200, headers, file.body)


async def _respond_html(output: PageOutput, status: int, body: bytes, *, cookie: bytes | None = None) -> None:
    headers = [*assets.FRESH, (b"content-type", assets.TYPES[".html"])]
    if cookie is not None:
        headers.append((b"set-cookie", cookie))
    await output.respond(status, headers, body)


def _login(complaint: str) -> bytes:
    page = assets.find("login.html")
    assert page is not None
    return page.body.replace(b"{complaint}", escape(complaint).encode())
