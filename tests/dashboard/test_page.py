"""The paths of the page: who may use them, and what they send."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Self

import pytest

from modelplex.dashboard import page
from modelplex.dashboard.access import COOKIE, cookie_of
from modelplex.dashboard.page import encode
from tests.dashboard.scene import Scene, scene
from tests.gateways import WAIT_S, Answer

API = "/_internal/page/api"


async def ask(made: Scene, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    given = {"authorization": f"Bearer {made.token}"} | headers
    rows = [(name.encode(), value.encode()) for name, value in given.items() if value]
    data = b"" if body is None else json.dumps(body).encode()
    return await made.running.ask(method, API + path, data, headers=rows)


class Events:
    """The events of one stream."""

    def __init__(self, made: Scene, path: str) -> None:
        self._made = made
        self._path = path

    async def __aenter__(self) -> Self:
        made = self._made
        host, _, port = made.running.base.removeprefix("http://").rpartition(":")
        self._reader, self._writer = await asyncio.open_connection(host, int(port))
        self._writer.write(
            f"GET {API}{self._path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {made.token}\r\n\r\n".encode()
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def next(self) -> Any:
        async with asyncio.timeout(WAIT_S):
            while True:
                line = await self._reader.readline()
                assert line, "the stream has ended"
                if line.startswith(b"data: "):
                    return json.loads(line.removeprefix(b"data: "))

    async def end(self) -> bytes:
        async with asyncio.timeout(WAIT_S):
            return await self._reader.read()


READS = ["/now", "/calls", "/calls/live", "/health", "/tools"]
CHANGES = ["/stop", "/reset", "/approve"]


async def test_everything_needs_the_token_and_every_change_more_than_the_cookie(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        cookie = f"{COOKIE}={cookie_of(made.token)}"
        for path in READS:
            assert (await ask(made, "GET", path, authorization="")).status == 401
            assert (await ask(made, "GET", path, authorization="Bearer x")).status == 401
            foreign = {"authorization": "", "cookie": cookie, "sec-fetch-site": "same-site"}
            assert (await ask(made, "GET", path, **foreign)).status == 403
            assert (await ask(made, "POST", path, {})).status == 405
        for path in CHANGES:
            body = {"provider": "openai"}
            assert (await ask(made, "POST", path, body, authorization="")).status == 401
            assert (await ask(made, "POST", path, body, authorization="", cookie=cookie)).status == 403
            assert (await ask(made, "GET", path)).status == 405
        own = {"authorization": "", "cookie": cookie, "origin": made.running.base}
        assert (await ask(made, "POST", "/reset", {"provider": "openai"}, **own)).json == {"reset": 0}
        assert (await ask(made, "GET", "/nothing")).status == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/stop", {}),
        ("/stop", {"request": "a", "agent": "b"}),
        ("/stop", {"request": 1}),
        ("/reset", {"provider": "x", "more": 1}),
        ("/approve", {"server": "files", "names": [{"kind": "tool", "name": "x"}]}),
    ],
)
async def test_a_change_that_is_not_understood_is_refused(tmp_path: Path, path: str, body: Any) -> None:
    async with scene(tmp_path) as made:
        assert (await ask(made, "POST", path, body)).status == 400


async def test_now_shows_streams_agents_and_circuits(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        await made.call("coder", "best")
        made.start("coder", "gpt-5-slow")
        async with Events(made, "/now") as events:
            while not (data := await events.next())["streams"] or data["streams"][0]["rate"] is None:
                pass
        (stream,) = data["streams"]
        assert (stream["agent"], stream["model"], stream["state"]) == ("coder", "gpt-5-slow", "streaming")
        assert stream["tokens"] > 0
        assert stream["rate"] > 0
        assert [each["agent"] for each in data["limits"]] == ["coder", "reviewer", "researcher"]
        (breaker,) = data["breakers"]
        assert (breaker["provider"], breaker["state"]) == ("openai", "open")
        assert breaker["tried_again_in_seconds"] > 0
        assert data["totals"]["calls"] == 1


async def test_calls_come_as_they_end_and_only_those_that_match(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        async with Events(made, "/calls/live?agent=coder") as events:
            await events.next()
            await made.call("coder", "gpt-5-fast")
            await made.call("reviewer", "claude-opus-fast")
            ended, rows = 0, list[Any]()
            while ended < 2:
                sample = await events.next()
                ended += sample["ended"]
                rows += sample["rows"]
        (row,) = rows
        assert (row["agent"], row["model"], row["outcome"]) == ("coder", "gpt-5-fast", "ok")
        assert row["cost"] == pytest.approx((400 * 3 + 800 * 0.3 + 40 * 15) / 1e6)


async def test_a_page_that_is_closed_leaves_nothing_behind(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        before = len(made.running.process.sinks)
        async with Events(made, "/calls/live") as events:
            await events.next()
            assert len(made.running.process.sinks) == before + 1
        async with asyncio.timeout(WAIT_S):
            while len(made.running.process.sinks) > before:
                await asyncio.sleep(0.01)


async def test_only_so_many_pages_may_look_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "STREAMS", 1)
    async with scene(tmp_path) as made:
        async with Events(made, "/now") as events:
            await events.next()
            assert (await ask(made, "GET", "/now")).status == 503


async def test_a_gateway_that_stops_waits_for_no_page(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        async with Events(made, "/now") as events:
            await events.next()
            made.running.process.stop()
            assert (await events.end()).endswith(b"0\r\n\r\n")


async def test_health_has_figures_and_errors(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        await made.call("coder", "gpt-5-fast")
        await made.call("coder", "no-such-model")
        found = (await ask(made, "GET", "/health")).json
        assert found["figures"][0]["provider"] == "openai"
        assert found["figures"][0]["total"][0] > 0
        assert found["errors"] == [{"blame": "client", "code": "model_not_found", "provider": "", "count": 1}]
        assert [each["name"] for each in found["status"]["providers"]] == ["openai", "anthropic", "local"]


async def test_files_are_sent_once_and_then_confirmed(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        first = await made.running.ask("GET", "/_internal/page/static/app.js")
        assert first.status == 200
        again = await made.running.ask(
            "GET",
            "/_internal/page/static/app.js",
            headers=[(b"if-none-match", first.headers["etag"].encode())],
        )
        assert (again.status, again.body) == (304, b"")
        assert (await made.running.ask("GET", "/_internal/page/static/../page.py")).status == 400
        assert (await made.running.ask("GET", "/_internal/page/static/page.py")).status == 404


def test_a_lone_surrogate_does_not_break_an_event() -> None:
    assert encode({"model": "a\ud800\n"}) == b'{"model": "a\\ud800\\n"}'
