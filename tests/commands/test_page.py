"""`modelplex page`, against running gateways."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from modelplex import cli
from modelplex.commands import page as page_command
from modelplex.config.run_sockets import new_run_socket
from tests.gateways import WAIT_S, gateway
from tests.processes import free_port

DEMO = '[[providers]]\ntype = "demo"\n'
LINK = re.compile(rb"Page: (http://127\.0\.0\.1:(\d+)/_internal/)(\?token=\S+)?\n")


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


@asynccontextmanager
async def page(*words: str) -> AsyncGenerator[tuple[asyncio.subprocess.Process, re.Match[bytes]]]:
    """The running command, and its link."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "modelplex", "page", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(WAIT_S):
            found = LINK.match(await process.stdout.readline())
        assert found is not None, await process.communicate()
        yield process, found
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ask(port: bytes, target: str) -> bytes:
    async with asyncio.timeout(WAIT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(
            f"GET {target} HTTP/1.1\r\nhost: 127.0.0.1:{int(port)}\r\nconnection: close\r\n\r\n".encode()
        )
        answer = await reader.read()
        writer.close()
    return answer


def run_socket(name: str) -> str:
    path = new_run_socket(name, environ=os.environ)
    assert path is not None
    return path


async def test_the_page_of_a_run_is_served_until_its_gateway_ends(tmp_path: Path) -> None:
    config = f'[server]\nadmin_socket = "{run_socket("run-1")}"\n' + DEMO
    async with gateway(config, folder=tmp_path):
        serving = page("run-1")
        process, link = await serving.__aenter__()
        token = (link[3] or b"").decode()
        assert b"set-cookie: modelplex_page=" in await ask(link[2], f"/_internal/{token}")
        assert (await ask(link[2], "/_internal/")).startswith(b"HTTP/1.1 401 ")
        assert b'"service":"modelplex"' in await ask(link[2], "/health")
        assert (await ask(link[2], "/v1/models")).startswith(b"HTTP/1.1 404 ")
    try:
        assert (await ask(link[2], "/health")).startswith(b"HTTP/1.1 503 ")
        async with asyncio.timeout(WAIT_S):
            assert await process.wait() == 0
    finally:
        await serving.__aexit__(None, None, None)


async def test_the_page_of_a_gateway_with_http_is_its_own(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path, port=free_port()) as gw:
        async with page() as (process, link):
            assert await process.wait() == 0
        assert link[1].decode() == gw.base.rstrip("/") + "/_internal/"
        assert link[3] is not None


async def test_a_token_of_the_config_is_not_printed(tmp_path: Path) -> None:
    config = f'[server]\ninternal_token = "token-of-operator"\nadmin_socket = "{tmp_path}/a.sock"\n' + DEMO
    async with gateway(config, folder=tmp_path), page("--at", "a.sock") as (_, link):
        assert link[3] is None
        assert (await ask(link[2], "/_internal/")).startswith(b"HTTP/1.1 401 ")


async def test_of_several_gateways_one_is_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = f'[server]\nadmin_socket = "{run_socket("run-1")}"\n' + DEMO
    async with gateway(config, folder=tmp_path, port=free_port()) as gw:
        assert await asyncio.to_thread(cli.main, ["page"]) == 2
        assert await asyncio.to_thread(cli.main, ["page", "run-2"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == f"modelplex: several gateways run: {gw.base.rstrip('/')}, modelplex page run-1."
    assert errors[1].startswith("modelplex: the gateway of run-2 does not run")


def test_where_none_runs_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        (tmp_path / "config.toml").write_text(
            f'[server]\nhttp = "127.0.0.1:{taken.getsockname()[1]}"\nadmin_socket = "a.sock"\n' + DEMO
        )
        assert cli.main(["page"]) == 1
        assert cli.main(["page", "--at", "none.sock"]) == 1
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("a.sock")
            listening.listen()
            assert cli.main(["page", "--port", str(taken.getsockname()[1])]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors[0].startswith("modelplex: no gateway runs;")
    assert "no gateway listens on" in errors[1]
    assert "cannot be used: " in errors[2]


async def test_more_connections_than_a_browser_opens_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_command, "CONNECTIONS", 1)
    async with gateway(f'[server]\nadmin_socket = "{tmp_path}/a.sock"\n' + DEMO, folder=tmp_path):
        relay = page_command.PageRelay(f"{tmp_path}/a.sock")
        serving = asyncio.create_task(relay.serve(0, ""))
        async with asyncio.timeout(WAIT_S):
            while not relay.port:
                await asyncio.sleep(0.005)
            reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
            writer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            assert await ask(str(relay.port).encode(), "/health") == b""
            writer.close()
            serving.cancel()
            await asyncio.wait([serving])
