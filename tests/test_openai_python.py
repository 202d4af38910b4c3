"""The official OpenAI client for Python, unmodified: sync and async, over TCP and over the Unix
socket, against the demo and a scripted provider.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.gateways import WAIT_S, gateway
from tests.official import WAYS, Official, in_front_of, official
from tests.upstreams import DONE, answer, chat_answer, chunk, hang_up, stream

DEMO = '[[providers]]\nname = "demo"\ntype = "demo"\n'
ONCE = "\n[failover]\nretries = 0\n"
PIXEL = "data:image/png;base64," + base64.b64encode(b"\x89PNG not really").decode()


class City(BaseModel):
    name: str
    inhabitants: int
    twins: list[str]


def tool(name: str, **properties: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "parameters": schema, "strict": True}}


WEATHER = tool("get_weather", city="string", days="integer")
CLOCK = tool("get_time", zone="string")


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


# --- the demo: a user's first minutes -------------------------------------------------------------


@pytest.fixture(params=WAYS)
async def demo(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Official]:
    async with gateway(DEMO, folder=tmp_path) as gw, official(gw, request.param) as client:
        yield client


async def test_the_demo_answers_and_counts(demo: Official) -> None:
    got = await demo.chat(model="demo", messages=user("Grüezi 🌦"))
    assert "Grüezi 🌦" in (got.choices[0].message.content or "")
    assert got.choices[0].finish_reason == "stop"
    assert got.usage is not None
    assert got.usage.total_tokens == got.usage.prompt_tokens + got.usage.completion_tokens > 0


async def test_the_demo_streams_what_it_would_have_answered(demo: Official) -> None:
    whole = await demo.chat(model="demo", messages=user("Grüezi"))
    chunks = await demo.chunks(model="demo", messages=user("Grüezi"), stream_options={"include_usage": True})
    said = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(said) == whole.choices[0].message.content
    assert len([s for s in said if s]) > 3
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    without = await demo.chunks(model="demo", messages=user("Grüezi"))
    assert all(c.usage is None for c in without)


async def test_the_stream_helper_puts_the_demos_answer_together(demo: Official) -> None:
    events, final = await demo.helper(model="demo", messages=user("Hello"))
    assert "content.delta" in {e.type for e in events}
    assert [e.content for e in events if e.type == "content.done"] == [final.choices[0].message.content]
    assert "Hello" in final.choices[0].message.content


async def test_the_demo_calls_tools_and_reads_their_results(demo: Official) -> None:
    asked = user("get weather and get time, please")
    got = await demo.chat(model="demo", messages=asked, tools=[WEATHER, CLOCK])
    calls = got.choices[0].message.tool_calls or []
    assert [c.function.name for c in calls if c.type == "function"] == ["get_weather", "get_time"]
    assert set(json.loads(calls[0].function.arguments)) == {"city", "days"}  # type: ignore[union-attr]
    results = [{"role": "tool", "tool_call_id": c.id, "content": f"result {n}"} for n, c in enumerate(calls)]
    said = got.choices[0].message.model_dump(exclude_none=True)
    told = await demo.chat(model="demo", messages=[*asked, said, *results], tools=[WEATHER, CLOCK])
    assert "result 0" in (told.choices[0].message.content or "")
    assert "result 1" in (told.choices[0].message.content or "")


async def test_the_helper_parses_tools_that_the_demo_streams(demo: Official) -> None:
    asked = user("get weather and get time, please")
    events, final = await demo.helper(model="demo", messages=asked, tools=[WEATHER, CLOCK])
    message = final.choices[0].message
    assert [c.function.name for c in message.tool_calls] == ["get_weather", "get_time"]
    assert isinstance(message.tool_calls[0].function.parsed_arguments["days"], int)
    done = [e for e in events if e.type == "tool_calls.function.arguments.done"]
    assert [e.name for e in done] == ["get_weather", "get_time"]


async def test_a_model_of_pydantic_comes_back_parsed(demo: Official) -> None:
    got = await demo.parse(model="demo", messages=user("A city"), response_format=City)
    assert isinstance(got.choices[0].message.parsed, City)
    _, final = await demo.helper(model="demo", messages=user("A city"), response_format=City)
    assert isinstance(final.choices[0].message.parsed, City)


async def test_images_and_files_go_in(demo: Official) -> None:
    parts = [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
    ]
    got = await demo.chat(model="demo", messages=[{"role": "user", "content": parts}])
    assert "image_url, file" in (got.choices[0].message.content or "")


async def test_vectors_are_the_same_as_floats_and_as_the_clients_default(demo: Official) -> None:
    texts = ["one text", "another"]
    default = await demo.embed(model="demo-embed", input=texts)
    assert demo.exchanges[-1].asked["encoding_format"] == "base64"
    floats = await demo.embed(model="demo-embed", input=texts, encoding_format="float")
    assert len(default.data) == len(floats.data) == 2
    for ours, theirs in zip(default.data, floats.data, strict=True):
        assert ours.embedding == pytest.approx(theirs.embedding, abs=1e-6)
    short = await demo.embed(model="demo-embed", input="one text", dimensions=8)
    assert len(short.data[0].embedding) == 8


async def test_completions_whole_and_streamed(demo: Official) -> None:
    got = await demo.complete(model="demo", prompt="Once upon", max_tokens=5)
    assert got.choices[0].text
    assert got.choices[0].finish_reason == "length"

    async def read(client: AsyncOpenAI) -> str:
        pieces = await client.completions.create(model="demo", prompt="Once upon", max_tokens=5, stream=True)
        return "".join([p.choices[0].text async for p in pieces])

    def read_sync(client: OpenAI) -> str:
        pieces = client.completions.create(model="demo", prompt="Once upon", max_tokens=5, stream=True)
        return "".join(p.choices[0].text for p in pieces)

    assert await demo.do(read_sync, read) == got.choices[0].text


async def test_models_are_listed_and_found(demo: Official) -> None:
    async def listed(client: AsyncOpenAI) -> list[str]:
        return [model.id async for model in client.models.list()]

    assert set(await demo.do(lambda c: [m.id for m in c.models.list()], listed)) >= {"demo", "demo-embed"}
    one_model = await demo.do(lambda c: c.models.retrieve("demo"), lambda c: c.models.retrieve("demo"))
    assert (one_model.id, one_model.object) == ("demo", "model")
    with pytest.raises(openai.NotFoundError):
        await demo.do(lambda c: c.models.retrieve("nope"), lambda c: c.models.retrieve("nope"))


async def test_a_model_that_nobody_has_is_not_found(demo: Official) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await demo.chat(model="dmeo")
    assert caught.value.code == "model_not_found"
    assert "demo" in caught.value.message
    assert (caught.value.request_id or "").startswith("mpx-")


async def test_nonsense_is_a_bad_request_that_names_the_parameter(demo: Official) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await demo.chat(model="demo", n=0)
    assert caught.value.param == "n"
    with pytest.raises(openai.BadRequestError):
        await demo.chunks(model="demo", messages=[])


async def test_clients_without_a_transport_of_ours_work_too(tmp_path: Path) -> None:
    """Nothing given but the base URL and a key: what a user's program has in its environment."""
    async with gateway(DEMO, folder=tmp_path) as gw:

        def ask() -> str:
            with OpenAI(base_url=f"{gw.base}/v1", api_key="anything") as client:
                got = client.chat.completions.create(
                    model="demo", messages=[{"role": "user", "content": "Hi"}]
                )
                return got.choices[0].message.content or ""

        assert "Hi" in await asyncio.wait_for(asyncio.to_thread(ask), WAIT_S)
        async with AsyncOpenAI(base_url=f"{gw.base}/models/v1", api_key="anything") as client:
            got = await client.with_options(timeout=WAIT_S).chat.completions.create(
                model="demo", messages=[{"role": "user", "content": "Hi"}]
            )
            assert "Hi" in (got.choices[0].message.content or "")


