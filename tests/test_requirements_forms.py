"""docs/reference/translation.md#requirements through the whole gateway, as far as it is of
Messages, Responses, Gemini and Ollama clients.

The table of all requirements is in test_requirements.py. What every form has in common with every
provider is in test_pairs.py; what is here is what one form alone asks for, and that whoever is
refused before any provider is asked reads it in its own shape.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import msgspec
import pytest

from tests.dialects.anthropic import peer as anthropic_peer
from tests.dialects.openai_responses import peer as openai_responses_peer
from tests.gateways import Answer, Running, gateway, one
from tests.pairs import SPEAKERS, Said, row, spoken
from tests.pairs import Answer as Spoken
from tests.upstreams import Act, answer, chat_answer, chunk, provider, stream

JSON = (b"content-type", b"application/json")
WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "A tool",
    "input_schema": {"type": "object", "properties": {}},
}
ITEM_TOOL: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "parameters": WEATHER["input_schema"],
    "strict": False,
}
NOBODY = "http://127.0.0.1:9/v1"


async def messages(gw: Running, model: str = "m", *, headers: tuple[tuple[bytes, bytes], ...] = (), **more: Any) -> Answer:  # fmt: skip
    body = {"model": model, "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}], **more}
    return await gw.ask("POST", "/v1/messages", body, headers=(JSON, *headers))


async def responses(gw: Running, model: str = "m", **more: Any) -> Answer:
    return await gw.ask("POST", "/v1/responses", {"model": model, "input": "Hi", **more})


def deltas(events: list[dict[str, Any]], kind: str) -> list[Any]:
    return [e["delta"] for e in events if e["type"] == "content_block_delta" and e["delta"]["type"] == kind]


# --- Messages clients: streams of blocks (R1, R11) ------------------------------------------------


@pytest.mark.parametrize("dialect", ["chat", "gemini", "ollama"])
@pytest.mark.parametrize("arguments", ['{"city": "Bern"}', "{}"])
async def test_r1_a_call_that_comes_whole_has_its_arguments_in_a_delta(
    arguments: str, dialect: str, tmp_path: Path
) -> None:
    act = spoken(dialect, Spoken(calls=(Said("t1", "weather", (arguments,)),), end="calls"), stream=True)
    if dialect == "chat":
        call = {"index": 0, "id": "t1", "type": "function", "function": {"name": "weather", "arguments": arguments}}  # fmt: skip
        act = stream(chunk({"role": "assistant", "tool_calls": [call]}), chunk({}, finish="tool_calls"))
    async with provider(act) as up, gateway(row(dialect, up.url), folder=tmp_path) as gw:
        got = await messages(gw, f"m-{dialect}", stream=True, tools=[WEATHER])
        parts = deltas(anthropic_peer.checked(got.body), "input_json_delta")
        assert len(parts) >= 1
        assert json.loads("".join(part["partial_json"] for part in parts)) == json.loads(arguments)
        assert anthropic_peer.accumulated(got.body).stop_reason == "tool_use"


@pytest.mark.parametrize("dialect", ["chat", "gemini", "ollama"])
async def test_r11_blocks_come_one_after_another_whatever_the_provider_mixes(
    dialect: str, tmp_path: Path
) -> None:
    """A provider of the chat form sends the arguments of both calls in turn; `checked` holds the
    order of the blocks (docs/reference/wire-formats.md#messages).
    """
    calls = (
        Said("t1", "weather", ('{"ci', 'ty": ', '"Bern"}')),
        Said("t2", "time", ('{"zone"', ': "C', 'ET"}')),
    )
    said = Spoken(thought=("Hm",), text=("Let me ", "see."), calls=calls, end="calls")
    async with (
        provider(spoken(dialect, said, stream=True)) as up,
        gateway(row(dialect, up.url), folder=tmp_path) as gw,
    ):
        got = await messages(gw, f"m-{dialect}", stream=True, tools=[WEATHER, WEATHER | {"name": "time"}])
        events = anthropic_peer.checked(got.body)
        starts = [e["content_block"]["type"] for e in events if e["type"] == "content_block_start"]
        assert starts == ["thinking", "text", "tool_use", "tool_use"]
        assert [e["index"] for e in events if e["type"] == "content_block_stop"] == [0, 1, 2, 3]
        made = anthropic_peer.accumulated(got.body)
        assert [b.input for b in made.content if b.type == "tool_use"] == [call.arguments for call in calls]


# --- Messages clients: versions, betas, bytes (R38, R41) ------------------------------------------


def anthropic_row(url: str, **more: Any) -> str:
    return one(url.removesuffix("/v1"), name="claude", type="anthropic", api_key="sk-ours", **more)


def said(head: bytes, name: str) -> list[str]:
    """The values of every header line of this name, as they arrived."""
    rows = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:] if line)
    return [value.strip() for found, _, value in rows if found.lower() == name]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/models/v1/messages"])
@pytest.mark.parametrize(
    ("given", "version", "betas"),
    [
        ((), ["2023-06-01"], []),
        ([(b"anthropic-version", b"2026-10-21")], ["2026-10-21"], []),
        (
            [
                (b"Anthropic-Version", b"2026-10-21"),
                (b"Anthropic-Beta", b"context-management-2025-06-27, some-new-thing-2026-11-01"),
            ],
            ["2026-10-21"],
            ["context-management-2025-06-27,some-new-thing-2026-11-01"],
        ),
        (
            [
                (b"anthropic-version", b"2026-10-21"),
                (b"anthropic-version", b"2023-06-01"),
                (b"anthropic-beta", b"first-2025-01-01"),
                (b"anthropic-beta", b"second-2025-01-01"),
            ],
            ["2026-10-21"],
            ["first-2025-01-01", "second-2025-01-01"],
        ),
        ([(b"anthropic-beta", b" , ")], ["2023-06-01"], []),
    ],
)
async def test_r38_one_version_and_the_betas_pass_as_the_client_said_them(
    given: list[tuple[bytes, bytes]], version: list[str], betas: list[str], path: str, tmp_path: Path
) -> None:
    act = spoken("messages", Spoken(text=("Fine.",)), stream=False)
    async with provider(act) as up, gateway(anthropic_row(up.url), folder=tmp_path) as gw:
        body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        got = await gw.ask("POST", path, body, headers=(JSON, *given))
        assert got.status == 200
        head = up.seen[0].head
        assert said(head, "anthropic-version") == version
        assert said(head, "anthropic-beta") == betas
        assert said(head, "x-api-key") == ["sk-ours"]
        assert said(head, "content-type") == ["application/json"]


async def test_r38_the_version_goes_to_no_provider_of_another_dialect_and_comes_from_no_other_client(
    tmp_path: Path,
) -> None:
    headers = (JSON, (b"anthropic-version", b"2026-10-21"), (b"anthropic-beta", b"a-2025-01-01"))
    async with (
        provider(answer(chat_answer())) as up,
        provider(spoken("messages", Spoken(text=("Fine.",)), stream=False)) as claude,
        gateway(one(up.url) + anthropic_row(claude.url, models='["c"]'), folder=tmp_path) as gw,
    ):
        assert (await messages(gw, headers=headers[1:])).status == 200
        assert b"anthropic" not in up.seen[0].head.lower()
        body = {"model": "c", "messages": [{"role": "user", "content": "Hi"}]}
        assert (await gw.ask("POST", "/v1/chat/completions", body, headers=headers)).status == 200
        assert said(claude.seen[0].head, "anthropic-version") == ["2023-06-01"]
        assert said(claude.seen[0].head, "anthropic-beta") == []


SYSTEM = rb'[ {"type":"text", "text":"Caf\u00e9 \/ \ud83d\ude00",  "cache_control":{"ttl":"1h","type":"ephemeral"}} ]'
TOOLS = rb'[{"input_schema":{"type":"object","properties":{"n":{"maximum":12345678901234567890,"minimum":1.50e0}}},"name":"count","x-unknown":null}]'
FIRST = rb'{"content":[{"text":"One\u2028line","type":"text","cache_control":{"type":"ephemeral"}}],"role":"user"}'
SECOND = rb'{"role":"assistant","content":[{"type":"thinking","thinking":"Hm \u00fc","signature":"EqQB+\/w=="},{"type":"tool_use","id":"t1","name":"count","input":{"n":  7.0}}]}'
THIRD = rb'{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"7"}]}'
FOURTH = rb'{"role":"assistant","content":"Seven."}'


@pytest.mark.parametrize("providers", [1, 2])
@pytest.mark.parametrize("streamed", [True, False])
async def test_r41_what_was_said_before_is_sent_with_the_same_bytes_on_every_turn(
    *, streamed: bool, providers: int, tmp_path: Path
) -> None:
    """A cache is keyed by bytes. With a second provider of the model the body is read, to see whose
    state it holds, and passes all the same.
    """
    signed = Spoken(thought=("Hm ü",), signature="EqQB+/w==", calls=(Said("t1", "count", ('{"n": 7.0}',)),), end="calls")  # fmt: skip
    turns = [[FIRST], [FIRST, SECOND, THIRD], [FIRST, SECOND, THIRD, FOURTH, FIRST]]
    acts = [spoken("messages", signed, stream=streamed)]
    async with provider(*acts) as up, provider(*acts) as other:
        rows = anthropic_row(up.url, models='["up-model"]', priority=1)
        if providers == 2:
            rows += anthropic_row(other.url, models='["up-model"]', priority=2).replace("claude", "other")
        async with gateway(rows + '[aliases]\nmine = "up-model"\n', folder=tmp_path) as gw:
            for told in turns:
                members = [b'"stream":' + (b"true" if streamed else b"false"), b'"max_tokens":99']
                members += [b'"system":' + SYSTEM, b'"model":"mine"', b'"tools":' + TOOLS]
                members.append(b'"messages":[' + b",".join(told) + b"]")
                got = await gw.ask("POST", "/v1/messages", b"{" + b",".join(members) + b"}")
                assert got.status == 200
        assert other.seen == []
        seen = [msgspec.json.decode(each.body, type=dict[str, msgspec.Raw]) for each in up.seen]
        assert [bytes(each["model"]) for each in seen] == [b'"up-model"'] * len(turns)
        for each, told in zip(seen, turns, strict=True):
            assert bytes(each["system"]).strip() == SYSTEM
            assert bytes(each["tools"]).strip() == TOOLS
            assert bytes(each["messages"]).strip() == b"[" + b",".join(told) + b"]"


# --- Messages clients: what was used (R54) --------------------------------------------------------


@pytest.mark.parametrize("streamed", [True, False])
async def test_r54_prompt_tokens_are_fresh_and_read_and_written_ones_together(
    *, streamed: bool, tmp_path: Path
) -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 40,
        "total_tokens": 140,
        "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 10},
    }
    whole = chat_answer() | {"usage": usage}
    pieces = [chunk({"role": "assistant", "content": "Hello"}), chunk({}, finish="stop"), chunk(usage=usage)]
    act = stream(*pieces, b"data: [DONE]\n\n") if streamed else answer(whole)
    async with provider(act) as up, gateway(one(up.url), folder=tmp_path) as gw:
        got = await messages(gw, stream=streamed)
        made = (
            anthropic_peer.accumulated(got.body)
            if streamed
            else anthropic.types.Message.model_validate_json(got.body, strict=True)
        )
        used = made.usage
        counts = (used.input_tokens, used.cache_read_input_tokens, used.cache_creation_input_tokens)
        assert counts == (50, 30, 20)
        assert sum(each or 0 for each in counts) == usage["prompt_tokens"]
        assert used.output_tokens == 40
        assert used.output_tokens_details is not None
        assert used.output_tokens_details.thinking_tokens == 10
        record = await gw.record()
        assert record.usage is not None
        assert (record.usage.input, record.usage.output, record.usage.estimated) == (100, 40, False)


async def test_a_messages_client_finds_the_name_of_its_request_where_its_library_reads_it(
    tmp_path: Path,
) -> None:
    """anthropic-sdk reads `request-id` (docs/reference/wire-formats.md#endpoints-and-headers), of
    answers, streams, counts and errors alike.
    """
    act = spoken("messages", Spoken(text=("Fine.",)), stream=False)
    streamed = spoken("messages", Spoken(text=("Fine.",)), stream=True)
    async with (
        provider(act, streamed, answer({"input_tokens": 1}, request_id="theirs")) as up,
        gateway(anthropic_row(up.url) + one(NOBODY, models='["o"]'), folder=tmp_path) as gw,
    ):
        count = {"messages": [{"role": "user", "content": "Hi"}]}
        for got in (
            await messages(gw),
            await messages(gw, stream=True),
            await gw.ask("POST", "/v1/messages/count_tokens", {"model": "m", **count}),
            await gw.ask("POST", "/v1/messages/count_tokens", {"model": "o", **count}),
            await messages(gw, "unheard-of"),
            await gw.ask("POST", "/v1/messages", b"{"),
        ):
            assert got.headers["request-id"] == got.headers["x-request-id"]
            assert got.headers["request-id"].startswith("mpx-")
        assert "request-id" not in (await responses(gw, "unheard-of")).headers


# --- Responses clients (R5, R47, R49) -------------------------------------------------------------

FOREIGN: dict[str, Any] = {
    "type": "reasoning",
    "id": "rs_0",
    "summary": [],
    "encrypted_content": "c2VhbGVkIGJ5IG5vYm9keQ==",
}
"""Somebody else's state: where the config says that it is dropped, the answer goes through the hub,
and does not pass.
"""


@pytest.mark.parametrize("given", ["deltas and done", "done alone", "the item alone"])
async def test_r5_arguments_are_told_once_however_often_the_provider_tells_them(
    given: str, tmp_path: Path
) -> None:
    arguments = '{"city":"Bern"}'
    call = Spoken(calls=(Said("t1", "weather", ('{"city":', '"Bern"}')),), end="calls")
    data, _ = SPEAKERS["responses"](call, "m")
    events = [json.loads(line[6:]) for line in data.decode().split("\n") if line.startswith("data: ")]
    gone = {"deltas and done": [], "done alone": ["delta"], "the item alone": ["delta", "arguments.done"]}
    kept = [e for e in events if not e["type"].endswith(tuple(gone[given]))] if gone[given] else events
    if given == "done alone":  # nothing but that one event tells them
        for event in kept:
            for item in (event.get("item"), *event.get("response", {}).get("output", ())):
                if item is not None:
                    item["arguments"] = ""
    kept = [e | {"sequence_number": n} for n, e in enumerate(kept)]
    config = '[server]\non_pinned_state = "drop"\n'
    async with (
        provider(stream(openai_responses_peer.sse_bytes(*kept))) as up,
        gateway(config + one(up.url), folder=tmp_path) as gw,
    ):
        asked = [{"role": "user", "content": "Hi"}, FOREIGN, {"role": "user", "content": "And?"}]
        got = await responses(gw, input=asked, stream=True, tools=[ITEM_TOOL])
        assert up.seen[0].target == "/v1/responses"
        assert FOREIGN["encrypted_content"].encode() not in up.seen[0].body
        told = openai_responses_peer.accepted_by_the_official_client(got.body)
        kind = "response.function_call_arguments"
        assert "".join(e["delta"] for e in told if e["type"] == f"{kind}.delta") == arguments
        assert [e["arguments"] for e in told if e["type"] == f"{kind}.done"] == [arguments]
        items = [item["arguments"] for item in told[-1]["response"]["output"]]
        assert items == [arguments]
        assert not (await gw.record()).passthrough


ENDS = {
    "calls": Spoken(
        thought=("Hm",),
        text=("See",),
        calls=(Said("t1", "weather", ('{"a"', ": 1}")), Said("t2", "weather", ("{}",))),
        end="calls",
    ),
    "cut": Spoken(text=("Half",), end="length"),
    "broken": Spoken(text=("Half",), broken="error"),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("dialect", ["chat", "messages", "gemini", "ollama"])
async def test_r47_r49_every_response_object_is_whole_and_every_event_in_its_place(
    dialect: str, end: str, tmp_path: Path
) -> None:
    """OpenAI's own accumulator takes the events (R47); every response object in them has all
    echoes, of which those that were asked for are what was asked (R49).
    """
    data, _ = SPEAKERS[dialect](ENDS[end], f"m-{dialect}")
    sent: Act = stream(data, head=b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n") if dialect == "ollama" else stream(data)  # fmt: skip
    async with provider(sent) as up, gateway(row(dialect, up.url), folder=tmp_path) as gw:
        set_ = {"instructions": "Be brief.", "metadata": {"a": "b"}, "max_output_tokens": 77}
        got = await responses(gw, f"m-{dialect}", stream=True, tools=[ITEM_TOOL], **set_)
        told = openai_responses_peer.accepted_by_the_official_client(got.body)
        assert (
            told[-1]["type"]
            == {
                "calls": "response.completed",
                "cut": "response.incomplete",
                "broken": "response.failed",
            }[end]
        )
        objects = [each["response"] for each in told if "response" in each]
        assert len(objects) == 3
        assert {each["id"] for each in objects} == {objects[0]["id"]}
        for each in objects:
            openai_responses_peer.check_response(each)
            assert {name: each[name] for name in set_} == set_
            assert [tool["name"] for tool in each["tools"]] == ["weather"]
        assert b"[DONE]" not in got.body
        if end != "broken":
            done = [each["item"] for each in told if each["type"] == "response.output_item.done"]
            assert objects[-1]["output"] == done


# --- how long a prompt is (R55) -------------------------------------------------------------------

PROMPT = "How long is this prompt, please, and who counted it?"
COUNTING: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "anthropic": ("/v1/messages/count_tokens", "/v1/messages/count_tokens", {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}, {"input_tokens": 4242}),
    "openai": ("/v1/responses/input_tokens", "/v1/responses/input_tokens", {"model": "m", "input": PROMPT}, {"object": "response.input_tokens", "input_tokens": 4242}),
    "gemini": ("/v1beta/models/m:countTokens", "/v1beta/models/m:countTokens", {"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]}, {"totalTokens": 4242}),
}  # fmt: skip
"""For each type of provider with such a question: its path here, its path there, what is asked,
what is answered.
"""
HOSTS = {"anthropic": "", "openai": "/v1", "gemini": "/v1beta"}


def counter(kind: str, url: str, **more: Any) -> str:
    return one(url.removesuffix("/v1") + HOSTS[kind], name=kind, type=kind, api_key="sk-ours", **more)


def count_of(got: Answer) -> int:
    tokens: int = got.json.get("input_tokens", got.json.get("totalTokens"))
    return tokens


@pytest.mark.parametrize("kind", COUNTING)
async def test_r55_a_provider_that_counts_is_asked_and_its_count_passes(kind: str, tmp_path: Path) -> None:
    here, there, asked, counted = COUNTING[kind]
    body = json.dumps(counted).encode()
    async with provider(answer(body)) as up, gateway(counter(kind, up.url), folder=tmp_path) as gw:
        got = await gw.ask("POST", here, asked)
        assert (got.status, got.body) == (200, body)
        assert "x-modelplex-changes" not in got.headers
        assert (up.seen[0].target, up.seen[0].json) == (there, asked)


@pytest.mark.parametrize("kind", COUNTING)
async def test_r55_where_nobody_counts_an_estimate_is_marked_as_one(kind: str, tmp_path: Path) -> None:
    here, _, asked, _ = COUNTING[kind]
    async with provider() as up, gateway(one(up.url, type="ollama"), folder=tmp_path) as gw:
        got = await gw.ask("POST", here, asked)
        assert (got.status, got.headers["x-modelplex-changes"]) == (200, "lower=input_tokens")
        assert count_of(got) == -(-len(PROMPT) // 4)
        assert up.seen == []
        record = await gw.record()
        assert [(change.op, change.path) for change in record.changes] == [("lower", "input_tokens")]


@pytest.mark.parametrize("kind", COUNTING)
async def test_r55_of_several_providers_the_one_that_counts_is_asked(kind: str, tmp_path: Path) -> None:
    here, _, asked, counted = COUNTING[kind]
    async with provider() as plain, provider(answer(counted)) as up:
        config = one(plain.url, type="ollama", priority=1) + counter(kind, up.url, priority=2)
        async with gateway(config, folder=tmp_path) as gw:
            assert count_of(await gw.ask("POST", here, asked)) == 4242
            assert plain.seen == []


async def test_r55_state_that_either_of_two_providers_may_have_made_is_not_sent_to_be_counted(
    tmp_path: Path,
) -> None:
    here, _, asked, counted = COUNTING["anthropic"]
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "EqQB"}
    turns = [*asked["messages"], {"role": "assistant", "content": [thinking, {"type": "text", "text": "Hi"}]}]
    async with provider(answer(counted)) as one_, provider(answer(counted)) as other:
        config = "".join(
            one(up.url.removesuffix("/v1"), name=name, type="anthropic", api_key=f"sk-{name}")
            for name, up in (("a", one_), ("b", other))
        )
        async with gateway(config, folder=tmp_path) as gw:
            got = await gw.ask("POST", here, {**asked, "messages": turns})
            assert (got.status, got.headers["x-modelplex-changes"]) == (200, "lower=input_tokens")
            assert count_of(got) > 0
            assert one_.seen == other.seen == []


@pytest.mark.parametrize("body", [b"<html>", b'{"detail":"Not Found"}', b'{"error":{"code":404,"message":"File Not Found","type":"not_found_error"}}'])  # fmt: skip
@pytest.mark.parametrize("status", [404, 405, 501])
@pytest.mark.parametrize("kind", COUNTING)
async def test_r55_a_provider_that_turns_out_not_to_count_gets_an_estimate_in_its_place(
    kind: str, status: int, body: bytes, tmp_path: Path
) -> None:
    """Many a service speaks a form without all of its endpoints."""
    here, _, asked, _ = COUNTING[kind]
    rules = "\n[failover]\nbackoff = 0.01\nbreaker_failures = 1\n"
    async with (
        provider(answer(body, status=status)) as up,
        gateway(counter(kind, up.url) + rules, folder=tmp_path) as gw,
    ):
        for _ in range(2):
            got = await gw.ask("POST", here, asked)
            assert (got.status, got.headers["x-modelplex-changes"]) == (200, "lower=input_tokens")
            assert count_of(got) == -(-len(PROMPT) // 4)
        assert len(up.seen) == 1  # it is remembered, and says nothing of its health


@pytest.mark.parametrize("kind", COUNTING)
@pytest.mark.parametrize(
    ("status", "message"), [(500, "Down"), (404, "model: models/m, not found"), (400, "Bad")]
)
async def test_r55_a_count_that_fails_is_no_estimate(
    kind: str, status: int, message: str, tmp_path: Path
) -> None:
    here, _, asked, _ = COUNTING[kind]
    rules = "\n[failover]\nretries = 0\n"
    types = {500: "api_error", 404: "not_found_error", 400: "invalid_request_error"}
    word: dict[str, Any] = {"message": message, "type": types[status]}
    if kind == "gemini":
        states = {500: "INTERNAL", 404: "NOT_FOUND", 400: "INVALID_ARGUMENT"}
        word = {"message": message, "code": status, "status": states[status]}
    async with (
        provider(answer({"type": "error", "error": word}, status=status)) as up,
        gateway(counter(kind, up.url) + rules, folder=tmp_path) as gw,
    ):
        got = await gw.ask("POST", here, asked)
        assert got.status == (502 if status == 500 else status)
        assert message in got.error["message"]


async def test_r55_a_prompt_in_a_whole_request_of_gemini_is_estimated_too(tmp_path: Path) -> None:
    whole = {"generateContentRequest": {"model": "models/m", **COUNTING["gemini"][2]}}
    async with gateway(one(NOBODY), folder=tmp_path) as gw:
        got = await gw.ask("POST", "/v1beta/models/m:countTokens", whole)
        assert count_of(got) == -(-len(PROMPT) // 4)


# --- errors before anybody is asked, in the caller's own shape ------------------------------------

Shape = str
CALLS: dict[str, tuple[Shape, bytes]] = {
    "/v1/messages": ("messages", b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"%s"}]}'),
    "/v1/messages/count_tokens": ("messages", b'{"model":"m","messages":[{"role":"user","content":"%s"}]}'),
    "/v1/responses": ("openai", b'{"model":"m","input":"%s"}'),
    "/v1/responses/input_tokens": ("openai", b'{"model":"m","input":"%s"}'),
    "/v1/responses/compact": ("openai", b'{"model":"m","input":"%s"}'),
    "/v1beta/models/m:generateContent": ("gemini", b'{"contents":[{"parts":[{"text":"%s"}]}]}'),
    "/v1beta/models/m:streamGenerateContent?alt=sse": ("gemini", b'{"contents":[{"parts":[{"text":"%s"}]}]}'),
    "/v1beta/models/m:streamGenerateContent": ("gemini", b'{"contents":[{"parts":[{"text":"%s"}]}]}'),
    "/v1/models/m:generateContent": ("gemini", b'{"contents":[{"parts":[{"text":"%s"}]}]}'),
    "/v1beta/models/m:countTokens": ("gemini", b'{"contents":[{"parts":[{"text":"%s"}]}]}'),
    "/v1beta/models/m:batchEmbedContents": ("gemini", b'{"requests":[{"content":{"parts":[{"text":"%s"}]}}]}'),
    "/api/chat": ("ollama", b'{"model":"m","messages":[{"role":"user","content":"%s"}]}'),
    "/api/generate": ("ollama", b'{"model":"m","prompt":"%s"}'),
    "/models/api/embed": ("ollama", b'{"model":"m","input":"%s"}'),
}  # fmt: skip


def is_shaped(got: Answer, shape: Shape, *, status: int) -> str:
    """Hold an error to the form's own shape; returns its message."""
    assert got.status == status, got.body
    assert got.headers["content-type"] == "application/json"
    told = got.json
    message: str = told["error"] if shape == "ollama" else told["error"]["message"]
    match shape:
        case "messages":
            assert set(told) == {"type", "error", "request_id"}
            assert told["type"] == "error"
            words = {400: "invalid_request_error", 404: "not_found_error", 413: "request_too_large"}
            assert told["error"]["type"] == words.get(status, "invalid_request_error")
        case "gemini":
            assert set(told) == {"error"}
            assert told["error"]["code"] == status
            words = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 405: "UNIMPLEMENTED"}
            assert told["error"]["status"] == words.get(status, "INVALID_ARGUMENT")
        case "ollama":
            assert set(told) == {"error"}
        case _:
            assert set(told["error"]) == {"message", "type", "param", "code"}
    assert message
    return message


@pytest.mark.parametrize("path", CALLS)
async def test_a_bad_body_is_a_400_in_the_callers_shape(path: str, tmp_path: Path) -> None:
    shape, _ = CALLS[path]
    async with gateway(one(NOBODY), folder=tmp_path) as gw:
        for body in (b"{", b"[]", b"", b"[" * 100_000):
            message = is_shaped(await gw.ask("POST", path, body), shape, status=400)
            assert "JSON" in message or "nested" in message


@pytest.mark.parametrize("path", CALLS)
async def test_a_body_above_the_limit_is_a_413_in_the_callers_shape(path: str, tmp_path: Path) -> None:
    shape, body = CALLS[path]
    config = "[server]\nmax_request_size = 1000\n" + one(NOBODY)
    async with gateway(config, folder=tmp_path) as gw:
        assert "1000" in is_shaped(await gw.ask("POST", path, body % (b"x" * 2000)), shape, status=413)


@pytest.mark.parametrize("path", CALLS)
async def test_a_model_that_nobody_has_is_a_404_in_the_callers_shape(path: str, tmp_path: Path) -> None:
    shape, body = CALLS[path]
    path, body = path.replace("/m:", "/unheard-of:"), body.replace(b'"m"', b'"unheard-of"')
    async with gateway(one(NOBODY), folder=tmp_path) as gw:
        assert "unheard-of" in is_shaped(await gw.ask("POST", path, body % b"Hi"), shape, status=404)


@pytest.mark.parametrize("path", CALLS)
async def test_a_wrong_method_is_a_405_in_the_callers_shape(path: str, tmp_path: Path) -> None:
    async with gateway(one(NOBODY), folder=tmp_path) as gw:
        assert "POST" in is_shaped(await gw.ask("GET", path), CALLS[path][0], status=405)


@pytest.mark.parametrize(
    ("method", "path", "shape"),
    [
        ("POST", "/v1beta/files", "gemini"),
        ("POST", "/models/v1beta/cachedContents", "gemini"),
        ("GET", "/v1beta/models/unheard-of", "gemini"),
        ("GET", "/v1beta/x", "gemini"),
        ("POST", "/api/pull", "ollama"),
        ("DELETE", "/api/delete", "ollama"),
        ("GET", "/models/api/x", "ollama"),
        ("POST", "/v1/messages/batches", "messages"),
        ("GET", "/v1/messages/batches/b1", "messages"),
        ("POST", "/v1/responses/unheard-of", "openai"),
        ("GET", "/v1/responses/resp_unheard_of", "openai"),
        ("GET", "/v1/models/unheard-of", "openai"),
    ],
)
async def test_a_path_below_a_forms_base_is_a_404_in_its_shape(
    method: str, path: str, shape: Shape, tmp_path: Path
) -> None:
    async with gateway(one(NOBODY), folder=tmp_path) as gw:
        for unix in (False, True):
            is_shaped(await gw.ask(method, path, {"model": "m"}, unix=unix), shape, status=404)


@pytest.mark.parametrize(
    ("header", "shape"),
    [(b"anthropic-version", "messages"), (b"x-goog-api-client", "gemini"), (b"x-other", "openai")],
)
async def test_on_a_path_that_forms_share_a_client_is_known_by_its_headers(
    header: bytes, shape: Shape, tmp_path: Path
) -> None:
    async with gateway(one(NOBODY), folder=tmp_path) as gw:
        for path in ("/v1/models/unheard-of", "/v1/files"):
            is_shaped(await gw.ask("GET", path, headers=[(header, b"2023-06-01")]), shape, status=404)
