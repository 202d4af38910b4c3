"""Equal requests through a whole gateway: one answer, which header and record name."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from modelplex.config import Config
from modelplex.config.settings import AgentConfig, CacheConfig
from modelplex.core.caller import Caller
from modelplex.core.errors import ModelplexError
from modelplex.core.request import RawRequest
from modelplex.pipeline.exact_cache import CapturedOutput, ExactCache
from modelplex.pipeline.response_output import ResponseHead
from modelplex.records.builder import RecordBuilder
from tests.gateways import Running, gateway, one
from tests.pipeline.test_replay import ask, completion, recording_gateway, replaying
from tests.upstreams import answer, provider, stream

ON = "[cache]\nexact = true\n"
CHUNK = (
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
)


def counting() -> Any:
    """Each answer has another text."""
    number = 0

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal number
        number += 1
        await answer(completion(f"answer {number}"))(reader, writer)

    return act


async def test_an_equal_request_gets_the_answer_of_the_first(tmp_path: Path) -> None:
    async with provider(counting()) as up, gateway(one(up.url, type="together") + ON, folder=tmp_path) as gw:
        first, again, other = await ask(gw, "Hi"), await ask(gw, "Hi"), await ask(gw, "Hi", top_p=0.5)
        record = await gw.record(2)
        assert len(up.seen) == 2
    assert (again.status, again.body) == (200, first.body)
    assert other.body != first.body
    assert "x-modelplex-recording" not in first.headers
    assert again.headers["x-modelplex-recording"] == first.headers["x-request-id"]
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert again.headers["content-type"] == first.headers["content-type"]
    (attempt,) = record.attempts
    assert (record.provider, attempt.upstream_request_id) == ("cache", first.headers["x-request-id"])
    assert (record.cost, record.outcome, record.finish_reason) == (0.0, "ok", "stop")
    assert record.usage is not None
    assert record.usage.input == 3
    assert attempt.usage is None


async def test_it_is_off_by_default(tmp_path: Path) -> None:
    async with provider(counting()) as up, gateway(one(up.url, type="together"), folder=tmp_path) as gw:
        assert (await ask(gw, "Hi")).body != (await ask(gw, "Hi")).body


async def test_streams_are_answered_alike_and_apart_from_whole_answers(tmp_path: Path) -> None:
    async with (
        provider(stream(CHUNK, b"data: [DONE]\n\n")) as up,
        gateway(one(up.url, type="together") + ON, folder=tmp_path) as gw,
    ):
        first, again = [await ask(gw, "Hi", stream=True) for _ in range(2)]
        assert first.headers["content-type"] == again.headers["content-type"]
        assert (again.body, len(up.seen)) == (first.body, 1)
        assert b'"content":"a"' in again.body


@pytest.mark.parametrize(
    "act",
    [
        answer({"error": {"message": "no", "code": "bad"}}, status=400),
        stream(CHUNK.replace(b'"stop"', b"null"), end=False),
        stream(CHUNK.replace(b'"stop"', b"null"), b'data: {"error":{"message":"no","code":500}}\n\n'),
    ],
    ids=["failed", "broken", "error in the stream"],
)
async def test_what_did_not_end_well_is_not_kept(act: Any, tmp_path: Path) -> None:
    async with provider(act) as up, gateway(one(up.url, type="together") + ON, folder=tmp_path) as gw:
        for _ in range(2):
            await ask(gw, "Hi", stream=True)
        assert len(up.seen) == 2


async def test_agents_have_answers_of_their_own_where_they_have_any(tmp_path: Path) -> None:
    agents = "".join(
        f'[[agents]]\nname = "{name}"\ntoken = "token-of-{name}"\n{more}\n'
        for name, more in (("a", "cache = true"), ("b", "cache = true"), ("c", ""))
    )
    async with (
        provider(counting()) as up,
        gateway(one(up.url, type="together") + agents, folder=tmp_path) as gw,
    ):

        async def as_agent(name: str) -> bytes:
            headers = [
                (b"content-type", b"application/json"),
                (b"authorization", b"Bearer token-of-" + name.encode()),
            ]
            body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
            found = await gw.ask("POST", "/v1/chat/completions", body, headers=headers)
            assert found.status == 200
            return found.body

        found = [await as_agent(name) for name in "aabbcc"]
    assert found[0] == found[1] != found[2] == found[3]
    assert found[4] != found[5]


async def test_another_config_begins_without_answers(tmp_path: Path) -> None:
    async with provider(counting()) as up, gateway(one(up.url, type="together") + ON, folder=tmp_path) as gw:
        first = await ask(gw, "Hi")
        await gw.process.reload()
        assert (await ask(gw, "Hi")).body != first.body


async def test_a_recording_answers_in_its_order(tmp_path: Path) -> None:
    async with provider(counting()) as up:
        async with recording_gateway(tmp_path / "a", up.url) as gw:
            recorded = [(await ask(gw, "Hi")).body for _ in range(2)]
    assert recorded[0] != recorded[1]
    async with replaying(tmp_path / "b", tmp_path / "a", tail=ON) as gw:
        assert [(await ask(gw, "Hi")).body for _ in range(2)] == recorded


async def test_state_elsewhere_is_not_kept(tmp_path: Path) -> None:
    async with provider(counting()) as up, gateway(one(up.url, type="together") + ON, folder=tmp_path) as gw:
        for _ in range(2):
            await _respond(gw, background=False)
        assert len(up.seen) == 2


async def _respond(gw: Running, **more: Any) -> None:
    found = await gw.ask("POST", "/v1/responses", {"model": "m", "input": "Hi", **more})
    assert found.status == 200, found.body


# --- bounds


class Output:
    started = False
    stop_error: ModelplexError | None = None

    async def respond(self, status: int, head: ResponseHead, body: bytes) -> None: ...
    async def start(self, head: ResponseHead) -> None: ...
    async def write(self, data: bytes) -> None: ...
    def write_now(self, data: bytes) -> bool:
        return True

    async def finish(self) -> None: ...
    def abort(self) -> None: ...


def request(number: int) -> RawRequest:
    return RawRequest("chat/completions", "openai_chat", "m", b"%d" % number, {})


async def asked(cache: ExactCache, number: int, *, size: int = 100) -> bool:
    """Whether the provider was asked."""
    seen: list[int] = []
    record = RecordBuilder(
        id=f"mpx-{number}",
        request=request(number),
        caller=Caller(listener="l", kind="unix"),
        started=0.0,
        wall_time=0.0,
    )

    async def otherwise(raw: RawRequest, output: Any, record: RecordBuilder) -> None:
        del raw, record
        seen.append(number)
        await output.respond(200, ResponseHead(dialect="openai_chat", request_id="r"), b"x" * size)

    await cache.answer(request(number), Output(), record, otherwise)
    return bool(seen)


async def test_the_answers_not_used_for_longest_go_first() -> None:
    cache = ExactCache(Config(cache=CacheConfig(exact=True, max_size=400)))
    assert [await asked(cache, number) for number in (1, 2, 3, 4, 1, 5, 1, 2)] == [
        *[True] * 4,
        False,
        True,
        False,
        True,
    ]
    assert repr(cache) == "<ExactCache 4 answers, 400 bytes>"


async def test_one_answer_takes_a_part_of_the_cache_only() -> None:
    cache = ExactCache(Config(cache=CacheConfig(exact=True, max_size=400)))
    assert [await asked(cache, 1, size=101) for _ in range(2)] == [True, True]


async def test_an_old_answer_is_not_used() -> None:
    times = iter([0.0, 5.0, 20.0, 21.0])
    cache = ExactCache(Config(cache=CacheConfig(exact=True, max_age=10.0)), now=lambda: next(times))
    assert [await asked(cache, 1) for _ in range(3)] == [True, False, True]


async def test_an_agent_may_have_none() -> None:
    agent = AgentConfig(name="", cache=False)
    cache = ExactCache(Config(cache=CacheConfig(exact=True), agents=(agent,)))
    assert [await asked(cache, 1) for _ in range(2)] == [True, True]


async def test_a_stream_that_was_aborted_is_not_whole() -> None:
    captured = CapturedOutput(Output(), limit=10)
    await captured.start(ResponseHead(dialect="d", request_id="r"))
    assert captured.write_now(b"a")
    captured.abort()
    assert not captured.is_whole
    await captured.write(b"b" * 10)
    await captured.finish()
    assert (captured.is_whole, captured.pieces) == (False, [])
