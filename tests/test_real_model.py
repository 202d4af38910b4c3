"""A real model on a real llama.cpp server, behind `type = "openai"`: what a user has, and no script
of ours in between.

The model is a small base model: what it says is never looked at, only that it says something and
how it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.gateways import WAIT_S, Running, gateway, one
from tests.official import WAYS, Official, official
from tests.upstreams import STREAM_HEAD, Scripted, answer, chat_answer, chat_stream, chunk, provider

pytestmark = pytest.mark.real

MODEL = "gemma-3-270m"
LAST = "\n[failover]\nbackoff = 0.01\nbreaker_cooldown = 600\n"
RUSH = 20


def real(url: str, **more: Any) -> str:
    return one(url, name="real", models=f'["{MODEL}"]', **more)


@pytest.fixture(params=WAYS)
async def client(llama: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Official]:
    async with gateway(real(llama), folder=tmp_path) as gw, official(gw, request.param, ours=False) as asking:
        yield asking


async def test_it_chats(client: Official) -> None:
    got = await client.chat(model=MODEL, max_tokens=8)
    assert got.choices[0].message.content is not None
    assert got.choices[0].finish_reason in {"stop", "length"}
    assert got.usage is not None
    assert 0 < got.usage.completion_tokens <= 8
    assert client.exchanges[0].headers["x-modelplex-provider"] == "real"


async def test_it_streams_token_by_token(client: Official) -> None:
    usage = {"include_usage": True}
    chunks = await client.chunks(model=MODEL, max_tokens=8, temperature=0, stream_options=usage)
    said = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    whole = await client.chat(model=MODEL, max_tokens=8, temperature=0)
    assert "".join(said) == whole.choices[0].message.content
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens <= 8
    if chunks[-1].usage.completion_tokens > 2:
        assert len(said) > 1


async def test_it_completes_a_text(client: Official) -> None:
    got = await client.complete(model=MODEL, prompt="Once upon a", max_tokens=6)
    assert got.choices[0].finish_reason in {"stop", "length"}


async def test_it_embeds(client: Official) -> None:
    default = await client.embed(model=MODEL, input=["a house", "a garden"])
    floats = await client.embed(model=MODEL, input=["a house", "a garden"], encoding_format="float")
    assert [len(data.embedding) for data in default.data] == [640, 640]
    for ours, theirs in zip(default.data, floats.data, strict=True):
        assert ours.embedding == pytest.approx(theirs.embedding, abs=1e-4)


class Choice(BaseModel):
    sure: bool


@pytest.mark.slow
async def test_a_schema_binds_it_streamed_or_not(client: Official) -> None:
    got = await client.parse(model=MODEL, response_format=Choice, max_tokens=64, temperature=0)
    assert isinstance(got.choices[0].message.parsed, Choice)
    _, final = await client.helper(model=MODEL, response_format=Choice, max_tokens=64, temperature=0)
    assert final.choices[0].message.parsed == got.choices[0].message.parsed


async def test_its_list_of_models_is_ours(llama: str, tmp_path: Path) -> None:
    listed = one(llama, name="real", models="[]").replace("models = []\n", "")
    async with gateway(listed, folder=tmp_path) as gw:
        names = [model["id"] for model in (await gw.ask("GET", "/v1/models", unix=True)).json["data"]]
        assert names == [MODEL]
        assert (await gw.chat(MODEL, unix=True, max_tokens=2)).status == 200


async def test_a_dead_provider_makes_way_to_the_real_one(llama: str, tmp_path: Path) -> None:
    dead = one("http://127.0.0.1:9/v1", name="dead", models=f'["{MODEL}"]', priority=1)
    async with (
        gateway(dead + real(llama, priority=2) + LAST, folder=tmp_path) as gw,
        official(gw, ours=False) as client,
    ):
        got = await client.chat(model=MODEL, max_tokens=4)
        assert got.choices
        assert client.exchanges[0].headers["x-modelplex-provider"] == "real"
        assert client.exchanges[0].headers["x-modelplex-attempts"] == "2"


async def test_a_provider_that_dies_in_mid_traffic_makes_way_to_the_real_one(
    llama: str, tmp_path: Path
) -> None:
    """Half of the calls are streams, a quarter has begun to come. Who had no output yet gets the
    real model's; a stream that had some ends with an error, never as if whole.
    """
    dead = asyncio.Event()
    begun = asyncio.Semaphore(0)

    async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Every fourth call gets one word, the others of the first half their answer, the rest
        nothing; then all are reset.
        """
        body = up.seen[-1].json
        number = int(body["messages"][0]["content"])
        if not dead.is_set():
            if body.get("stream") and number % 4 == 0:
                pieces = [chunk({"role": "assistant", "content": ""}), chunk({"content": "Hel"})]
                writer.write(STREAM_HEAD + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces))
                await writer.drain()
            elif number < RUSH // 2:
                await _answer(body, reader, writer)
                begun.release()
                return
            begun.release()
            await dead.wait()
        writer.transport.abort()
        raise ConnectionResetError

    async with provider(work) as up:
        first = one(up.url, name="first", models=f'["{MODEL}"]', priority=1)
        config = first + real(llama, priority=2) + LAST
        async with gateway(config, folder=tmp_path) as gw, official(gw, ours=False) as client:
            calls = [asyncio.create_task(_call(client, n, streamed=n % 2 == 0)) for n in range(RUSH)]
            async with asyncio.timeout(WAIT_S):
                for _ in range(RUSH):
                    await begun.acquire()
            dead.set()
            outcomes = await asyncio.gather(*calls)
            broken = {n for n, outcome in enumerate(outcomes) if isinstance(outcome, openai.APIError)}
            assert broken == set(range(0, RUSH, 4))
            for n, outcome in enumerate(outcomes):
                assert n in broken or outcome in {"stop", "length"}, (n, outcome)
            await _all_go_to_the_real_one(client, gw, up)


