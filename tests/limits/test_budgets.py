"""Budgets count what providers bill: complete responses, broken ones, and failed attempts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from modelplex.core.events import Usage
from modelplex.records.record import Record
from tests.gateways import WAIT_S, Running, gateway, one
from tests.server.test_callers import agents_view, ask, coder
from tests.upstreams import STREAM_HEAD, Act, answer, chat_answer, chat_stream, chunk, provider, stall, stream

WORDS = "word " * 400
ESTIMATE = len(WORDS) // 4
ASK = {"messages": [{"role": "user", "content": "Hi there"}], "model": "m"}
NDJSON = STREAM_HEAD.replace(b"text/event-stream", b"application/x-ndjson")
QUICK = "\n[failover]\nbackoff = 0.01\nretries = 0\nbreaker_failures = 1000\n"


def sse(*events: dict[str, Any], named: bool = False) -> list[bytes]:
    return [
        (b"event: " + event["type"].encode() + b"\n" if named else b"")
        + b"data: "
        + json.dumps(event).encode()
        + b"\n\n"
        for event in events
    ]


def claude(*, output: int = 1) -> list[bytes]:
    """A message up to its text."""
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 50, "output_tokens": output},
    }
    text = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {"type": "text_delta", "text": WORDS}
    return sse(
        {"type": "message_start", "message": message},
        text,
        {"type": "content_block_delta", "index": 0, "delta": delta},
        named=True,
    )


def hidden_thoughts() -> list[bytes]:
    """A message whose reasoning is hidden: only its opaque state is sent."""
    thinking = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "thinking", "thinking": "", "signature": ""},
    }
    delta = {"type": "signature_delta", "signature": "A" * 4000}
    return claude()[:1] + sse(
        thinking, {"type": "content_block_delta", "index": 0, "delta": delta}, named=True
    )


def gemini() -> list[bytes]:
    candidate = {"content": {"role": "model", "parts": [{"text": WORDS}]}, "index": 0}
    early = {"promptTokenCount": 50, "candidatesTokenCount": 1, "totalTokenCount": 51}
    return sse(
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "a"}]}}], "usageMetadata": early},
        {"candidates": [candidate]},
    )


def responses() -> list[bytes]:
    item: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "in_progress",
        "content": [],
    }
    part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": []}
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    response: dict[str, Any] = {
        "id": "resp_1",
        "object": "response",
        "model": "m",
        "status": "in_progress",
        "output": [],
    }
    return sse(
        {"type": "response.created", "response": response},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **at, "part": part},
        {"type": "response.output_text.delta", **at, "delta": WORDS},
        named=True,
    )


def ollama() -> list[bytes]:
    line = {"model": "m", "created_at": "2026-01-01T00:00:00Z", "done": False}
    return [json.dumps(line | {"message": {"role": "assistant", "content": WORDS}}).encode() + b"\n"]


def calling() -> list[bytes]:
    """A chat stream that breaks off in the arguments of a tool call."""
    call = {
        "index": 0,
        "id": "c1",
        "type": "function",
        "function": {"name": "f", "arguments": '{"a":"' + WORDS},
    }
    return [chunk({"role": "assistant", "content": None, "tool_calls": [call]})]


def counting() -> list[bytes]:
    """A chat stream whose chunks have cumulative usage; the last one has only text."""
    usage = {"prompt_tokens": 50, "completion_tokens": 1, "total_tokens": 51}
    return [chunk({"role": "assistant", "content": "a"}, usage=usage), chunk({"content": WORDS})]


BROKEN: dict[str, tuple[str, list[bytes], int]] = {
    "anthropic": ("anthropic", claude(), 50),
    "hidden": ("anthropic", hidden_thoughts(), 50),
    "chat": ("openai", list(chat_stream(WORDS, usage=False))[:2], 2),
    "calls": ("openai", calling(), 2),
    "counting": ("openai", counting(), 50),
    "responses": ("responses", responses(), 2),
    "gemini": ("gemini", gemini(), 50),
    "ollama": ("ollama", ollama(), 2),
}
"""By name: the request, the response until it breaks off, and its input tokens."""
FORMS = {
    "chat": ("/v1/chat/completions", {**ASK, "stream": True}),
    "messages": ("/v1/messages", {**ASK, "stream": True, "max_tokens": 999}),
    "responses": ("/v1/responses", {"model": "m", "input": "Hi there", "stream": True}),
    "gemini": (
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        {"contents": [{"role": "user", "parts": [{"text": "Hi there"}]}]},
    ),
    "ollama": ("/api/chat", ASK),
}


def upstream(kind: str, url: str) -> str:
    if kind == "responses":
        return one(url, quirks={}, api_key="k").replace(
            "quirks = {}\n", 'quirks = { conversations = "responses" }\n'
        )
    if kind == "openai":
        return one(url, type="llamacpp")
    return one(url.removesuffix("/v1"), type=kind, api_key="k")


async def spent(running: Running) -> dict[str, Any]:
    view = agents_view(await running.ask("GET", "/_internal/agents"))["coder"]
    kept: dict[str, Any] = view["spent"]
    return kept


def final_usage(record: Record) -> Usage:
    assert record.usage is not None
    return record.usage


def agent(folder: Path, text: str) -> str:
    state = f'[server]\nstate_folder = "{folder / "state"}"\n'
    return state + text + coder(folder, "budget = { tokens = 100000, usd = 100.0 }") + QUICK


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("name", "ends"),
    [
        *((name, "breaks") for name in BROKEN),
        # Some forms do not show it, so it cannot be waited for.
        *((name, "hangs up") for name in BROKEN if name not in {"hidden", "calls"}),
    ],
)
async def test_a_stream_that_ends_before_its_usage_is_charged_for_its_output(
    name: str, form: str, ends: str, tmp_path: Path
) -> None:
    kind, pieces, given = BROKEN[name]
    head = NDJSON if kind == "ollama" else STREAM_HEAD
    act: Act = stream(*pieces, head=head, end=False, then=stall if ends == "hangs up" else None)
    target, body = FORMS[form]
    async with provider(act) as up, gateway(agent(tmp_path, upstream(kind, up.url)), folder=tmp_path) as gw:
        if ends == "breaks":
            await ask(gw, tmp_path / "coder.sock", target, body)
        else:
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "coder.sock"))
            data = json.dumps(body).encode()
            head = (
                b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            )
            writer.write(head % (target.encode(), len(data)) + data)
            await writer.drain()
            async with asyncio.timeout(WAIT_S):
                await reader.readuntil(b"word")
            writer.close()
        record = await gw.record()
        assert record.outcome == ("client_closed" if ends == "hangs up" else "broken")
        usage = final_usage(record)
        assert usage.estimated
        expected = 4000 * 3 // 16 if name == "hidden" else ESTIMATE
        assert usage.output == pytest.approx(expected, abs=3)
        assert usage.input == pytest.approx(given, abs=8)
        assert (await spent(gw))["tokens"] == usage.input + usage.output


async def test_a_stream_that_ends_with_its_usage_is_charged_that_usage(tmp_path: Path) -> None:
    end = sse(
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
        named=True,
    )
    async with provider(stream(*claude(), *end)) as up:
        text = agent(tmp_path, upstream("anthropic", up.url))
        async with gateway(text, folder=tmp_path) as gw:
            for number, form in enumerate(FORMS, 1):
                await ask(gw, tmp_path / "coder.sock", *FORMS[form])
                usage = final_usage(await gw.record(number))
                assert (usage.input, usage.output, usage.estimated) == (50, 3, False)


async def test_failed_attempts_that_cost_money_are_charged_too(tmp_path: Path) -> None:
    """Two keys of a provider and another provider: one response breaks off, one error is free."""
    half = json.dumps(chat_answer()).encode()
    cut: Act = answer(half[:-20] + b" " * 20)
    usage = {"prompt_tokens": 300, "completion_tokens": 7, "total_tokens": 307}
    empty = answer(chat_answer() | {"choices": [], "usage": usage})
    busy = answer(b'{"error":{"message":"busy"}}', status=503)
    async with (
        provider(empty, busy) as first,
        provider(cut) as second,
        provider(answer(chat_answer())) as third,
    ):
        text = one(first.url, name="a", priority=1, api_key=["k1", "k2"])
        text += one(second.url, name="b", priority=2) + one(third.url, name="c", priority=3)
        async with gateway(agent(tmp_path, text), folder=tmp_path) as gw:
            got = await ask(gw, tmp_path / "coder.sock", body=ASK)
            assert got.headers["x-modelplex-provider"] == "c"
            record = await gw.record()
            taken = [one.usage and (one.usage.input, one.usage.output) for one in record.attempts]
            assert taken[0] == (300, 7)
            assert taken[-1] == (3, 2)
            assert record.usage is not None
            assert (record.usage.input, record.usage.output) == (3, 2)
            total = sum(sum(one) for one in taken if one)
            assert (await spent(gw))["tokens"] == total > 312
            metrics = (await gw.ask("GET", "/_internal/metrics")).body.decode()
            row = 'modelplex_agent_tokens_total{agent="coder",gen_ai_token_type="input"}'
            assert float(
                next(line.split()[-1] for line in metrics.splitlines() if line.startswith(row))
            ) == sum(one[0] for one in taken if one)
    log = [json.loads(line) for line in (tmp_path / "log.json").read_text().splitlines()]
    (line,) = [row for row in log if row["event"] == "call"]
    assert line["attempts"][0]["tokens"]["in"] == 300
    assert line["tokens"]["in"] == 3


@pytest.mark.parametrize(
    ("act", "is_charged"),
    [
        # The response had started: the prompt is billed.
        (stream(end=False), True),
        (stream(chunk({"role": "assistant", "content": ""}), end=False), True),
        (stream(b"data: [DONE]\n\n"), True),
        # No response had started.
        (answer(b'{"error":{"message":"busy"}}', status=503), False),
        (answer(b"{}", status=400), False),
        # An error instead of a response, and a page of a proxy.
        (answer(b'{"error":{"message":"overloaded"}}'), False),
        (stream(b'data: {"error":{"message":"overloaded"}}\n\n'), False),
        (answer(b"<html>login</html>", label="text/html"), False),
    ],
)
async def test_a_prompt_is_charged_once_its_response_has_started(
    act: Act, is_charged: bool, tmp_path: Path
) -> None:
    async with provider(act) as up, gateway(agent(tmp_path, one(up.url)), folder=tmp_path) as gw:
        await ask(gw, tmp_path / "coder.sock", body={**ASK, "stream": True})
        record = await gw.record()
        assert record.outcome == "error"
        assert (record.usage is not None) is is_charged
        assert ((await spent(gw))["tokens"] > 0) is is_charged


async def test_a_caller_that_disconnects_before_the_first_output_pays_for_its_prompt(tmp_path: Path) -> None:
    quiet = stream(chunk({"role": "assistant", "content": ""}), end=False, then=stall)
    async with provider(quiet) as up:
        text = agent(tmp_path, one(up.url)).replace("[server]", "[server]\nping_interval = 0.05", 1)
        async with gateway(text, folder=tmp_path) as gw:
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "coder.sock"))
            data = json.dumps({**ASK, "stream": True}).encode()
            writer.write(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            )
            writer.write(b"content-length: %d\r\n\r\n%b" % (len(data), data))
            async with asyncio.timeout(WAIT_S):
                await reader.readuntil(b": ping")
            writer.close()
            usage = final_usage(await gw.record())
            assert (usage.input, usage.output, usage.estimated) == (2, 0, True)


@pytest.mark.parametrize(
    ("target", "served_by", "response", "expected"),
    [
        (
            "images/generations",
            "openai",
            {
                "data": [{"b64_json": "A" * 100_000}],
                "usage": {"input_tokens": 50, "output_tokens": 1000, "total_tokens": 1050},
            },
            1050,
        ),
        (
            "rerank",
            "llamacpp",
            {"usage": {"total_tokens": 815}, "results": [{"index": 0, "x": "A" * 20_000}]},
            815,
        ),
        ("embeddings", "openai", {"data": [{"embedding": [1.0]}], "usage": {"total_tokens": 9}}, 9),
        ("moderations", "openai", {"results": []}, 0),
    ],
)
async def test_endpoints_other_than_chat_are_charged(
    target: str, served_by: str, response: dict[str, Any], expected: int, tmp_path: Path
) -> None:
    async with (
        provider(answer({"object": "list", "model": "m", **response})) as up,
        gateway(agent(tmp_path, one(up.url, type=served_by)), folder=tmp_path) as gw,
    ):
        body = {"model": "m", "input": "Hi there", "prompt": "Hi", "query": "q", "documents": ["d"]}
        assert (await ask(gw, tmp_path / "coder.sock", f"/v1/{target}", body)).status == 200
        await gw.record()
        assert (await spent(gw))["tokens"] == expected


async def test_counting_tokens_costs_nothing(tmp_path: Path) -> None:
    async with (
        provider(answer({"input_tokens": 5000})) as up,
        gateway(agent(tmp_path, upstream("anthropic", up.url)), folder=tmp_path) as gw,
    ):
        got = await ask(gw, tmp_path / "coder.sock", "/v1/messages/count_tokens", ASK)
        assert got.json["input_tokens"] == 5000
        await gw.record()
        assert (await spent(gw))["tokens"] == 0


# --- prices

PRICE = '[[prices]]\nmodel = "m"\ninput = 1000000.0\noutput = 2000000.0\n'
"""One dollar per input token, two per output token: a response of USAGE costs 7."""


async def test_configured_prices_are_charged_and_a_reload_changes_them(tmp_path: Path) -> None:
    text = coder(tmp_path, "budget = { usd = 20.0 }")
    state = f'[server]\nstate_folder = "{tmp_path / "state"}"\n'
    async with (
        provider(answer(chat_answer())) as up,
        gateway(state + one(up.url) + text + PRICE, folder=tmp_path) as gw,
    ):
        socket = tmp_path / "coder.sock"
        assert (await ask(gw, socket, body=ASK)).status == 200
        assert (await gw.record(1)).cost == 7
        file = tmp_path / "config.toml"
        file.write_text(file.read_text().replace("input = 1000000.0", "input = 3000000.0"))
        await gw.process.reload()
        assert (await ask(gw, socket, body=ASK)).status == 200
        assert (await gw.record(2)).cost == 13
        assert (await spent(gw))["usd"] == 20
        assert (await ask(gw, socket, body=ASK)).error["code"] == "agent_budget_exceeded"


async def test_a_model_without_a_price_is_logged_once_and_refused_if_configured(
    tmp_path: Path,
) -> None:
    agents = coder(tmp_path, 'budget = { usd = 20.0 }\non_unpriced = "allow"')
    state = f'[server]\nstate_folder = "{tmp_path / "state"}"\n'
    async with (
        provider(answer(chat_answer())) as up,
        gateway(state + one(up.url, models='["m", "x-*"]') + agents, folder=tmp_path) as gw,
    ):
        socket = tmp_path / "coder.sock"
        for model in ("m", "m", "x-1", "x-1"):
            assert (await ask(gw, socket, body={**ASK, "model": model})).status == 200
        assert (await spent(gw))["usd"] == 0
        file = tmp_path / "config.toml"
        written = file.read_text()
        file.write_text(written.replace('"allow"', '"refuse"'))
        await gw.process.reload()
        refused = await ask(gw, socket, body=ASK)
        assert (refused.status, refused.error["code"]) == (402, "no_price_known")
        assert "up/m" in refused.error["message"]
        assert sum(seen.target.endswith("/chat/completions") for seen in up.seen) == 4
        file.write_text(file.read_text() + PRICE)
        await gw.process.reload()
        assert (await ask(gw, socket, body=ASK)).status == 200
        assert (await ask(gw, socket, body={**ASK, "model": "x-1"})).status == 402
        # Callers that are no agent are served as before.
        assert (await gw.chat(model="x-1")).status == 200
    rows = [json.loads(line) for line in (tmp_path / "log.json").read_text().splitlines()]
    logged = [(row["provider"], row["model"]) for row in rows if row["event"] == "no price is known"]
    # At the start, at the first call of a model that is in no config, and at each reload.
    assert logged[:3] == [("up", "m"), ("up", ""), ("up", "x-1")]
    assert logged.count(("up", "x-1")) == 1
