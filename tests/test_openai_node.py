"""The official OpenAI client for Node, unmodified, over TCP and over the Unix socket."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion

from tests.gateways import Running, gateway, one
from tests.official import strictly, validate_chunks
from tests.peers import node, node_modules
from tests.upstreams import Act, answer, chat_answer, chunk, provider, stall, stream

SCRIPT = Path(__file__).parent / "node" / "client.mjs"
DEMO = '[[providers]]\nname = "demo"\ntype = "demo"\n'
ONCE = "\n[failover]\nretries = 0\n"
NODE_WAIT_S = 40.0
WAYS = ("tcp", "unix")
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "A tool",
            "parameters": {"type": "object", "properties": {key: {"type": "string"}}, "required": [key]},
        },
    }
    for name, key in (("get_weather", "city"), ("get_time", "zone"))
]
USE_BOTH = [{"role": "user", "content": "get weather and get time, please"}]


async def ask(gw: Running, way: str, act: str, *, model: str = "m", retries: int = 0, **more: Any) -> Any:
    """What the client handed out, as JSON."""
    told = {
        "modules": f"{node_modules()}/",
        "base": ("http://localhost" if way == "unix" else gw.base) + "/models/v1",
        "socket": gw.socket if way == "unix" else None,
        "act": act,
        "model": model,
        "retries": retries,
        "streamed": more.pop("streamed", False),
        "asked": more,
    }
    process = await asyncio.create_subprocess_exec(
        str(node()),
        str(SCRIPT),
        json.dumps(told),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), NODE_WAIT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return json.loads(out)


@pytest.mark.parametrize("way", WAYS)
async def test_node_chats_and_streams(way: str, tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw:
        whole = (await ask(gw, way, "chat", model="demo"))["answer"]
        strictly(ChatCompletion, json.dumps(whole).encode())
        assert "Hi" in whole["choices"][0]["message"]["content"]
        usage = {"include_usage": True}
        chunks = (await ask(gw, way, "stream", model="demo", stream_options=usage))["chunks"]
        validate_chunks([json.dumps(each) for each in chunks], wants_usage=True)
        said = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
        assert said == whole["choices"][0]["message"]["content"]


@pytest.mark.parametrize("way", WAYS)
async def test_nodes_stream_helper_puts_calls_together(way: str, tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw:
        told = await ask(gw, way, "helper", model="demo", messages=USE_BOTH, tools=TOOLS)
        validate_chunks([json.dumps(each) for each in told["chunks"]], wants_usage=False)
        message = told["answer"]["choices"][0]["message"]
        names = [call["function"]["name"] for call in message["tool_calls"]]
        assert names == ["get_weather", "get_time"]
        assert all(isinstance(json.loads(c["function"]["arguments"]), dict) for c in message["tool_calls"])
        text = await ask(gw, way, "helper", model="demo")
        assert text["said"] == text["answer"]["choices"][0]["message"]["content"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("streamed", [False, True])
async def test_nodes_own_tool_loop_runs_to_its_end(*, streamed: bool, way: str, tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw:
        told = await ask(gw, way, "tools", model="demo", messages=USE_BOTH, tools=TOOLS, streamed=streamed)
        assert [each["name"] for each in told["called"]] == ["get_weather", "get_time"]
        assert "result of get_weather" in told["said"]
        assert "result of get_time" in told["said"]


@pytest.mark.parametrize("way", WAYS)
async def test_node_embeds_and_lists_models(way: str, tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw:
        told = await ask(gw, way, "embed", model="demo-embed")
        default, floats = told["asBase64"], told["asFloats"]
        for each in (default, floats):
            strictly(CreateEmbeddingResponse, json.dumps(each).encode())
        for ours, theirs in zip(default["data"], floats["data"], strict=True):
            assert ours["embedding"] == pytest.approx(theirs["embedding"], abs=1e-6)
        models = await ask(gw, way, "models", model="demo")
        for model in [*models["listed"], models["retrieved"]]:
            strictly(Model, json.dumps(model).encode())
        assert models["retrieved"]["id"] == "demo"


@pytest.mark.parametrize("way", WAYS)
async def test_nodes_errors_are_its_own_classes(way: str, tmp_path: Path) -> None:
    error = {"error": {"message": "slow down", "type": "t", "param": None, "code": "c"}}
    limited = answer(error, status=429, retry_after="77")
    async with provider(limited) as up, gateway(DEMO + one(up.url) + ONCE, folder=tmp_path) as gw:
        unknown = (await ask(gw, way, "chat", model="dmeo"))["error"]
        assert (unknown["class"], unknown["status"], unknown["code"]) == (
            "NotFoundError",
            404,
            "model_not_found",
        )
        assert unknown["requestId"].startswith("mpx-")
        bad = (await ask(gw, way, "stream", model="demo", n=0))["error"]
        assert (bad["class"], bad["status"], bad["param"]) == ("BadRequestError", 400, "n")
        slow = (await ask(gw, way, "chat"))["error"]
        assert (slow["class"], slow["retryAfter"]) == ("RateLimitError", "77")


@pytest.mark.parametrize("way", WAYS)
async def test_nodes_own_retries_are_answered(way: str, tmp_path: Path) -> None:
    error = {"error": {"message": "busy", "type": "t", "param": None, "code": "c"}}
    busy = answer(error, status=503, retry_after_ms="1")
    async with provider(busy, answer(chat_answer("at last"))) as up:
        async with gateway(one(up.url) + ONCE, folder=tmp_path) as gw:
            told = await ask(gw, way, "chat", retries=2)
            assert told["answer"]["choices"][0]["message"]["content"] == "at last"
        assert len(up.seen) == 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("act", ["stream", "helper"])
async def test_a_broken_stream_raises_in_node(act: str, way: str, tmp_path: Path) -> None:
    start = [chunk({"role": "assistant", "content": ""}), chunk({"content": "Hel"})]
    async with provider(stream(*start, end=False)) as up, gateway(one(up.url) + ONCE, folder=tmp_path) as gw:
        told = await ask(gw, way, act)
        assert told["error"]["class"] == "APIError"
        assert told["error"]["code"] == "upstream_error"


@pytest.mark.parametrize("way", WAYS)
async def test_node_leaving_a_stream_frees_the_provider(way: str, tmp_path: Path) -> None:
    act: Act = stream(chunk({"role": "assistant", "content": "Hel"}), then=stall)
    async with provider(act) as up, gateway(one(up.url), folder=tmp_path) as gw:
        told = await ask(gw, way, "leave")
        assert told["first"]["choices"][0]["delta"]["content"] == "Hel"
        await asyncio.wait_for(up.hung_up.wait(), NODE_WAIT_S)
        assert (await gw.record()).outcome == "client_closed"