async def _answer(body: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if body.get("stream"):
        data = b"".join(chat_stream("Hello"))
        await answer(data, label="text/event-stream")(reader, writer)
    else:
        await answer(chat_answer("Hello"))(reader, writer)


async def _call(client: Official, number: int, *, streamed: bool) -> str | openai.APIError:
    """How it ended."""
    asked = {"model": MODEL, "max_tokens": 3, "messages": [{"role": "user", "content": str(number)}]}
    try:
        if streamed:
            chunks = await client.chunks(**asked)
            return next(c.choices[0].finish_reason for c in reversed(chunks) if c.choices) or "no end"
        return (await client.chat(**asked)).choices[0].finish_reason
    except openai.APIConnectionError:
        raise
    except openai.APIError as error:
        return error


async def _all_go_to_the_real_one(client: Official, gw: Running, up: Scripted) -> None:
    """Its breaker is open: nobody asks the dead one any more."""
    asked = len(up.seen)
    before = len(client.exchanges)
    for number in range(4):
        assert await _call(client, number, streamed=number % 2 == 0) in {"stop", "length"}
    assert {e.headers["x-modelplex-provider"] for e in client.exchanges[before:]} == {"real"}
    assert {e.headers["x-modelplex-attempts"] for e in client.exchanges[before:]} == {"1"}
    assert len(up.seen) == asked
    status = (await gw.ask("GET", "/_internal/status")).json
    (first,) = (each for each in status["providers"] if each["name"] == "first")
    assert [breaker["state"] for breaker in first["breakers"]] == ["open"]


async def test_a_client_that_leaves_frees_the_models_slot(llama: str, tmp_path: Path) -> None:
    """The server has two slots. Clients that leave endless answers, more of them than slots, must
    not keep the next one waiting.
    """
    async with gateway(real(llama), folder=tmp_path) as gw, official(gw, ours=False) as client:

        async def leave(own: Any) -> None:
            endless = {"max_tokens": 3000, "stream": True, "extra_body": {"ignore_eos": True}}
            told = [{"role": "user", "content": "Count to a million."}]
            async with await own.chat.completions.create(model=MODEL, messages=told, **endless) as pieces:
                await anext(aiter(pieces))

        for _ in range(3):
            await client.do(lambda _: None, leave)
        got = await asyncio.wait_for(client.chat(model=MODEL, max_tokens=2), WAIT_S)
        assert got.choices
        outcomes = [(await gw.record(n)).outcome for n in (1, 2, 3, 4)]
        assert outcomes == ["client_closed"] * 3 + ["ok"]
