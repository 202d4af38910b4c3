"""A dialect that one line registers gets every feature, through a whole gateway on real sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from modelplex.dialects.registry import DIALECTS, FORMS
from modelplex.providers.specs import ProviderSpec
from modelplex.providers.types import TYPES
from tests.dialects.sides import all_dialects
from tests.dialects.toy.dialect import FORM, LABEL, NAME, TOY
from tests.gateways import Answer, Running, gateway, one
from tests.upstreams import Act, Scripted, answer, chat_answer, chat_stream, provider, stream

NO_RETRIES = "\n[failover]\nretries = 0\nbreaker_failures = 100000\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: " + LABEL.encode() + b"\r\ntransfer-encoding: chunked\r\n\r\n"
SAID = {"said": "Hello", "tokens": [3, 2]}
LINES = b"+Hel\n+lo\n#3 2\n.\n"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line, and a type of provider that speaks the dialect."""
    monkeypatch.setitem(FORMS, NAME, FORM)
    monkeypatch.setitem(DIALECTS, NAME, TOY)
    row = ProviderSpec(
        name=NAME,
        title="Toy",
        otel_name="toy",
        base_url="",
        dialect=NAME,
        serves=("chat/completions",),
        docs="",
        local=True,
    )
    monkeypatch.setitem(cast("dict[str, ProviderSpec]", TYPES), NAME, row)


class World:
    def __init__(self, gw: Running, up: Scripted) -> None:
        self.gw = gw
        self.up = up

    async def talk(self, script: Act, *, unix: bool = False, **members: Any) -> Answer:
        """What a client of the toy dialect gets, where the provider does this."""
        self.up.scripts[:] = [script]
        return await self.gw.ask(
            "POST", "/toy/talk", {"model": "m", "say": "Hi", "stream": False, **members}, unix=unix
        )


async def _world(folder: Path, *, type: str, model: str = "m") -> AsyncGenerator[World]:
    async with (
        provider() as up,
        gateway(one(up.url, type=type, models=json.dumps([model])) + NO_RETRIES, folder=folder) as gw,
    ):
        yield World(gw, up)


@pytest.fixture
async def same(tmp_path: Path) -> AsyncGenerator[World]:
    """A provider of the toy dialect."""
    async for world in _world(tmp_path, type=NAME):
        yield world


@pytest.fixture
async def other(tmp_path: Path) -> AsyncGenerator[World]:
    """A provider of OpenAI's dialect."""
    async for world in _world(tmp_path, type="openai"):
        yield world


async def test_a_whole_response_passes_and_its_usage_is_recorded(same: World) -> None:
    got = await same.talk(answer(SAID))
    assert (got.status, got.json) == (200, SAID)
    assert same.up.seen[0].json == {"model": "m", "say": "Hi", "stream": False}
    record = await same.gw.record()
    assert record.usage is not None
    assert (record.usage.input, record.usage.output, record.finish_reason) == (3, 2, "stop")
    assert got.headers["toy-id"] == got.headers["x-request-id"] == record.id


async def test_a_stream_passes_byte_for_byte_and_is_the_default(same: World) -> None:
    same.up.scripts[:] = [stream(LINES[:7], LINES[7:], head=HEAD)]
    got = await same.gw.ask("POST", "/toy/talk", {"model": "m", "say": "Hi"})
    assert (got.status, got.body, got.headers["content-type"]) == (200, LINES, LABEL)
    record = await same.gw.record()
    assert record.usage is not None
    assert (record.usage.output, record.finish_reason) == (2, "stop")


async def test_a_stream_that_breaks_ends_with_the_error_of_the_dialect(same: World) -> None:
    got = await same.talk(stream(b"+Hel\n", head=HEAD), stream=True)
    assert got.body == b"+Hel\n!The stream has no end.\n"
    record = await same.gw.record()
    assert (record.finish_reason, record.outcome == "ok") == (None, False)