# --- a scripted provider of OpenAI's own form -----------------------------------------------------


def call_start(index: int, id: str, name: str, arguments: str = "") -> bytes:
    function = {"name": name, "arguments": arguments}
    return chunk({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]})


def call_more(index: int, arguments: str) -> bytes:
    return chunk({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]})


@pytest.mark.parametrize("way", WAYS)
async def test_parallel_calls_with_streamed_arguments_arrive_whole(way: str, tmp_path: Path) -> None:
    pieces = [
        chunk({"role": "assistant", "content": None}),
        call_start(0, "call_1", "get_weather"),
        *[call_more(0, c) for c in '{"city":"Zürich","days":2}'],
        call_start(1, "call_2", "get_time", '{"zone":'),
        call_more(1, '"CET"}'),
        chunk({}, finish="tool_calls"),
        DONE,
    ]
    async with in_front_of(stream(*pieces), folder=tmp_path, way=way) as (up, _, client):
        _, final = await client.helper(tools=[WEATHER, CLOCK])
        calls = final.choices[0].message.tool_calls
        assert [(c.id, c.function.parsed_arguments) for c in calls] == [
            ("call_1", {"city": "Zürich", "days": 2}),
            ("call_2", {"zone": "CET"}),
        ]
        assert up.seen[0].json["tools"] == [WEATHER, CLOCK]


