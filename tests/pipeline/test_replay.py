"""Recorded answers through a whole gateway: the same bytes, in their order, without a provider."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelplex.config import ConfigError, load
from modelplex.pipeline.replay import content_type, was_cut
from modelplex.records.store_sink import RunInfo
from modelplex.replay.recording import RecordedCall, open_recording
from modelplex.replay.recording_file import save_recording
from modelplex.server.record_store import RUN_VARIABLE
from tests.gateways import Answer, Running, gateway, one
from tests.upstreams import answer, provider, stream


def completion(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def recorded(folder: Path) -> str:
    return f'\n[record]\ncontent = "full"\nstore = "{folder / "records.sqlite"}"\n'


@asynccontextmanager
async def recording_gateway(folder: Path, url: str, **more: Any) -> AsyncGenerator[Running]:
    folder.mkdir(exist_ok=True)
    run = RunInfo(id="run-1", started=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(RUN_VARIABLE, msgspec.json.encode(run).decode())
        async with gateway(one(url, type="together", **more) + recorded(folder), folder=folder) as gw:
            yield gw


@asynccontextmanager
async def replaying(
    folder: Path, recorded_in: Path, more: str = "", tail: str = ""
) -> AsyncGenerator[Running]:
    folder.mkdir(exist_ok=True)
    file = saved(recorded_in)
    text = f'[[providers]]\ntype = "replay"\nfile = "{file}"\n{more}\n{tail}'
    async with gateway(text, folder=folder) as gw:
        yield gw


def saved(folder: Path) -> Path:
    recording = open_recording(run="run-1", file=None, store=str(folder / "records.sqlite"))
    number = os.open(folder, os.O_RDONLY)
    save_recording(recording, folder=number, name="recording.jsonl")
    os.close(number)
    return folder / "recording.jsonl"


async def ask(gw: Running, text: str, **more: Any) -> Answer:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
    return await gw.ask("POST", "/v1/chat/completions", body)


async def test_an_answer_is_the_recorded_bytes(tmp_path: Path) -> None:
    async with provider(answer(completion("Hello"))) as up:
        async with recording_gateway(tmp_path / "a", up.url) as gw:
            first = await ask(gw, "Hi")
    async with replaying(tmp_path / "b", tmp_path / "a") as gw:
        again = await ask(gw, "Hi")
        record = await gw.record()
    assert (again.status, again.body) == (200, first.body)
    assert again.headers["x-modelplex-recording"] == first.headers["x-request-id"]
    assert record.usage is not None
    assert (record.provider, record.outcome, record.usage.input, record.cost) == ("replay", "ok", 3, 0.0)


async def test_parallel_equal_requests_get_the_recorded_answers_in_order(tmp_path: Path) -> None:
    texts = iter("abcd")

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer(completion(next(texts)))(reader, writer)

    async with provider(act) as up:
        async with recording_gateway(tmp_path / "a", up.url) as gw:
            first = [(await ask(gw, "Hi")).body for _ in range(4)]
    assert len(set(first)) == 4
    async with replaying(tmp_path / "b", tmp_path / "a") as gw:
        again = await asyncio.gather(*(ask(gw, "Hi") for _ in range(4)))
        assert sorted(each.body for each in again) == sorted(first)
        assert [(await ask(gw, "Hi")).body for _ in range(4)] == first


async def test_streams_and_errors_are_replayed_as_they_were(tmp_path: Path) -> None:
    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        content = up.seen[-1].json["messages"][0]["content"]
        if content == "fail":
            await answer({"error": {"message": "no", "code": "bad"}}, status=400)(reader, writer)
        elif content == "cut":
            await stream(b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n', end=False)(
                reader, writer
            )
        else:
            await stream(
                b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":'
                b'[{"index":0,"delta":{"content":"\xc3\xa4"},"finish_reason":"stop"}]}\n\n',
                b"data: [DONE]\n\n",
            )(reader, writer)

    async with provider(act) as up:
        async with recording_gateway(tmp_path / "a", up.url) as gw:
            first = [await ask(gw, text, stream=True) for text in ("go", "fail", "cut")]
    async with replaying(tmp_path / "b", tmp_path / "a") as gw:
        again = [await ask(gw, text, stream=True) for text in ("go", "fail", "cut")]
        await gw.record(3)
        outcomes = [record.outcome for record in gw.records]
    for recorded_answer, other in zip(first, again, strict=True):
        assert (other.status, other.body) == (recorded_answer.status, recorded_answer.body)
        assert other.headers["content-type"] == recorded_answer.headers["content-type"]
    assert outcomes == ["ok", "error", "broken"]


async def test_a_request_that_was_not_recorded_is_explained_in_its_protocol(tmp_path: Path) -> None:
    async with provider(answer(completion("Hello"))) as up:
        async with recording_gateway(tmp_path / "a", up.url) as gw:
            first = await ask(gw, "3 passed")
    async with replaying(tmp_path / "b", tmp_path / "a") as gw:
        missed = await ask(gw, "2 passed")
        other = await gw.ask(
            "POST",
            "/v1/messages",
            {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
        )
        record = await gw.record()
    assert missed.status == 400
    assert missed.headers["x-should-retry"] == "false"
    assert missed.error["code"] == "replay_miss"
    assert missed.error["param"] == "messages[0].content"
    called = first.headers["x-request-id"]
    assert (
        f'call 1 ({called}), from which it differs first at messages[0].content: recorded "3 passed", now "2 passed"'
        in missed.error["message"]
    )
    assert (other.status, other.json["type"]) == (400, "error")
    assert "has no call of messages" in other.error["message"]
    assert (record.outcome, record.code, record.blame) == ("error", "replay_miss", "client")


async def test_what_was_not_recorded_may_go_to_a_provider(tmp_path: Path) -> None:
    async with provider(answer(completion("Hello"))) as up:
        async with recording_gateway(tmp_path / "a", up.url) as gw:
            first = await ask(gw, "Hi")
        live = one(up.url, type="together", models='["up-model"]') + '\n[aliases]\n"*" = "up/up-model"\n'
        async with replaying(tmp_path / "b", tmp_path / "a", 'on_miss = "live"', live) as gw:
            assert (await ask(gw, "Hi")).headers["x-modelplex-recording"] == first.headers["x-request-id"]
            other = await ask(gw, "Ho")
            record = await gw.record(2)
    assert (other.status, other.headers["x-modelplex-provider"]) == (200, "up")
    assert [each.outcome for each in record.attempts] == ["replay_miss", "ok"]
    async with replaying(tmp_path / "c", tmp_path / "a", 'on_miss = "demo"') as gw:
        assert (await ask(gw, "Ho")).headers["x-modelplex-provider"] == "demo"
        listed = await gw.ask("GET", "/v1/models")
    assert {"m", "demo"} <= {each["id"] for each in listed.json["data"]}


async def test_the_policy_and_limits_hold(tmp_path: Path) -> None:
    async with provider(answer(completion("Hello"))) as up:
        async with recording_gateway(tmp_path / "a", up.url) as gw:
            await ask(gw, "Hi", user="me", web_search_options={})
    async with replaying(
        tmp_path / "b",
        tmp_path / "a",
        tail='[policy]\nhttp = "sealed"\n\n[[agents]]\nname = "a"\ntoken = "0123456789abcdef0123456789abcdef"\nmodels = ["n"]\n',
    ) as gw:
        found = await ask(gw, "Hi", user="you", web_search_options={})
        token = ((b"authorization", b"Bearer 0123456789abcdef0123456789abcdef"),)
        refused = await gw.ask("POST", "/v1/chat/completions", {"model": "m", "messages": []}, headers=token)
    assert found.status == 200
    assert "/web_search_options" in found.headers["x-modelplex-stripped"]
    assert refused.status == 404


async def test_a_config_may_leave_more_out(tmp_path: Path) -> None:
    async with provider(answer(completion("Hello"))) as up:
        async with recording_gateway(tmp_path / "a", up.url) as gw:
            await ask(gw, "build 7", metadata={"build": "7"})
    more = 'volatile_members = ["metadata.build"]\nvolatile_texts = ["build [0-9]+"]'
    async with replaying(tmp_path / "b", tmp_path / "a", more) as gw:
        assert (await ask(gw, "build 8", metadata={"build": "8"})).status == 200
        assert (await ask(gw, "built 8", metadata={"build": "8"})).status == 400


async def test_a_recording_that_cannot_be_read_is_an_error_until_it_can(tmp_path: Path) -> None:
    async with provider(answer(completion("Hello"))) as up:
        async with recording_gateway(tmp_path / "a", up.url) as gw:
            await ask(gw, "Hi")
    (tmp_path / "b").mkdir()
    file = tmp_path / "b" / "r.jsonl"
    async with gateway(f'[[providers]]\ntype = "replay"\nfile = "{file}"\n', folder=tmp_path / "b") as gw:
        missing = await ask(gw, "Hi")
        file.write_bytes(saved(tmp_path / "a").read_bytes())
        found = await ask(gw, "Hi")
    assert (missing.status, missing.error["code"]) == (500, "recording_unreadable")
    assert "no such file" in missing.error["message"]
    assert found.status == 200


async def test_a_run_of_the_store_is_replayed_with_its_times(tmp_path: Path) -> None:
    async with provider(answer(completion("Hello"))) as up:
        async with recording_gateway(tmp_path / "a", up.url) as gw:
            first = await ask(gw, "Hi")
    config = '[[providers]]\ntype = "replay"\nrun = "run-1"\ntiming = true\n'
    (tmp_path / "b").mkdir()
    async with gateway(config + recorded(tmp_path / "a"), folder=tmp_path / "b") as gw:
        assert (await ask(gw, "Hi")).body == first.body


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('type = "replay"', "a run of the record"),
        ('type = "replay"\nrun = "r"\nfile = "f"', "both run and file"),
        ('type = "demo"\nrun = "r"', "no such key"),
        ('type = "replay"\nrun = "r"\nvolatile_texts = ["("]', "a regular expression"),
    ],
)
def test_a_faulty_provider_is_named(text: str, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"[[providers]]\n{text}\n")
    with pytest.raises(ConfigError) as error:
        load(str(file), environ={})
    assert expected in error.value.sentence


@pytest.mark.parametrize(
    ("body", "stream", "expected"),
    [
        (b"event: a\n\n", True, b"text/event-stream"),
        (b'{"done":true}\n', True, b"application/x-ndjson"),
        (b'[{"a":1}]', True, b"application/json"),
        (b'{"a":1}', False, b"application/json"),
        (b"ID3\x04", False, b"application/octet-stream"),
    ],
)
def test_the_content_type_is_by_the_first_bytes(body: bytes, stream: bool, expected: bytes) -> None:
    assert content_type(RecordedCall(id="mpx-1", response=body, stream=stream)) == expected


def test_a_stream_whose_client_went_away_is_cut_again() -> None:
    gone = RecordedCall(id="mpx-1", outcome="client_closed", dialect="openai_chat")
    assert was_cut(gone)
    assert not was_cut(RecordedCall(id="mpx-1", outcome="broken", dialect="openai_chat"))