async def test_a_client_gets_the_response_of_another_dialect(other: World) -> None:
    whole = await other.talk(answer(chat_answer("Hello")))
    assert whole.json == SAID
    assert other.up.seen[0].json["messages"] == [{"role": "user", "content": "Hi"}]
    streamed = await other.talk(stream(*chat_stream("Hel", "lo")), stream=True)
    assert (streamed.body, streamed.headers["content-type"]) == (LINES, LABEL)


async def test_a_client_of_another_dialect_is_served_by_its_provider(same: World) -> None:
    same.up.scripts[:] = [answer(SAID)]
    whole = await same.gw.chat(seed=7)
    assert whole.json["choices"][0]["message"]["content"] == "Hello"
    assert whole.json["usage"]["total_tokens"] == 5
    assert "seed" in whole.headers["x-modelplex-changes"]
    same.up.scripts[:] = [stream(LINES, head=HEAD)]
    streamed = await same.gw.chat(stream=True)
    assert b'"content":"Hel"' in streamed.body
    assert streamed.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [("/toy/talk", {"model": "m"}, 400), ("/toy/talk", {"say": "Hi"}, 400), ("/toy/nothing", {}, 404)],
)
async def test_an_error_is_written_in_the_dialect(
    other: World, path: str, body: dict[str, Any], status: int
) -> None:
    got = await other.gw.ask("POST", path, body)
    assert got.status == status
    assert got.json["wrong"]
    assert got.json["request"] == got.headers["x-request-id"]


async def test_an_error_of_the_provider_is_read_in_the_dialect(same: World) -> None:
    limited = answer({"wrong": "Too fast."}, status=429, retry_after="7")
    got = await same.talk(limited)
    assert (got.status, got.headers["retry-after"]) == (429, "7")
    chat = await same.gw.chat()
    assert (chat.status, chat.headers["retry-after"]) == (429, "7")
    assert "Too fast." in chat.error["message"]


async def test_the_models_are_listed_in_the_dialect(same: World) -> None:
    assert (await same.gw.ask("GET", "/toy/models")).json == {"toys": ["m"]}
    assert (await same.gw.ask("GET", "/toy/models/m")).json["toy"] == "m"


async def test_the_sealed_policy_holds_for_passing_bodies(same: World) -> None:
    got = await same.talk(answer(SAID), unix=True, owner="ann", odd=1)
    assert got.json == SAID
    assert same.up.seen[0].json == {"model": "m", "say": "Hi", "stream": False}
    assert "/owner" in got.headers["x-modelplex-stripped"]
    refused = await same.talk(answer(SAID), unix=True, fetch="https://a.example")
    assert (refused.status, len(same.up.seen)) == (400, 1)
    assert "web-fetch" in refused.json["wrong"]


async def test_the_sealed_policy_holds_for_translated_bodies(other: World) -> None:
    refused = await other.talk(answer(chat_answer()), unix=True, fetch="https://a.example")
    assert (refused.status, other.up.seen) == (400, [])
    assert "web-fetch" in refused.json["wrong"]


@pytest.mark.parametrize("in_path", [True, False])
async def test_a_model_in_the_path_of_its_providers_is_one_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, in_path: bool
) -> None:
    """The rule follows the fact in the Dialect value, whatever the dialect is called."""
    form = replace(FORM, model_in_path=in_path, paths={})
    monkeypatch.setitem(FORMS, NAME, form)
    monkeypatch.setitem(DIALECTS, NAME, replace(TOY, form=form))
    async for world in _world(tmp_path, type=NAME, model="*"):
        world.up.scripts[:] = [answer({"toys": ["a/b"]}), answer(SAID)]
        got = await world.gw.chat("up/a/b", unix=True)
        sent = [seen.json["model"] for seen in world.up.seen if seen.body]
        if in_path:
            assert (got.status, sent) == (400, [])
            assert "unknown-form" in got.error["message"]
        else:
            assert (got.status, sent) == (200, ["a/b"])


def test_every_type_of_provider_speaks_a_dialect_of_the_registry() -> None:
    spoken = {name for name, dialect in all_dialects().items() if dialect.provider is not None}
    assert {row.dialect for row in TYPES.values()} - spoken == set()
