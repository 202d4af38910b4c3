"""Compaction for providers that have none: what is sent, what comes back, and how it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import CompactedResponse

from modelplex.core.errors import UpstreamBroken
from modelplex.core.events import Event, ReasoningDelta, ResponseEnded, TextDelta
from modelplex.core.request import Attempt, Quirks
from modelplex.dialects.core.system_messages import SUMMED_UP
from modelplex.dialects.openai_responses.compaction import (
    ASKED,
    PROMPT,
    RETAINED_CHARACTERS,
    asked_for_summary,
    compaction_item,
    is_compaction,
    read_compaction,
    write_compaction,
)
from modelplex.dialects.openai_responses.response_out import write_response
from modelplex.dialects.registry import write_request
from tests.dialects.openai_responses.peer import make_ask, make_call
from tests.gateways import gateway, one
from tests.upstreams import answer, chat_answer, chat_stream, provider, stream

USER: dict[str, Any] = {
    "type": "message",
    "role": "user",
    "content": [{"type": "input_text", "text": "do it"}],
}
TRIGGER = {"type": "compaction_trigger"}
TOOL: dict[str, Any] = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}


def attempt(dialect: str, **quirks: Any) -> Attempt:
    return Attempt(provider="p", model="m", dialect=dialect, quirks=Quirks(**quirks))


@pytest.mark.parametrize(
    "dialect", ["openai_chat", "openai_responses", "anthropic_messages", "gemini", "ollama"]
)
def test_the_model_is_asked_for_a_summary(dialect: str) -> None:
    call = make_call(input=[USER, TRIGGER], tools=[TOOL], text={"format": {"type": "json_object"}})
    written = write_request(call, attempt(dialect))
    assert PROMPT in json.dumps(json.loads(written.body), ensure_ascii=False)
    assert "compaction_trigger" not in written.body.decode()
    assert ("lower", "input[1]", ASKED) in [(each.op, each.path, each.reason) for each in written.changes]


def test_a_provider_that_compacts_gets_the_trigger() -> None:
    call = make_call(input=[USER, TRIGGER])
    assert is_compaction(call)
    assert asked_for_summary(call, attempt("openai_responses", compacts=True)) is call
    written = write_request(call, attempt("openai_responses", compacts=True))
    assert json.loads(written.body)["input"][-1] == TRIGGER
    assert not is_compaction(make_call(input=[TRIGGER, USER]))


def test_the_response_is_one_item() -> None:
    call = make_call(input=[USER, TRIGGER])
    events: list[Event] = [ReasoningDelta(0, "hm"), TextDelta(1, " sum"), ResponseEnded("stop")]
    body, _ = write_response(events, call, id="resp_1", created=1, model="m")
    assert json.loads(body)["output"] == [compaction_item("1", "sum")]
    with pytest.raises(UpstreamBroken, match="no summary"):
        write_response([ResponseEnded("stop")], call, id="resp_1", created=1, model="m")


@pytest.mark.parametrize(
    "dialect", ["openai_chat", "openai_responses", "anthropic_messages", "gemini", "ollama"]
)
def test_the_item_is_read_as_text_of_the_user(dialect: str) -> None:
    for kind in ("compaction", "compaction_summary"):
        call = make_call(input=[USER, {**compaction_item("1", "the sum"), "type": kind}, USER])
        body = write_request(call, attempt(dialect, compacts=True)).body.decode()
        assert json.dumps(SUMMED_UP + "the sum")[1:-1] in body
        assert "mpx1." not in body


def test_the_compacted_conversation_has_the_users_last_messages() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,aGk="}
    long = {"role": "user", "content": "x" * (RETAINED_CHARACTERS - 5)}
    shown = {"type": "message", "role": "user", "content": [image]}
    before = [
        USER,
        USER,
        compaction_item("0", "old"),
        long,
        {"role": "assistant", "content": "a"},
        shown,
        USER,
    ]
    call = read_compaction(make_ask(input=before, instructions="i", stream=True))
    assert (is_compaction(call), call.stream) == (True, False)
    events: list[Event] = [TextDelta(0, "sum"), ResponseEnded("stop")]
    body, _ = write_compaction(events, call, id="resp_1", created=7, model="m")
    # The client's type of `output` has no messages of the user, which its own comment promises.
    compacted = CompactedResponse.model_validate({**json.loads(body), "output": []})
    assert (compacted.object, compacted.created_at) == ("response.compaction", 7)
    output = json.loads(body)["output"]
    texts = [part.get("text", "an image")[:5] for item in output[:-1] for part in item["content"]]
    assert texts == ["xxxxx", "an im", "do it"]
    assert output[-1] == compaction_item("1", "sum")


@pytest.mark.parametrize(
    "events",
    [[ResponseEnded("stop")], [TextDelta(0, "half"), ResponseEnded("length")], [TextDelta(0, "half")]],
)
def test_half_a_summary_is_none(events: list[Event]) -> None:
    call = read_compaction(make_ask(input=[USER]))
    with pytest.raises(UpstreamBroken, match="no summary"):
        write_compaction(events, call, id="resp_1", created=1, model="m")


async def test_codex_compacts_with_a_server_of_chat(tmp_path: Path) -> None:
    """Both of its ways, by the official client, and the turn after."""
    async with (
        provider(
            answer(chat_answer("the sum")), stream(*chat_stream("the ", "sum")), answer(chat_answer("on"))
        ) as up,
        gateway(one(up.url, type="llamacpp"), folder=tmp_path) as gw,
        openai.AsyncOpenAI(base_url=f"{gw.base}/v1", api_key="x") as client,
    ):
        compacted = await client.responses.compact(model="m", input=[USER], instructions="You are Codex.")  # type: ignore[list-item]
        assert [item.type for item in compacted.output] == ["message", "compaction"]
        assert up.seen[0].target == "/v1/chat/completions"

        body: Any = {"model": "m", "input": [USER, TRIGGER], "stream": True, "tools": [TOOL]}
        create: Any = client.responses.create
        events: list[Any] = [event async for event in await create(**body)]
        done: list[Any] = [event.item for event in events if event.type == "response.output_item.done"]
        assert [(item.type, events[-1].type) for item in done] == [("compaction", "response.completed")]
        assert up.seen[1].json["tool_choice"] == "none"

        after: Any = [USER, done[0].model_dump(exclude_none=True), USER]
        response = await client.responses.create(model="m", input=after)
        assert response.output_text == "on"
        assert SUMMED_UP + "the sum" in [each["content"] for each in up.seen[2].json["messages"]]


async def test_it_passes_to_a_provider_that_has_it(tmp_path: Path) -> None:
    told: dict[str, Any] = {
        "id": "resp_9",
        "object": "response.compaction",
        "created_at": 1,
        "output": [],
        "usage": {},
    }
    missing = answer({"detail": "Not Found"}, status=404)
    async with (
        provider(answer(told), missing, answer(chat_answer("the sum"))) as up,
        gateway(one(up.url), folder=tmp_path) as gw,
    ):
        body = {"model": "m", "input": [USER], "future": 1}
        got = await gw.ask("POST", "/v1/responses/compact", body)
        assert (got.status, got.json) == (200, told)
        assert (up.seen[0].target, up.seen[0].json) == ("/v1/responses/compact", body)
        got = await gw.ask("POST", "/v1/responses/compact", body)
        assert (got.status, got.json["output"][-1]["type"]) == (200, "compaction")
        assert [each.target for each in up.seen[1:]] == ["/v1/responses/compact", "/v1/chat/completions"]


async def test_a_server_of_responses_without_compaction_is_asked_for_a_summary(tmp_path: Path) -> None:
    own: dict[str, Any] = {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "m",
        "output": [
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
             "content": [{"type": "output_text", "text": "sum", "annotations": []}]}
        ],
    }  # fmt: skip
    async with (
        provider(answer(own)) as up,
        gateway(one(up.url, type="vllm"), folder=tmp_path) as gw,
    ):
        got = await gw.ask("POST", "/v1/responses", {"model": "m", "input": [USER, TRIGGER], "store": False})
        assert up.seen[0].target == "/v1/responses"
        assert PROMPT in json.dumps(up.seen[0].json)
        assert [item["type"] for item in got.json["output"]] == ["compaction"]
