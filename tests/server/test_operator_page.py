"""The page on a real gateway: on HTTP and the admin socket, and on no agent's socket."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from modelplex.dashboard.access import COOKIE, cookie_of
from modelplex.server.operator_page import reachable
from tests.gateways import WAIT_S, Answer, Running, gateway

DEMO = '[[providers]]\nname = "demo"\ntype = "demo"\n'
SERVER = '[server]\nadmin_socket = "{folder}/admin.sock"\nstate_folder = "{folder}/state"\n'


def config(folder: Path, more: str = "") -> str:
    return SERVER.format(folder=folder) + more + DEMO


async def ask(running: Running, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
    rows = [(name.encode(), value.encode()) for name, value in headers.items()]
    return await running.ask(method, target, body, headers=rows)


async def test_the_page_asks_for_its_token_and_a_link_with_it_sets_a_cookie(tmp_path: Path) -> None:
    async with gateway(config(tmp_path), folder=tmp_path) as running:
        token = running.process.page.token()
        refused = await ask(running, "GET", "/_internal/")
        assert (refused.status, b"paste its token" in refused.body) == (401, True)
        wrong = await ask(running, "GET", "/_internal/?token=nonsense")
        assert (wrong.status, "set-cookie" in wrong.headers) == (403, False)
        (link,) = running.process.page.links(running.process.addresses)
        opened = await ask(running, "GET", link.removeprefix(running.base))
        assert opened.status == 200
        cookie = opened.headers["set-cookie"]
        assert cookie.startswith(f"{COOKIE}={cookie_of(token)};")
        assert token not in cookie
        page = await ask(running, "GET", "/_internal/", cookie=cookie.partition(";")[0])
        assert (page.status, b"app.js" in page.body) == (200, True)
        assert "require-trusted-types-for 'script'" in page.headers["content-security-policy"]


async def test_the_token_can_be_pasted_from_this_page_alone(tmp_path: Path) -> None:
    async with gateway(config(tmp_path), folder=tmp_path) as running:
        body = f"token={running.process.page.token()}".encode()
        own = await ask(running, "POST", "/_internal/page/login", body, origin=running.base)
        assert (own.status, "set-cookie" in own.headers) == (200, True)
        other = await ask(running, "POST", "/_internal/page/login", body, origin="http://127.0.0.1:1")
        assert other.status == 403
        wrong = await ask(running, "POST", "/_internal/page/login", b"token=x")
        assert (wrong.status, b"not the token" in wrong.body) == (403, True)


async def test_a_configured_token_is_that_of_the_page_and_no_link_tells_it(tmp_path: Path) -> None:
    async with gateway(config(tmp_path, 'internal_token = "chosen-by-me"\n'), folder=tmp_path) as running:
        assert running.process.page.links(running.process.addresses) == [f"{running.base}/_internal/"]
        health = await ask(running, "GET", "/_internal/page/api/health", authorization="Bearer chosen-by-me")
        assert health.status == 200
        assert (await ask(running, "GET", "/_internal/page/api/health")).status == 401


async def test_a_restart_keeps_link_and_cookie(tmp_path: Path) -> None:
    links: list[str] = []
    for _ in range(2):
        async with gateway(config(tmp_path), folder=tmp_path) as running:
            links.append(running.process.page.links(running.process.addresses)[0].partition("?")[2])
    assert links[0] == links[1]


async def test_the_links_are_printed_on_standard_output_and_not_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with gateway(config(tmp_path), folder=tmp_path) as running:
        token = running.process.page.token()
        out, err = capsys.readouterr()
        assert out == f"Page: {running.base}/_internal/?token={token}\n"
        assert token not in err + (tmp_path / "log.json").read_text()


def test_a_wildcard_address_is_opened_as_localhost() -> None:
    assert reachable("http://0.0.0.0:80") == "http://localhost:80"
    assert reachable("http://[::]:80") == "http://localhost:80"
    assert reachable("http://127.0.0.1:80") == "http://127.0.0.1:80"


async def test_the_admin_socket_is_for_the_host_alone_and_has_no_model(tmp_path: Path) -> None:
    async with gateway(config(tmp_path), folder=tmp_path) as running:
        admin = tmp_path / "admin.sock"
        assert admin.stat().st_mode & 0o777 == 0o600
        agents, running.socket = running.socket, str(admin)
        for path in ("/_internal/status", "/_internal/metrics", "/health"):
            assert (await running.ask("GET", path, unix=True)).status == 200
        assert (await running.ask("GET", "/_internal/", unix=True)).status == 401
        for path in ("/v1/models", "/mcp/v1/tools", "/", "/api/tags"):
            assert (await running.ask("GET", path, unix=True)).status == 404
        assert (await running.chat("demo", unix=True)).status == 404
        running.socket = agents
        for path in ("/_internal/", "/_internal/page/api/health", "/_internal/page/static/app.js"):
            assert (await running.ask("GET", path, unix=True)).status == 404


async def test_the_admin_socket_checks_the_host_as_a_browser_may_be_forwarded_to_it(tmp_path: Path) -> None:
    async with gateway(config(tmp_path), folder=tmp_path):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "admin.sock"))
        writer.write(b"GET /_internal/status HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n")
        async with asyncio.timeout(WAIT_S):
            assert (await reader.read()).startswith(b"HTTP/1.1 421")
        writer.close()


async def test_the_path_without_a_slash_leads_to_the_page(tmp_path: Path) -> None:
    async with gateway(config(tmp_path), folder=tmp_path) as running:
        found = await ask(running, "GET", "/_internal")
        assert (found.status, found.headers["location"]) == (308, "/_internal/")


async def test_the_page_is_loaded_when_somebody_opens_it(tmp_path: Path) -> None:
    async with gateway(config(tmp_path), folder=tmp_path) as running:
        assert repr(running.process.page) == "<OperatorPage None>"
        await ask(running, "GET", "/_internal/")
        assert repr(running.process.page) == "<OperatorPage <Dashboard 0 streams open>>"
        assert "modelplex.dashboard.page" in sys.modules
