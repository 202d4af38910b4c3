"""While one caller's large body is parsed, judged or translated, other callers are served. The step
is held until another request was served, so no time is measured.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from modelplex.dialects.registry import DIALECTS
from modelplex.mcp.clients import http as mcp_http
from modelplex.mcp.clients.checks import read as read_message
from modelplex.pipeline import sealed_policy
from modelplex.pipeline.offload import LARGE_FOR_C
from modelplex.server import app
from tests.gateways import gateway, one
from tests.processes import request
from tests.upstreams import answer, provider, stall

WAIT_S = 20.0
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
STEPS: dict[str, tuple[Any, ...]] = {
    "read": (app, "read_request"),
    "judged": (sealed_policy, "judge"),
    "to_call": ("openai_chat", "client", "read_call"),
    "from_call": ("anthropic_messages", "provider", "write_call"),
}
"""A function of a module, or of one side of a dialect."""


class Held:
    """A step that blocks its thread until it is let go."""

    def __init__(self, step: Callable[..., Any]) -> None:
        self.step = step
        self.began, self.let_go = threading.Event(), threading.Event()

    def __call__(self, *args: Any, **more: Any) -> Any:
        self.began.set()
        assert self.let_go.wait(WAIT_S)
        return self.step(*args, **more)


def hold(name: str, monkeypatch: pytest.MonkeyPatch) -> Held:
    *where, step = STEPS[name]
    if isinstance(where[0], ModuleType):
        held = Held(getattr(where[0], step))
        monkeypatch.setattr(where[0], step, held)
        return held
    dialect = DIALECTS[where[0]]
    side = getattr(dialect, where[1])
    held = Held(getattr(side, step))
    changed = msgspec.structs.replace(dialect, **{where[1]: msgspec.structs.replace(side, **{step: held})})
    monkeypatch.setitem(DIALECTS, where[0], changed)
    return held


@pytest.mark.parametrize("name", STEPS)
async def test_other_callers_are_served_while_a_large_body_is_processed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "x" * (LARGE_FOR_C + 1)
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": text}]})
    async with provider(answer(MESSAGE)) as up:
        config = (
            '[[providers]]\nname = "up"\ntype = "anthropic"\napi_key = "k"\nmodels = ["m"]\n'
            f'base_url = "{up.url.removesuffix("/v1")}"\n'
        )
        async with gateway(config, folder=tmp_path) as running:
            held = hold(name, monkeypatch)
            large = asyncio.create_task(
                running.ask("POST", "/models/v1/chat/completions", body.encode(), unix=True)
            )
            try:
                assert await asyncio.to_thread(held.began.wait, WAIT_S)
                other = await asyncio.wait_for(running.ask("GET", "/health"), WAIT_S)
                assert other.status == 200
            finally:
                held.let_go.set()
            assert (await asyncio.wait_for(large, WAIT_S)).status == 200


async def test_a_client_that_disconnects_while_its_large_body_is_parsed_causes_no_upstream_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": "x" * (LARGE_FOR_C + 1)}]}
    ).encode()
    async with provider(stall) as up, gateway(one(up.url), folder=tmp_path) as running:
        held = hold("read", monkeypatch)
        _, writer = await asyncio.open_unix_connection(running.socket)
        writer.write(request("POST", "/models/v1/chat/completions", body))
        try:
            assert await asyncio.to_thread(held.began.wait, WAIT_S)
            writer.close()
            await asyncio.wait_for(running.ask("GET", "/health", unix=True), WAIT_S)  # after the disconnect
        finally:
            held.let_go.set()
        assert (await asyncio.wait_for(running.record(), WAIT_S)).outcome == "client_closed"
        assert not up.seen


@pytest.mark.parametrize("path", ["/mcp/v1/tools/one__echo/call", "/mcp/v1", "/mcp/v1/servers/one"])
async def test_other_callers_are_served_while_a_large_tool_call_is_parsed(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the plain form and of MCP."""
    body = json.dumps({"text": "x" * (LARGE_FOR_C + 1)}).encode()
    tool_server = '[mcp]\nenabled = true\n[[mcp.servers]]\nname = "one"\ncommand = "false"\n'
    async with gateway(one("http://127.0.0.1:9/v1") + tool_server, folder=tmp_path) as running:
        held = Held(read_message)
        monkeypatch.setattr(mcp_http, "read", held)
        large = asyncio.create_task(running.ask("POST", path, body))
        try:
            assert await asyncio.to_thread(held.began.wait, WAIT_S)
            other = await asyncio.wait_for(running.ask("GET", "/health"), WAIT_S)
            assert other.status == 200
        finally:
            held.let_go.set()
        assert (await asyncio.wait_for(large, WAIT_S)).status in {400, 404, 406, 502, 503}
