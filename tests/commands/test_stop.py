"""`modelplex stop`, against a running gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from modelplex import cli
from modelplex.server.record_store import RUN_VARIABLE
from tests.gateways import WAIT_S, Running, gateway, one
from tests.upstreams import provider, stall

AGENT = '[[agents]]\nname = "coder"\ntoken = "token-of-coder"\n'
HEADERS = ((b"authorization", b"Bearer token-of-coder"), (b"content-type", b"application/json"))
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


async def stopped(gw: Running, folder: Path, what: str) -> int:
    """The exit status of the command."""
    at = gw.base.removeprefix("http://").rstrip("/")
    words = ["stop", what, "--at", at, "--config", str(folder / "config.toml")]
    return await asyncio.to_thread(cli.main, words)


async def in_flight(gw: Running) -> None:
    async with asyncio.timeout(WAIT_S):
        while not gw.process.app.running:
            await asyncio.sleep(0.005)


async def test_the_calls_of_an_agent_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with provider(stall) as up:
        config = '[server]\ninternal_token = "token-of-operator"\n' + one(up.url) + AGENT
        async with gateway(config, folder=tmp_path) as gw:
            call = asyncio.create_task(gw.ask("POST", "/v1/chat/completions", BODY, headers=HEADERS))
            await in_flight(gw)
            assert await stopped(gw, tmp_path, "somebody") == 1
            assert await stopped(gw, tmp_path, "mpx-none") == 1
            assert not call.done()
            assert await stopped(gw, tmp_path, "coder") == 0
            answer = await asyncio.wait_for(call, WAIT_S)
            assert answer.status >= 400
    assert capsys.readouterr().out.splitlines()[-1] == "1 call stopped"


async def test_the_calls_of_a_run_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another run there is none at its gateway."""
    monkeypatch.setenv(RUN_VARIABLE, '{"id":"run-1","started":0}')
    async with provider(stall) as up:
        config = '[server]\ninternal_token = "token-of-operator"\n' + one(up.url)
        async with gateway(config, folder=tmp_path) as gw:
            call = asyncio.create_task(gw.ask("POST", "/v1/chat/completions", BODY))
            await in_flight(gw)
            assert await stopped(gw, tmp_path, "run-2") == 1
            assert not call.done()
            assert await stopped(gw, tmp_path, "run-1") == 0
            assert (await asyncio.wait_for(call, WAIT_S)).status >= 400


async def test_without_the_token_nothing_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with gateway(
        '[server]\ninternal_token = "token-of-operator"\n[[providers]]\ntype = "demo"\n', folder=tmp_path
    ) as gw:
        other = tmp_path / "other.toml"
        other.write_text('[server]\ninternal_token = "another-token"\n[[providers]]\ntype = "demo"\n')
        at = gw.base.removeprefix("http://").rstrip("/")
        words = ["stop", "coder", "--at", at, "--config", str(other)]
        assert await asyncio.to_thread(cli.main, words) == 1
    assert "the gateway refuses" in capsys.readouterr().err


def test_a_gateway_that_does_not_run_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        f'[server]\nsocket = "{tmp_path / "a.sock"}"\ninternal_token = "token-of-operator"\n[[providers]]\ntype = "demo"\n'
    )
    assert cli.main(["stop", "coder", "--config", str(file)]) == 1
    assert "neither an admin_socket nor HTTP" in capsys.readouterr().err
    assert cli.main(["stop", "coder", "--config", str(file), "--at", str(tmp_path / "none.sock")]) == 1
    assert "does not answer" in capsys.readouterr().err
