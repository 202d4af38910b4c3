"""`/health/live` and `/health/ready`."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from tests.gateways import gateway, one
from tests.processes import answers, exchange, read_response, request, served, until
from tests.upstreams import answer, provider

ALIAS = '[aliases]\nfast = "up/m"\n'


async def test_an_alias_without_a_usable_provider_is_named_to_the_host_alone(tmp_path: Path) -> None:
    async with provider(answer(b'{"error":{"message":"no such key: sk-1"}}', status=401)) as up:
        config = f'[server]\nadmin_socket = "{tmp_path / "admin.sock"}"\n{ALIAS}' + one(
            up.url, api_key="k" * 12
        )
        async with gateway(config, folder=tmp_path) as running:
            assert (await running.ask("GET", "/health/ready")).json == {"status": "ready"}
            # Two callers: the failure of one is its own until another has it too.
            await running.chat("fast")
            await running.chat("fast", unix=True)
            refused = await running.ask("GET", "/health/ready")
            assert (refused.status, refused.error["code"]) == (503, "not_ready")
            assert "the alias 'fast' has no provider" in refused.error["message"].replace("The", "the")
            sent = request("GET", "/health/ready")
            there = read_response(await exchange(str(tmp_path / "admin.sock"), sent))
            assert "'fast'" in there.error["message"]
            hidden = await running.ask("GET", "/health/ready", unix=True)
            assert hidden.status == 503
            assert hidden.error["message"].startswith("Not ready. (request ")
            assert (await running.ask("GET", "/health/live", unix=True)).json == {"status": "live"}
            running.process._admin.readiness.stopping = True
            assert "stops" in (await running.ask("GET", "/health/ready")).error["message"]


async def test_readiness_turns_before_the_listener_closes(tmp_path: Path) -> None:
    for workers in (1, 2):
        text = f'[server]\ndrain_grace = 30\nworkers = {workers}\n[[providers]]\ntype = "demo"\n'
        async with served(text, folder=tmp_path) as running:
            assert (await running.ask("GET", "/health/ready")).status == 200
            running.signal(signal.SIGTERM)
            await running.line("stopping")

            async def is_not_ready() -> bool:
                return (await running.ask("GET", "/health/ready")).status == 503

            async with asyncio.timeout(20):
                while not await is_not_ready():
                    await asyncio.sleep(0.01)
            assert (await running.ask("GET", "/health/live")).status == 200
            assert (await running.chat("demo")).status == 200
            # A second signal ends the wait.
            running.signal(signal.SIGTERM)
            await until(lambda: not answers(running.socket), what="the end of the listener")
            assert await running.exit() == 0