async def test_what_the_client_sends_arrives_as_it_was_sent(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    async with in_front_of(answer(chat_answer()), folder=tmp_path, way="async-tcp") as (up, _, client):
        await client.chat(
            messages=[{"role": "user", "content": parts}],
            temperature=0.25,
            logit_bias={"50256": -100},
            metadata={"a": "b"},
            extra_body={"unknown_member": [1, None]},
            extra_headers={"x-guest": "secret"},
        )
        assert up.seen[0].body == client.exchanges[0].request.content
    seen = up.seen[0]
    assert "guest" not in json.dumps(seen.headers)
    assert not [name for name in seen.headers if name.startswith("x-stainless")]


async def test_log_probabilities_refusals_and_several_choices_reach_the_client(tmp_path: Path) -> None:
    odds = {"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}], "refusal": None}
    body = chat_answer("a")
    body["choices"][0]["logprobs"] = odds
    second: dict[str, Any] = chat_answer("", content=None, refusal="I will not.")["choices"][0]
    body["choices"].append(second | {"index": 1})
    async with in_front_of(answer(body), folder=tmp_path) as (up, _, client):
        got = await client.chat(n=2, logprobs=True)
        assert got.choices[0].logprobs is not None
        assert [t.token for t in got.choices[0].logprobs.content or []] == ["a"]
        assert got.choices[1].message.refusal == "I will not."
    assert up.seen[0].json["n"] == 2


def told(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "a_type", "param": None, "code": "a_code"} | more}


CLASSES: dict[int, tuple[type[openai.APIStatusError], int]] = {
    400: (openai.BadRequestError, 400),
    404: (openai.NotFoundError, 404),
    409: (openai.InternalServerError, 502),
    413: (openai.APIStatusError, 413),
    422: (openai.UnprocessableEntityError, 422),
    429: (openai.RateLimitError, 429),
    500: (openai.InternalServerError, 502),
    503: (openai.InternalServerError, 503),
}
"""What the provider says, and what the client makes of what the gateway makes of it."""


@pytest.mark.parametrize("way", ["sync-unix", "async-tcp"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_every_class_of_error_is_the_clients_own_exception(
    *, streamed: bool, way: str, tmp_path: Path
) -> None:
    scripts = [answer(told(f"told {status}"), status=status) for status in CLASSES]
    rules = ONCE + "breaker_failures = 1000\n"
    async with in_front_of(*scripts, folder=tmp_path, rules=rules, way=way) as (up, _, client):
        for given, (kind, status) in CLASSES.items():
            with pytest.raises(kind) as caught:
                await (client.chunks() if streamed else client.chat())
            assert caught.value.status_code == status, given
            assert isinstance(caught.value.type, str)
            if given in {400, 404, 413, 422}:
                assert caught.value.body == told(f"told {given}")["error"]
        assert len(up.seen) == len(CLASSES)


@pytest.mark.parametrize("way", WAYS)
async def test_a_rate_limit_shows_how_long_to_wait(way: str, tmp_path: Path) -> None:
    limited = answer(told("slow down"), status=429, retry_after="77", x_ratelimit_remaining_requests="0")
    async with in_front_of(limited, folder=tmp_path, rules=ONCE, way=way) as (_, _, client):
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat()
        assert caught.value.response.headers["retry-after"] == "77"
        assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize("way", ["sync-tcp", "async-unix"])
async def test_the_clients_own_retries_are_answered_and_counted(way: str, tmp_path: Path) -> None:
    busy = answer(told("busy"), status=503, retry_after_ms="1")
    acts = [busy, busy, answer(chat_answer("at last"))]
    async with in_front_of(*acts, folder=tmp_path, rules=ONCE, retries=2, way=way) as (up, _, client):
        assert (await client.chat()).choices[0].message.content == "at last"
        assert [e.status for e in client.exchanges] == [503, 503, 200]
        assert len(up.seen) == 3


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_rejected_key_is_no_login_of_the_clients_and_not_retried(status: int, tmp_path: Path) -> None:
    rejected = answer(told("bad key"), status=status)
    async with in_front_of(rejected, folder=tmp_path, rules=ONCE, retries=3) as (up, gw, client):
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat()
        assert (caught.value.status_code, caught.value.code) == (502, "upstream_auth")
        assert "bad key" not in caught.value.message
        assert len(client.exchanges) == 1
        async with official(gw) as again:
            with pytest.raises(openai.InternalServerError, match="rejected the API key") as caught:
                await again.chat()
        # The only key is asked again: it may have been paid for or allowed by now.
        assert (caught.value.status_code, caught.value.code) == (502, "upstream_auth")
        assert len(up.seen) == 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", ["cut", "early end", "an error event"])
async def test_a_broken_stream_raises_and_never_ends_silently(fault: str, way: str, tmp_path: Path) -> None:
    start = [chunk({"role": "assistant", "content": ""}), chunk({"content": "Hel"})]
    error = b"data: " + json.dumps(told("boom")).encode() + b"\n\n"
    acts = {
        "cut": stream(*start, end=False),
        "early end": stream(*start),
        "an error event": stream(*start, error),
    }
    async with in_front_of(acts[fault], folder=tmp_path, rules=ONCE, way=way) as (_, _, client):
        with pytest.raises(openai.APIError) as caught:
            await client.chunks()
        assert not isinstance(caught.value, openai.APIConnectionError)
        assert isinstance(caught.value.body, dict)
        with pytest.raises(openai.APIError):
            await client.helper()


async def test_nobody_there_is_an_error_of_the_server(tmp_path: Path) -> None:
    async with in_front_of(hang_up, folder=tmp_path, rules=ONCE) as (_, _, client):
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat()
        assert (caught.value.status_code, caught.value.code) == (502, "upstream_error")


async def test_a_body_above_the_limit_is_told_as_such(tmp_path: Path) -> None:
    config = "[server]\nmax_request_size = 2000\n" + DEMO
    async with gateway(config, folder=tmp_path) as gw:
        for way in WAYS:
            async with official(gw, way) as client:
                with pytest.raises(openai.APIStatusError) as caught:
                    await client.chat(model="demo", messages=user("x" * 5000))
                assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_leaves_a_stream_frees_the_provider(way: str, tmp_path: Path) -> None:
    async def rest(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()
        raise ConnectionResetError

    act = stream(chunk({"role": "assistant", "content": "Hel"}), then=rest)

    def leave_sync(client: OpenAI) -> None:
        with client.chat.completions.create(model="m", messages=[], stream=True) as pieces:
            next(iter(pieces))

    async def leave(client: AsyncOpenAI) -> None:
        async with await client.chat.completions.create(model="m", messages=[], stream=True) as pieces:
            await anext(aiter(pieces))

    async with in_front_of(act, folder=tmp_path, way=way) as (up, gw, client):
        await client.do(leave_sync, leave)
        await asyncio.wait_for(up.hung_up.wait(), WAIT_S)
        assert (await gw.record()).outcome == "client_closed"


@pytest.mark.parametrize("way", WAYS)
async def test_a_hundred_calls_at_once_each_get_their_own_answer(way: str, tmp_path: Path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = up.seen[-1].json["messages"][0]["content"]  # nothing was awaited since this request was noted
        await answer(chat_answer(said))(reader, writer)

    async with in_front_of(echo, folder=tmp_path, way=way) as (up, _, client):
        got = await asyncio.gather(*[client.chat(messages=user(f"number {n}")) for n in range(100)])
        assert [g.choices[0].message.content for g in got] == [f"number {n}" for n in range(100)]
