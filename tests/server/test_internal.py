"""/_internal/ on a real gateway: which token may do what, by every method and form of a path, and
that what was done or refused is on the record.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from modelplex.dashboard.access import COOKIE, cookie_of
from modelplex.records.admin_act import AdminAct
from modelplex.records.store.database import open_database
from modelplex.records.store.queries import recent_acts, recent_calls
from modelplex.server.internal_routes import ROUTES, InternalRoute
from tests.gateways import Answer, Running, gateway
from tests.processes import Answer as RawAnswer
from tests.processes import exchange, read_response, request, until

DEMO = '[[providers]]\nname = "demo"\ntype = "demo"\n'
TOKENS = {name: f"the-token-that-may-{name}" for name in ("metrics", "read", "stop", "change")}


def config(folder: Path, more: str = "", server: str = "") -> str:
    admins = "".join(
        f'[[server.admins]]\nname = "{name}er"\ntoken = "{token}"\nmay = ["{name}"]\n'
        for name, token in TOKENS.items()
    )
    return (
        f'[server]\nadmin_socket = "{folder / "admin.sock"}"\n{server}{admins}{DEMO}{more}'
        f'[record]\ncontent = "metadata"\nstore = "{folder / "records.sqlite"}"\n'
        f'[[agents]]\nname = "coder"\nsocket = "{folder / "coder.sock"}"\n'
    )


@asynccontextmanager
async def served(folder: Path, more: str = "", server: str = "") -> AsyncGenerator[Running]:
    async with gateway(config(folder, more, server), folder=folder) as running:
        yield running


async def ask(running: Running, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    rows = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return await running.ask(method, f"/_internal/{path}", body, headers=rows)


def bearer(name: str) -> str:
    return f"Bearer {TOKENS[name]}"


async def at_socket(
    path: Path, method: str, target: str, body: Any = None, headers: tuple[str, ...] = ()
) -> RawAnswer:
    data = b"" if body is None else json.dumps(body).encode()
    sent = request(method, f"/_internal/{target}", data, headers=list(headers))
    return read_response(await exchange(str(path), sent), head=method == "HEAD")


async def acts(folder: Path, count: int) -> list[AdminAct]:
    """So many acts of the record, the newest first."""
    found: list[AdminAct] = []

    def read() -> bool:
        nonlocal found
        database = open_database(folder / "records.sqlite", read_only=True)
        try:
            found = recent_acts(database)
        finally:
            database.close()
        return len(found) >= count

    await until((folder / "records.sqlite").exists, what="the store")
    await until(read, what=f"{count} acts")
    return found


def path_of(route: InternalRoute) -> str:
    return route.path.replace("{name}", "coder").replace("{id}", "mpx-1")


CHANGES = [route for route in ROUTES if route.act]
STREAMS = {"page/api/now", "page/api/calls/live"}


async def test_each_token_gets_its_own_routes_by_each_method(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        for route in ROUTES:
            if route.right == "anybody":
                continue
            for name in TOKENS:
                allowed = name == route.right or (name == "read" and route.right == "metrics")
                for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
                    if allowed and (route.path in STREAMS or route.method == "DELETE"):
                        continue  # these answer without end, or take the agent away
                    answer = await ask(running, method, path_of(route), authorization=bearer(name))
                    others = [each.method for each in ROUTES if each.path == route.path]
                    if method not in {*others, "HEAD"} or (method == "HEAD" and "GET" not in others):
                        assert answer.status == 405, (method, route)
                    elif route.method == ("GET" if method == "HEAD" else method):
                        assert (answer.status == 403) is not allowed, (method, route, name)
                        assert answer.status != 401


async def test_no_form_of_a_path_and_no_header_gives_a_reader_more(tmp_path: Path) -> None:
    forms = ["page/api/stop/", "page//api/stop", "page/api/./stop", "page/api/../api/stop", "page/api/%73top",
             "page/api/stop%2f", "page/api/stop;x", "page/api/stop?x=1", "PAGE/API/STOP", "./page/api/stop",
             "page/api/calls/../stop", "status/../page/api/stop", "page%2fapi%2fstop", "page\\api\\stop"]  # fmt: skip
    async with served(tmp_path) as running:
        for form in forms:
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
                headers = {
                    "authorization": bearer("read"),
                    "x_http_method_override": "POST",
                    "x_method_override": "DELETE",
                    "x_original_url": "/_internal/page/api/stop",
                    "x_forwarded_for": "127.0.0.1",
                }
                answer = await ask(running, method, form, {"agent": "coder"}, **headers)
                assert answer.status in {400, 403, 404, 405}, (method, form)
                assert b"stopped" not in answer.body
        query = f"status?token={TOKENS['change']}&access_token={TOKENS['change']}"
        assert (await ask(running, "GET", query)).status == 401
        assert (await ask(running, "PUT", f"agents/a?token={TOKENS['change']}", {})).status == 401


async def test_two_tokens_at_once_give_no_more_than_one(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        page = f"{COOKIE}={cookie_of(TOKENS['stop'])}"
        both = {"authorization": bearer("read"), "cookie": page, "origin": running.base}
        assert (await ask(running, "POST", "page/api/stop", {"agent": "coder"}, **both)).status == 403
        rows = [(b"authorization", bearer(name).encode()) for name in ("stop", "read")]
        answer = await running.ask("POST", "/_internal/page/api/stop", {"agent": "coder"}, headers=rows)
        assert answer.status in {400, 403}


async def test_signing_in_with_a_token_gives_a_cookie_with_its_rights_alone(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        page_token = running.process.page.token()
        for name, token in TOKENS.items():
            answer = await ask(running, "GET", f"?token={token}")
            cookie = answer.headers["set-cookie"].partition(";")[0]
            assert cookie == f"{COOKIE}={cookie_of(token)}" != f"{COOKIE}={cookie_of(page_token)}"
            own = {"cookie": cookie, "origin": running.base}
            for route in CHANGES:
                if route.part == "page":
                    done = await ask(running, route.method, route.path, {}, **own)
                    assert (done.status == 403) is (name != route.right)
                else:  # a cookie is for the page alone
                    done = await ask(running, route.method, path_of(route), {}, **own)
                    assert done.status == 401
            me = await ask(running, "GET", "page/api/me", **own)
            if name == "read":
                assert me.json == {"admin": "reader", "may": ["read"]}
            else:
                assert me.status == 403
        other = {"cookie": f"{COOKIE}={cookie_of(TOKENS['stop'])}", "sec_fetch_site": "cross-site"}
        assert (await ask(running, "POST", "page/api/stop", {"agent": "coder"}, **other)).status == 403


async def test_streams_need_the_right_to_read(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        for path in STREAMS:
            for name in ("metrics", "stop", "change"):
                assert (await ask(running, "GET", path, authorization=bearer(name))).status == 403
                upgrade = {"upgrade": "websocket", "connection": "upgrade", "sec_websocket_key": "x"}
                answer = await ask(running, "GET", path, authorization=bearer(name), **upgrade)
                assert answer.status in {400, 403, 426}
            assert (await ask(running, "GET", path)).status == 401
            stream = await running.send(
                "GET", f"/_internal/{path}", headers=[(b"authorization", bearer("read").encode())]
            )
            assert stream.status == 200
            stream.close()


async def test_an_agents_socket_has_none_of_it_whatever_is_sent(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        for route in ROUTES:
            for token in (TOKENS[name] for name in ("read", "change")):
                for socket in ("coder.sock", "m.sock"):
                    answer = await at_socket(
                        tmp_path / socket,
                        route.method,
                        path_of(route),
                        {},
                        (f"authorization: Bearer {token}",),
                    )
                    assert answer.status in {404, 405}, route
        page = running.process.page.token()
        headers = (f"cookie: {COOKIE}={cookie_of(page)}", f"authorization: Bearer {page}")
        answer = await at_socket(
            tmp_path / "coder.sock", "POST", "page/api/stop", {"agent": "coder"}, headers
        )
        assert answer.status == 404
        ready = await running.ask("GET", "/health/ready", unix=True)
        assert ready.status == 200


async def test_agents_are_added_over_http_by_an_admin_who_may_change(tmp_path: Path) -> None:
    agent = {"socket": str(tmp_path / "a.sock"), "token": "a-token-of-the-agent", "budget": {"usd": 2.0}}
    async with served(tmp_path) as running:
        made = await ask(running, "PUT", "agents/a", agent, authorization=bearer("change"))
        assert (made.status, made.json) == (200, {"agent": "a", "outcome": "created"})
        assert (tmp_path / "a.sock").exists()
        page = f"Bearer {running.process.page.token()}"
        refused = await ask(running, "DELETE", "agents/a", authorization=page)
        assert (refused.status, refused.error["code"]) == (403, "admin_may_not")
        assert "the page token adds and removes no agents" in refused.error["message"]
        more = {**agent, "token": "another-token-of-it", "budget": {"usd": 5.0}}
        await ask(running, "PUT", "agents/a", more, authorization=bearer("change"))
        gone = await at_socket(tmp_path / "admin.sock", "DELETE", "agents/a")
        assert gone.json == {"agent": "a", "outcome": "deleted"}
    deleted, changed, denied, created = await acts(tmp_path, 4)
    assert (created.act, created.target, created.by, created.admin) == (
        "put agent",
        "agent a",
        "token",
        "changeer",
    )
    settings: Any = created.detail["settings"]
    assert settings["budget"]["usd"] == 2.0
    assert settings["token"] == "********"
    assert (denied.outcome, denied.by, denied.admin, denied.code) == (
        "refused",
        "page token",
        "",
        "admin_may_not",
    )
    assert changed.detail["outcome"] == "replaced"
    assert set(changed.detail["settings"]) == {"budget", "token"}  # type: ignore[call-overload]
    assert (deleted.act, deleted.by, deleted.client) == ("delete agent", "socket", "")
    assert (deleted.uid is not None, deleted.pid > 0) == (True, True)
    for text in (str([deleted, changed, denied, created]), (tmp_path / "log.json").read_text()):
        for secret in ("a-token-of-the-agent", "another-token-of-it", *TOKENS.values()):
            assert secret not in text


async def test_what_is_done_and_what_is_refused_is_recorded_and_logged(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        stopped = await ask(
            running, "POST", "page/api/stop", {"agent": "coder"}, authorization=bearer("stop")
        )
        assert stopped.json == {"stopped": 0}
        reset = await ask(
            running, "POST", "page/api/reset", {"provider": "demo"}, authorization=bearer("change")
        )
        assert reset.json == {"reset": 0}
        body = {"server": "files", "names": [{"kind": "tool", "name": "x", "hash": "0" * 64}]}
        failed = await ask(running, "POST", "page/api/approve", body, authorization=bearer("change"))
        assert failed.status == 400
        page = f"{COOKIE}={cookie_of(running.process.page.token())}"
        own = {"cookie": page, "origin": running.base}
        assert (await ask(running, "POST", "page/api/reset", {"provider": "demo"}, **own)).status == 200
        assert (await ask(running, "POST", "page/api/reset", {"provider": "demo"}, cookie=page)).status == 403
        assert (await ask(running, "POST", "page/api/stop", {}, authorization=bearer("read"))).status == 403
        assert (await ask(running, "POST", "page/api/stop", {})).status == 401
        await ask(running, "GET", "status", authorization=bearer("read"))
        shown = await ask(running, "GET", "page/api/acts", authorization=bearer("read"))
        assert shown.json["stored"] is True
    found = [
        (each.act, each.target, each.outcome, each.by, each.admin, each.status)
        for each in await acts(tmp_path, 7)
    ]
    assert found[::-1] == [
        ("stop", "agent coder", "ok", "token", "stoper", 200),
        ("reset circuits", "provider demo", "ok", "token", "changeer", 200),
        ("approve definitions", "server files", "error", "token", "changeer", 400),
        ("reset circuits", "provider demo", "ok", "page token (page)", "", 200),
        ("reset circuits", "", "refused", "page token (page)", "", 403),
        ("stop", "", "refused", "token", "reader", 403),
        ("stop", "", "refused", "nobody", "", 401),
    ]
    lines = [json.loads(line) for line in (tmp_path / "log.json").read_text().splitlines()]
    logged = [line for line in lines if line["event"] == "admin act"]
    assert [(line["act"], line["outcome"]) for line in logged] == [
        (act, outcome) for act, _, outcome, *_ in found[::-1]
    ]
    database = open_database(tmp_path / "records.sqlite", read_only=True)
    assert recent_calls(database) == []  # they are no calls
    database.close()


async def test_a_reload_takes_and_gives_rights(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        assert (await ask(running, "GET", "status", authorization=bearer("read"))).status == 200
        file = tmp_path / "config.toml"
        file.write_text(file.read_text().replace('may = ["read"]', 'may = ["stop"]'))
        await running.process.reload()
        assert (await ask(running, "GET", "status", authorization=bearer("read"))).status == 403
        stopped = await ask(
            running, "POST", "page/api/stop", {"agent": "coder"}, authorization=bearer("read")
        )
        assert stopped.status == 200


async def test_the_page_token_can_be_configured_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path, server="page_token = false\n") as running:
        assert capsys.readouterr().out == f"Page: {running.base}/_internal/\n"
        assert not (tmp_path / "state" / "page-token").exists()
        for token in ("", "%20"):
            assert (await ask(running, "GET", f"?token={token}")).status == 403
            assert (
                await ask(running, "GET", "page/api/health", authorization=f"Bearer {token}")
            ).status == 401
        cookie = f"{COOKIE}={cookie_of('')}"
        assert (await ask(running, "GET", "page/api/health", cookie=cookie)).status == 401


async def test_readiness_tells_only_readers_what_is_not_ready(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        running.process.app.admin.readiness.stopping = True
        for name, told in (("read", True), ("metrics", False), ("change", False)):
            answer = await running.ask(
                "GET", "/health/ready", headers=[(b"authorization", bearer(name).encode())]
            )
            assert (answer.status, b"The gateway stops" in answer.body) == (503, told)
        assert b"The gateway stops" not in (await running.ask("GET", "/health/ready")).body
        running.process.app.admin.readiness.stopping = False


async def test_a_call_that_is_stopped_is_told_and_the_act_names_it(tmp_path: Path) -> None:
    from tests.upstreams import provider, stall

    async with provider(stall) as up:
        text = f'[[providers]]\nname = "up"\ntype = "openai"\nbase_url = "{up.url}"\nmodels = ["m"]\napi_key = "k"\n'
        async with served(tmp_path, text) as running:
            call = asyncio.create_task(running.chat("m"))
            await until(lambda: bool(running.process.app.running), what="the call")
            live = running.process.page.own_sources().running
            await until(lambda: bool(live()) and bool(live()[0].provider), what="its provider")
            (one,) = live()
            answer = await ask(
                running, "POST", "page/api/stop", {"request": one.id}, authorization=bearer("stop")
            )
            assert answer.json == {"stopped": 1}
            assert (await call).error["code"] == "stopped_by_operator"
    (act,) = await acts(tmp_path, 1)
    assert (act.target, act.detail) == (f"request {one.id}", {"stopped": 1})
