"""The official OpenAI client in front of providers that speak another language: Anthropic Messages
and Ollama, scripted from transcripts.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.gateways import gateway, one
from tests.official import WAYS, Official, in_front_of, official
from tests.upstreams import Act, Scripted, answer, chat_answer, hang_up, provider, raw, stream

TRANSCRIPTS = Path(__file__).parent / "transcripts"
CLAUDE = "claude-sonnet-4-5"
ANTHROPIC: dict[str, Any] = {"type": "anthropic", "models": f'["{CLAUDE}"]', "api_key": "sk-ant-ours"}
OLLAMA: dict[str, Any] = {"type": "ollama", "models": '["qwen3"]'}
ONCE = "\n[failover]\nretries = 0\n"
SSE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
NDJSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
USAGE = {"stream_options": {"include_usage": True}}

PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n not really").decode()
SIGNATURE = "EqQBCgIYAhIM+sig/one=="
THOUGHT = "They want the weather in two places \u2013 Zürich first."
TEXT = "Ich schaue nach. 🌦"
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "A tool",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
    for name in ("get_weather", "get_time")
]


def claude_stream(case: str, *, piece: int = 40) -> Act:
    """A recorded stream, cut where no event ends."""
    data = (TRANSCRIPTS / "anthropic_messages" / case / "stream.sse").read_bytes()
    return stream(*[data[at : at + piece] for at in range(0, len(data), piece)], head=SSE)


def claude_answer(case: str) -> Act:
    body = (TRANSCRIPTS / "anthropic_messages" / case / "answer.json").read_bytes()
    return answer(body, request_id="req_7")


def ollama_stream(case: str, *, piece: int = 40) -> Act:
    data = (TRANSCRIPTS / "ollama" / case / "response.ndjson").read_bytes()
    return stream(*[data[at : at + piece] for at in range(0, len(data), piece)], head=NDJSON)


def ollama_answer(**message: Any) -> Act:
    body = {
        "model": "qwen3",
        "created_at": "2026-08-21T10:00:00Z",
        "message": {"role": "assistant", "content": ""} | message,
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 11,
        "eval_count": 7,
    }
    return answer(body)


def claude_text(text: str = "Fine.") -> Act:
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": CLAUDE,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 3},
    }
    return answer(body)


def user(*content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content[0] if isinstance(content[0], str) else list(content)}]


def picture(media_type: str = "image/png") -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{PICTURE}"}}


# --- Anthropic: what comes back -------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_thinking_text_and_parallel_calls_arrive_in_a_stream(way: str, tmp_path: Path) -> None:
    async with in_front_of(
        claude_stream("thinking_text_two_tools"), folder=tmp_path, way=way, **ANTHROPIC
    ) as (up, gw, client):
        events, final = await client.helper(model=CLAUDE, tools=TOOLS, **USAGE)
        choice = final.choices[0]
        assert (choice.message.content, choice.finish_reason) == (TEXT, "tool_calls")
        assert choice.message.reasoning_content == THOUGHT
        calls = [(c.id, c.function.name, c.function.arguments) for c in choice.message.tool_calls]
        assert calls == [
            ("toolu_01A", "get_weather", '{"city": "Zürich"}'),
            ("toolu_01B", "get_time", "{}"),
        ]
        deltas = [e.arguments_delta for e in events if e.type == "tool_calls.function.arguments.delta"]
        assert [d for d in deltas if d] == ['{"ci', 'ty": "Zürich"', "}", "{}"]
        _is_weather_usage(final.usage)
        seen = up.seen[0]
        assert (seen.target, seen.headers["x-api-key"]) == ("/v1/messages", "sk-ant-ours")
        assert seen.headers["anthropic-version"] == "2023-06-01"
        assert "authorization" not in seen.headers
        record = await gw.record()
        assert (record.outcome, record.passthrough, record.finish_reason) == ("ok", False, "tool_calls")


def _is_weather_usage(usage: Any) -> None:
    """Nothing recomputed: fresh 12, read 2000, written 300, of which the client's `prompt_tokens`
    are the whole.
    """
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (2312, 89, 2401)
    assert usage.prompt_tokens_details.cached_tokens == 2000
    assert usage.prompt_tokens_details.cache_write_tokens == 300
    assert usage.completion_tokens_details.reasoning_tokens == 40


@pytest.mark.parametrize("way", ["sync-tcp", "async-unix"])
async def test_a_whole_answer_is_the_same_as_its_stream(way: str, tmp_path: Path) -> None:
    async with in_front_of(
        claude_answer("thinking_text_two_tools"),
        claude_stream("thinking_text_two_tools"),
        folder=tmp_path,
        way=way,
        **ANTHROPIC,
    ) as (_, _, client):
        whole = await client.chat(model=CLAUDE, tools=TOOLS)
        _, final = await client.helper(model=CLAUDE, tools=TOOLS, **USAGE)
        message = whole.choices[0].message.model_dump(exclude_none=True)
        streamed = final.choices[0].message.model_dump(exclude_none=True)
        for call in streamed["tool_calls"]:
            call.pop("index")
            call["function"].pop("parsed_arguments", None)
        for each in (message, streamed):
            for call in each["tool_calls"]:
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
        assert streamed == message
        assert whole.usage is not None
        _is_weather_usage(whole.usage)
        assert whole.service_tier == "priority"
        assert client.exchanges[0].headers["x-modelplex-upstream-request-id"] == "req_7"
        assert final.usage.to_dict() == whole.usage.to_dict()


ENDS: dict[str, tuple[str, str | None]] = {
    "refusal": ("content_filter", "It could harm."),
    "stop_sequence": ("stop", None),
    "context_full": ("length", None),
    "paused_turn": ("length", None),
    "cut_inside_arguments": ("length", None),
    "cut_before_the_arguments": ("length", None),
    "redacted_thinking": ("stop", None),
    "thinking_omitted": ("stop", None),
    "whole_call_in_one_delta": ("tool_calls", None),
    "input_in_the_start": ("tool_calls", None),
    "unknown_things": ("stop", None),
    "hosted_search_with_citations": ("stop", None),
}


@pytest.mark.parametrize("case", ENDS)
async def test_every_way_to_stop_is_told_in_the_clients_words(case: str, tmp_path: Path) -> None:
    async with in_front_of(claude_stream(case), folder=tmp_path, **ANTHROPIC) as (_, _, client):
        chunks = await client.chunks(model=CLAUDE, **USAGE)
        reason, refusal = ENDS[case]
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == reason
        told = "".join(c.choices[0].delta.refusal or "" for c in chunks if c.choices)
        assert told == (refusal or "")


@pytest.mark.parametrize(
    "case", ["refusal", "stop_sequence", "redacted_thinking", "hosted_search_with_citations"]
)
async def test_whole_answers_are_of_the_clients_types(case: str, tmp_path: Path) -> None:
    async with in_front_of(claude_answer(case), folder=tmp_path, **ANTHROPIC) as (_, _, client):
        got = await client.chat(model=CLAUDE)
        assert got.choices[0].finish_reason == ENDS[case][0]


@pytest.mark.parametrize("way", WAYS)
async def test_an_error_after_output_raises(way: str, tmp_path: Path) -> None:
    async with in_front_of(claude_stream("error_after_output"), folder=tmp_path, way=way, **ANTHROPIC) as (
        _,
        gw,
        client,
    ):
        with pytest.raises(openai.APIError) as caught:
            await client.chunks(model=CLAUDE)
        assert isinstance(caught.value.body, dict)
        assert "Slow down" in caught.value.message
        record = await gw.record()
        assert (record.outcome, record.blame) == ("broken", "provider")


@pytest.mark.parametrize("case", ["broken_off"])
async def test_a_stream_that_does_not_end_well_raises(case: str, tmp_path: Path) -> None:
    async with in_front_of(claude_stream(case), folder=tmp_path, **ANTHROPIC) as (_, _, client):
        with pytest.raises(openai.APIError):
            await client.chunks(model=CLAUDE)


async def test_a_stream_cut_at_any_event_raises(tmp_path: Path) -> None:
    data = (TRANSCRIPTS / "anthropic_messages" / "thinking_text_two_tools" / "stream.sse").read_bytes()
    events = [event + b"\n\n" for event in data.split(b"\n\n") if event]
    cuts = [stream(*events[:end], head=SSE, end=end % 2 == 0) for end in range(4, len(events))]
    rules = ONCE + "breaker_failures = 1000\n"
    async with in_front_of(*cuts, folder=tmp_path, rules=rules, **ANTHROPIC) as (up, _, client):
        for _ in cuts:
            with pytest.raises(openai.APIError) as caught:
                await client.chunks(model=CLAUDE, tools=TOOLS)
            assert not isinstance(caught.value, openai.APIConnectionError)
        assert len(up.seen) == len(cuts)


async def test_an_error_inside_a_200_before_output_fails_over_unseen(tmp_path: Path) -> None:
    async with (
        provider(claude_stream("overloaded_inside_200")) as busy,
        provider(claude_stream("thinking_text_two_tools")) as well,
    ):
        config = one(busy.url.removesuffix("/v1"), name="busy", priority=1, **ANTHROPIC)
        config += one(well.url.removesuffix("/v1"), name="well", priority=2, **ANTHROPIC)
        async with gateway(config, folder=tmp_path) as gw, official(gw) as client:
            _, final = await client.helper(model=CLAUDE, tools=TOOLS)
            assert final.choices[0].message.content == TEXT
            assert client.exchanges[0].headers["x-modelplex-provider"] == "well"
            assert client.exchanges[0].headers["x-modelplex-attempts"] == "2"


def claude_error(status: int, type: str, message: str = "told so", **headers: str) -> Act:
    body = {"type": "error", "error": {"type": type, "message": message}, "request_id": "req_1"}
    return answer(body, status=status, request_id="req_1", **headers)


@pytest.mark.parametrize(
    ("act", "kind", "status", "code"),
    [
        (claude_error(400, "invalid_request_error"), openai.BadRequestError, 400, None),
        (
            claude_error(400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"),
            openai.BadRequestError,
            400,
            "context_length_exceeded",
        ),
        (claude_error(401, "authentication_error"), openai.InternalServerError, 502, "upstream_auth"),
        (claude_error(402, "billing_error"), openai.InternalServerError, 502, "upstream_auth"),
        (claude_error(403, "permission_error"), openai.InternalServerError, 502, "upstream_auth"),
        (claude_error(404, "not_found_error"), openai.NotFoundError, 404, "model_not_found"),
        (claude_error(413, "request_too_large"), openai.APIStatusError, 413, "request_too_large"),
        (claude_error(500, "api_error"), openai.InternalServerError, 502, "upstream_error"),
        (claude_error(504, "timeout_error"), openai.InternalServerError, 504, "upstream_timeout"),
        (claude_error(529, "overloaded_error"), openai.InternalServerError, 503, "overloaded"),
        (answer(b"<html>", status=502, label="text/html"), openai.InternalServerError, 502, "upstream_error"),
        (hang_up, openai.InternalServerError, 502, "upstream_error"),
        (raw(b"HTTP/1.1 200 OK\r\n"), openai.InternalServerError, 502, "upstream_error"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_each_class_of_anthropics_errors_is_one_of_the_clients(
    *,
    act: Act,
    kind: type[openai.APIStatusError],
    status: int,
    code: str | None,
    streamed: bool,
    tmp_path: Path,
) -> None:
    async with in_front_of(act, folder=tmp_path, rules=ONCE, **ANTHROPIC) as (_, _, client):
        with pytest.raises(kind) as caught:
            await (client.chunks(model=CLAUDE) if streamed else client.chat(model=CLAUDE))
        assert (caught.value.status_code, caught.value.code) == (status, code)
        refused = caught.value.response.headers.get("x-should-retry")
        assert (refused == "false") == (code == "upstream_auth")
        assert "sk-ant" not in caught.value.message


async def test_anthropics_rate_limit_shows_how_long_to_wait(tmp_path: Path) -> None:
    limits = {"anthropic_ratelimit_requests_remaining": "0"}
    spent = claude_error(429, "rate_limit_error", "spend limit")
    limited = claude_error(429, "rate_limit_error", retry_after="77", **limits)
    async with in_front_of(spent, limited, folder=tmp_path, rules=ONCE, **ANTHROPIC) as (_, _, client):
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat(model=CLAUDE)
        assert "retry-after" not in caught.value.response.headers
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat(model=CLAUDE)
        headers = caught.value.response.headers
        assert (headers["retry-after"], headers["anthropic-ratelimit-requests-remaining"]) == ("77", "0")
        assert caught.value.code == "rate_limit_exceeded"


# --- Anthropic: what goes up ----------------------------------------------------------------------


async def test_pictures_and_files_go_up_as_blocks(tmp_path: Path) -> None:
    pdf = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}
    link = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
    async with in_front_of(claude_text(), folder=tmp_path, way="async-tcp", **ANTHROPIC) as (up, _, client):
        await client.chat(
            model=CLAUDE, messages=user({"type": "text", "text": "Look"}, picture("image/webp"), pdf, link)
        )
        text, image, document, linked = up.seen[0].json["messages"][0]["content"]
        assert text == {"type": "text", "text": "Look"}
        source = {"type": "base64", "media_type": "image/webp", "data": PICTURE}
        assert image == {"type": "image", "source": source}
        assert document["source"] == {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
        assert document["title"] == "a.pdf"
        assert linked["source"] == {"type": "url", "url": "https://example.org/cat.png"}


class City(BaseModel):
    name: str
    inhabitants: int


async def test_a_schema_is_asked_for_natively_and_comes_back_parsed(tmp_path: Path) -> None:
    act = claude_text('{"name": "Bern", "inhabitants": 140000}')
    async with in_front_of(act, folder=tmp_path, **ANTHROPIC) as (up, _, client):
        got = await client.parse(model=CLAUDE, response_format=City)
        assert got.choices[0].message.parsed == City(name="Bern", inhabitants=140000)
        form = up.seen[0].json["output_config"]["format"]
        assert form["type"] == "json_schema"
        assert set(form["schema"]["properties"]) == {"name", "inhabitants"}


async def test_a_schema_for_an_older_model_is_a_forced_tool_that_nobody_sees(tmp_path: Path) -> None:
    class Named(BaseModel):
        name: str

    class Person(Named):
        age: int

    old: dict[str, Any] = ANTHROPIC | {"models": '["claude-opus-4-1"]'}
    acts = [claude_stream("answer_as_a_tool"), claude_answer("answer_as_a_tool")]
    async with in_front_of(*acts, folder=tmp_path, **old) as (up, _, client):
        _, final = await client.helper(model="claude-opus-4-1", response_format=Person)
        assert final.choices[0].message.parsed == Person(name="Ada", age=36)
        assert final.choices[0].finish_reason == "stop"
        assert not final.choices[0].message.tool_calls
        whole = await client.parse(model="claude-opus-4-1", response_format=Named)
        assert whole.choices[0].message.parsed == Named(name="Ada")
        assert up.seen[0].json["tool_choice"]["type"] == "tool"


async def test_settings_are_mapped_and_what_is_lost_is_told(tmp_path: Path) -> None:
    async with in_front_of(claude_text(), folder=tmp_path, way="async-tcp", **ANTHROPIC) as (up, gw, client):
        await client.chat(
            model=CLAUDE,
            messages=[{"role": "developer", "content": "Be brief."}, *user("Hi")],
            max_completion_tokens=99,
            temperature=1.5,
            stop=["END"],
            seed=7,
            user="u1",
            tools=TOOLS,
            tool_choice="required",
            parallel_tool_calls=False,
            metadata={"a": "b"},
        )
        body = up.seen[0].json
        assert body["system"] == [{"type": "text", "text": "Be brief."}]
        assert (body["max_tokens"], body["stop_sequences"]) == (99, ["END"])
        assert body["temperature"] == 1
        assert body["metadata"] == {"user_id": "u1"}
        assert body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
        assert "max_completion_tokens" not in body
        changes = client.exchanges[0].changes
        assert {"clamp=temperature", "drop=seed", "drop=metadata"} <= set(changes)
        record = await gw.record()
        assert {f"{c.op}={c.path}" for c in record.changes} >= set(changes)
        assert all(c.reason for c in record.changes)


async def test_losses_are_refused_where_the_config_says_so(tmp_path: Path) -> None:
    async with provider(claude_text()) as up:
        config = '[server]\non_loss = "refuse"\n' + one(up.url.removesuffix("/v1"), **ANTHROPIC)
        async with gateway(config, folder=tmp_path) as gw, official(gw) as client:
            with pytest.raises(openai.BadRequestError) as caught:
                await client.chat(model=CLAUDE, seed=7)
            assert caught.value.param == "seed"
            assert up.seen == []
            assert (await client.chat(model=CLAUDE)).choices[0].message.content == "Fine."


async def test_what_cannot_be_said_to_anthropic_is_a_bad_request(tmp_path: Path) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    async with in_front_of(claude_text(), folder=tmp_path, **ANTHROPIC) as (up, _, client):
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat(model=CLAUDE, n=2)
        assert caught.value.param == "n"
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat(model=CLAUDE, messages=user(sound))
        assert (caught.value.param or "").startswith("messages[0].content[0]")
        assert up.seen == []


async def test_what_anthropic_has_no_endpoint_for_is_a_bad_request(tmp_path: Path) -> None:
    async with in_front_of(claude_text(), folder=tmp_path, **ANTHROPIC) as (up, _, client):
        for asking in (
            client.embed(model=CLAUDE, input="Hi"),
            client.complete(model=CLAUDE, prompt="Once upon a"),
        ):
            with pytest.raises(openai.BadRequestError) as caught:
                await asking
            assert (caught.value.param, caught.value.code) == ("model", "unsupported_by_provider")
        assert up.seen == []


# --- Anthropic: a conversation with tools and thinking --------------------------------------------


async def _first_turn(client: Official, *, streamed: bool) -> list[Any]:
    """The conversation so far, as a program holds it: its question, the message that it got, and
    its tools' results.
    """
    asked = user("What is the weather?")
    if streamed:
        _, final = await client.helper(model=CLAUDE, messages=asked, tools=TOOLS)
        message = final.choices[0].message
    else:
        message = (await client.chat(model=CLAUDE, messages=asked, tools=TOOLS)).choices[0].message
    results = [
        {"role": "tool", "tool_call_id": "toolu_01B", "content": "noon"},
        {
            "role": "tool",
            "tool_call_id": "toolu_01A",
            "content": [{"type": "text", "text": "See:"}, picture()],
        },
    ]
    return [*asked, message.model_dump(exclude_none=True), *results]


def _turn(case: str, *, streamed: bool) -> Act:
    return claude_stream(case) if streamed else claude_answer(case)


@pytest.mark.parametrize("streamed", [False, True])
async def test_thinking_and_its_signature_go_back_byte_for_byte(*, streamed: bool, tmp_path: Path) -> None:
    acts = [_turn("thinking_text_two_tools", streamed=streamed), claude_text("Rain at noon.")]
    async with in_front_of(*acts, folder=tmp_path, **ANTHROPIC) as (up, _, client):
        messages = await _first_turn(client, streamed=streamed)
        got = await client.chat(model=CLAUDE, messages=messages, tools=TOOLS)
        assert got.choices[0].message.content == "Rain at noon."
        _, assistant, results = up.seen[1].json["messages"]
        assert assistant == {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE},
                {"type": "text", "text": TEXT},
                {"type": "tool_use", "id": "toolu_01A", "name": "get_weather", "input": {"city": "Zürich"}},
                {"type": "tool_use", "id": "toolu_01B", "name": "get_time", "input": {}},
            ],
        }
        # All results in one turn, in the order of the calls, the picture inside its result (R18,
        # R32).
        weather, time = results["content"]
        assert (weather["tool_use_id"], time["tool_use_id"]) == ("toolu_01A", "toolu_01B")
        source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
        assert weather["content"] == [{"type": "text", "text": "See:"}, {"type": "image", "source": source}]


@pytest.mark.parametrize("streamed", [False, True])
async def test_redacted_thinking_goes_back_byte_for_byte(*, streamed: bool, tmp_path: Path) -> None:
    acts = [_turn("redacted_thinking", streamed=streamed), claude_text()]
    async with in_front_of(*acts, folder=tmp_path, **ANTHROPIC) as (up, _, client):
        if streamed:
            _, final = await client.helper(model=CLAUDE)
            message = final.choices[0].message
        else:
            message = (await client.chat(model=CLAUDE)).choices[0].message
        said = message.model_dump(exclude_none=True)
        await client.chat(model=CLAUDE, messages=[*user("Hi"), said, *user("And now?")])
        sealed = {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix/LafPsn4a"}
        assert up.seen[1].json["messages"][1]["content"] == [sealed, {"type": "text", "text": "Done."}]


def _three(claude: Scripted, other: Scripted, gpt: Scripted) -> str:
    """The maker of the state, the same service under another name, and a service of the client's
    own language.
    """
    return (
        one(claude.url.removesuffix("/v1"), name="maker", **ANTHROPIC)
        + one(
            other.url.removesuffix("/v1"),
            name="other",
            **ANTHROPIC | {"models": '["claude-opus-4-5"]', "api_key": "sk-ant-theirs"},
        )
        + one(gpt.url, name="gpt", models='["gpt-4"]')
    )


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("model", ["claude-opus-4-5", "gpt-4"])
async def test_sealed_state_never_goes_to_another_provider(
    *, model: str, streamed: bool, tmp_path: Path
) -> None:
    first = _turn("thinking_text_two_tools", streamed=streamed)
    async with (
        provider(first) as claude,
        provider(claude_text()) as other,
        provider(answer(chat_answer())) as gpt,
        gateway(_three(claude, other, gpt), folder=tmp_path) as gw,
        official(gw) as client,
    ):
        messages = await _first_turn(client, streamed=streamed)
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat(model=model, messages=messages, tools=TOOLS)
        assert (caught.value.status_code, caught.value.code) == (503, "state_pinned")
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert "maker" in caught.value.message
        assert (other.seen, gpt.seen) == ([], [])


@pytest.mark.parametrize("streamed", [False, True])
async def test_sealed_state_does_not_fail_over(*, streamed: bool, tmp_path: Path) -> None:
    acts = [_turn("thinking_text_two_tools", streamed=streamed), claude_error(529, "overloaded_error")]
    async with (
        provider(*acts) as claude,
        provider(claude_text()) as other,
        provider(answer(chat_answer())) as gpt,
    ):
        rules = '[aliases]\nbest = ["maker/claude-sonnet-4-5", "other/claude-opus-4-5", "gpt/gpt-4"]\n' + ONCE
        async with gateway(_three(claude, other, gpt) + rules, folder=tmp_path) as gw, official(gw) as client:
            messages = await _first_turn(client, streamed=streamed)
            with pytest.raises(openai.InternalServerError):
                await client.chat(model="best", messages=messages, tools=TOOLS)
            assert (other.seen, gpt.seen) == ([], [])
            without = await client.chat(model="best", messages=user("Something else"))
            assert without.choices[0].message.content == "Fine."


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("model", ["claude-opus-4-5", "gpt-4"])
async def test_sealed_state_is_dropped_and_told_where_the_config_says_so(
    *, model: str, streamed: bool, tmp_path: Path
) -> None:
    first = _turn("thinking_text_two_tools", streamed=streamed)
    async with (
        provider(first) as claude,
        provider(claude_text()) as other,
        provider(answer(chat_answer())) as gpt,
    ):
        config = '[server]\non_pinned_state = "drop"\n' + _three(claude, other, gpt)
        async with gateway(config, folder=tmp_path) as gw, official(gw) as client:
            messages = await _first_turn(client, streamed=streamed)
            await client.chat(model=model, messages=messages, tools=TOOLS)
            assert "drop=messages[1].reasoning_details[0]" in client.exchanges[-1].changes
            (seen,) = other.seen + gpt.seen
            assert SIGNATURE.encode() not in seen.body
            assert b"mpx1." not in seen.body
            assert "Zürich" in json.dumps(seen.json, ensure_ascii=False)


async def test_a_result_that_was_an_error_says_so(tmp_path: Path) -> None:
    acts = [claude_answer("thinking_text_two_tools"), claude_text()]
    async with in_front_of(*acts, folder=tmp_path, **ANTHROPIC) as (up, _, client):
        messages = await _first_turn(client, streamed=False)
        messages[2]["content"] = "[tool error] the clock is broken"
        await client.chat(model=CLAUDE, messages=messages, tools=TOOLS)
        time = up.seen[1].json["messages"][2]["content"][1]
        assert "the clock is broken" in json.dumps(time["content"])


async def test_calls_and_results_that_do_not_fit_are_refused_with_their_ids(tmp_path: Path) -> None:
    acts = [claude_answer("thinking_text_two_tools"), claude_text()]
    async with in_front_of(*acts, folder=tmp_path, **ANTHROPIC) as (up, _, client):
        messages = await _first_turn(client, streamed=False)
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat(model=CLAUDE, messages=messages[:-1], tools=TOOLS)
        assert "toolu_01A" in caught.value.message
        assert len(up.seen) == 1


# --- Ollama ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_ollamas_stream_is_the_clients(way: str, tmp_path: Path) -> None:
    async with in_front_of(ollama_stream("text"), folder=tmp_path, way=way, **OLLAMA) as (up, _, client):
        chunks = await client.chunks(model="qwen3", **USAGE)
        said = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
        assert said == ["Grüß", " dich 👋\n"]
        assert chunks[-1].usage is not None
        assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (26, 12)
        assert up.seen[0].target == "/api/chat"
        assert up.seen[0].json["stream"] is True


@pytest.mark.parametrize("way", WAYS)
async def test_ollamas_calls_before_the_last_line_are_calls(way: str, tmp_path: Path) -> None:
    act = ollama_stream("tools_before_the_last_line")
    async with in_front_of(act, folder=tmp_path, way=way, **OLLAMA) as (_, _, client):
        _, final = await client.helper(model="qwen3", tools=TOOLS)
        calls = final.choices[0].message.tool_calls
        assert [c.function.name for c in calls] == ["weather", "now"]
        assert [json.loads(c.function.arguments) for c in calls] == [{"city": "Zürich", "days": 3}, {}]
        assert calls[1].id == "call_x1"
        assert len({c.id for c in calls}) == 2
        assert final.choices[0].finish_reason == "tool_calls"
        assert not final.choices[0].message.content


async def test_ollamas_thinking_text_and_call_keep_their_order(tmp_path: Path) -> None:
    async with in_front_of(ollama_stream("thinking_text_tool"), folder=tmp_path, **OLLAMA) as (_, _, client):
        chunks = await client.chunks(model="qwen3", tools=TOOLS)
        deltas = [c.choices[0].delta.to_dict() for c in chunks if c.choices]
        order = [
            next(name for name in ("reasoning_content", "content", "tool_calls") if delta.get(name))
            for delta in deltas
            if any(delta.get(name) for name in ("reasoning_content", "content", "tool_calls"))
        ]
        assert list(dict.fromkeys(order)) == ["reasoning_content", "content", "tool_calls"]
        assert "".join(str(d.get("reasoning_content") or "") for d in deltas) == "They want the weather."


async def test_a_conversation_with_ollama_goes_on(tmp_path: Path) -> None:
    acts = [ollama_stream("thinking_text_tool"), ollama_answer(content="It rains.")]
    async with in_front_of(*acts, folder=tmp_path, **OLLAMA) as (up, _, client):
        _, final = await client.helper(model="qwen3", messages=user("Weather?"), tools=TOOLS)
        message = final.choices[0].message
        content = [{"type": "text", "text": "See:"}, picture()]
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": content}
        got = await client.chat(
            model="qwen3",
            messages=[*user("Weather?"), message.model_dump(exclude_none=True), result],
            tools=TOOLS,
        )
        assert got.choices[0].message.content == "It rains."
        assert got.usage is not None
        assert (got.usage.prompt_tokens, got.usage.completion_tokens, got.usage.total_tokens) == (11, 7, 18)
        _, said, told = up.seen[1].json["messages"]
        assert said["tool_calls"][0]["function"] == {"name": "weather", "arguments": {"city": "Bern"}}
        assert said["thinking"] == "They want the weather."
        assert (told["role"], told["tool_name"], told["content"]) == ("tool", "weather", "See:")
        assert told["images"] == [PICTURE]


async def test_ollama_gets_pictures_schemas_and_settings_in_its_own_form(tmp_path: Path) -> None:
    act = ollama_answer(content='{"name": "Bern", "inhabitants": 140000}')
    async with in_front_of(act, folder=tmp_path, **OLLAMA) as (up, _, client):
        got = await client.parse(
            model="qwen3",
            messages=user({"type": "text", "text": "Look"}, picture()),
            response_format=City,
            temperature=0.5,
            max_tokens=9,
            seed=1,
            stop="END",
            reasoning_effort="low",
            logit_bias={"1": 1},
        )
        assert got.choices[0].message.parsed == City(name="Bern", inhabitants=140000)
        body = up.seen[0].json
        assert body["messages"] == [{"role": "user", "content": "Look", "images": [PICTURE]}]
        assert set(body["format"]["properties"]) == {"name", "inhabitants"}
        assert body["think"] == "low"
        assert body["stream"] is False
        options = {"temperature": 0.5, "num_predict": 9, "seed": 1, "stop": ["END"]}
        assert {name: body["options"][name] for name in options} == options
        assert "drop=logit_bias" in client.exchanges[0].changes


async def test_what_cannot_be_said_to_ollama_is_a_bad_request(tmp_path: Path) -> None:
    link = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
    async with in_front_of(ollama_answer(content="x"), folder=tmp_path, **OLLAMA) as (up, _, client):
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat(model="qwen3", messages=user(link))
        assert (caught.value.param or "").startswith("messages[0].content[0]")
        with pytest.raises(openai.BadRequestError):
            await client.chat(model="qwen3", n=2)
        assert up.seen == []


async def test_ollamas_logprobs_reach_the_client(tmp_path: Path) -> None:
    async with in_front_of(ollama_stream("logprobs"), folder=tmp_path, **OLLAMA) as (_, _, client):
        chunks = await client.chunks(model="qwen3", logprobs=True, top_logprobs=2)
        assert any(c.choices[0].logprobs for c in chunks if c.choices)


async def test_ollamas_limit_is_length(tmp_path: Path) -> None:
    async with in_front_of(ollama_stream("cut_at_the_limit"), folder=tmp_path, **OLLAMA) as (_, _, client):
        chunks = await client.chunks(model="qwen3", max_tokens=2)
        assert chunks[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", ["error_line", "broken_off"])
async def test_ollamas_broken_streams_raise(case: str, way: str, tmp_path: Path) -> None:
    async with in_front_of(ollama_stream(case), folder=tmp_path, way=way, **OLLAMA) as (_, gw, client):
        with pytest.raises(openai.APIError) as caught:
            await client.chunks(model="qwen3")
        assert not isinstance(caught.value, openai.APIConnectionError)
        assert (await gw.record()).outcome == "broken"


@pytest.mark.parametrize(
    ("given", "kind", "status", "code"),
    [
        (400, openai.BadRequestError, 400, None),
        (404, openai.NotFoundError, 404, "model_not_found"),
        (429, openai.RateLimitError, 429, "rate_limit_exceeded"),
        (500, openai.InternalServerError, 502, "upstream_error"),
        (502, openai.InternalServerError, 502, "upstream_error"),
        (503, openai.InternalServerError, 503, "overloaded"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_each_class_of_ollamas_errors_is_one_of_the_clients(
    *,
    given: int,
    kind: type[openai.APIStatusError],
    status: int,
    code: str | None,
    streamed: bool,
    tmp_path: Path,
) -> None:
    act = answer({"error": "model requires more memory"}, status=given)
    async with in_front_of(act, folder=tmp_path, rules=ONCE, **OLLAMA) as (_, _, client):
        with pytest.raises(kind) as caught:
            await (client.chunks(model="qwen3") if streamed else client.chat(model="qwen3"))
        assert (caught.value.status_code, caught.value.code) == (status, code)
        assert "more memory" in caught.value.message


async def test_ollama_embeds_in_both_of_the_clients_forms(tmp_path: Path) -> None:
    act = answer({"model": "qwen3", "embeddings": [[0.5, -1.25], [2.0, 0.0]], "prompt_eval_count": 8})
    async with in_front_of(act, folder=tmp_path, **OLLAMA) as (up, _, client):
        for form in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
            got = await client.embed(model="qwen3", input=["one", "two"], **form)
            vectors: list[Any] = [data.embedding for data in got.data]
            if "base64" in form.values():  # asked for by name, the client hands it out as it came
                vectors = [list(memoryview(base64.b64decode(v)).cast("f")) for v in vectors]
            assert vectors == [[0.5, -1.25], [2.0, 0.0]]
            assert (got.usage.prompt_tokens, got.usage.total_tokens) == (8, 8)
        assert up.seen[0].target == "/api/embed"
        assert up.seen[0].json["input"] == ["one", "two"]


async def test_ollama_completes_texts(tmp_path: Path) -> None:
    whole = {
        "model": "qwen3",
        "created_at": "2026-08-21T10:00:00Z",
        "response": " time",
        "done": True,
        "done_reason": "length",
        "prompt_eval_count": 3,
        "eval_count": 1,
    }
    async with in_front_of(answer(whole), ollama_stream("generate"), folder=tmp_path, **OLLAMA) as (
        up,
        _,
        client,
    ):
        got = await client.complete(model="qwen3", prompt="Once upon a", max_tokens=1)
        assert (got.choices[0].text, got.choices[0].finish_reason) == (" time", "length")
        assert up.seen[0].target == "/api/generate"

        async def read(own: Any) -> list[Any]:
            return [c async for c in await own.completions.create(model="qwen3", prompt="Hi", stream=True)]

        chunks = await client.do(lambda _: [], read)
        assert "".join(c.choices[0].text for c in chunks)


async def test_ollamas_models_are_listed(tmp_path: Path) -> None:
    tags = {
        "models": [
            {"name": "qwen3:8b", "model": "qwen3:8b", "modified_at": "2026-08-21T10:00:00Z", "size": 1}
        ]
    }
    async with provider(answer(tags)) as up:
        config = one(up.url.removesuffix("/v1"), type="ollama", models="[]").replace("models = []\n", "")
        async with gateway(config, folder=tmp_path) as gw, official(gw) as client:

            async def listed(own: Any) -> list[str]:
                return [model.id async for model in own.models.list()]

            assert await client.do(lambda _: [], listed) == ["qwen3:8b"]
