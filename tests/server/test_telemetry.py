"""OpenTelemetry end to end: a gateway, its agents, and a collector."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from modelplex.records import otel_sink
from modelplex.telemetry import intake, kept
from modelplex.telemetry.kept import FILE, KeptFilter, read_kept
from tests.gateways import Running, gateway
from tests.upstreams import Scripted, answer, chat_answer, provider

WAIT_S = 20.0
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
JSON = (b"content-type", b"application/json")
LOGS: dict[str, Any] = {"resourceLogs": [{"resource": {"attributes": []}, "scopeLogs": []}]}


def config(up: str = "", more: str = "", *, key: str = "sk-canary-0123456789", traced: bool = False) -> str:
    served = f'name = "up"\ntype = "openai"\nbase_url = "{up}"\napi_key = "{key}"\nmodels = ["m"]\n'
    served += f"trace_context = {str(traced).lower()}\n"
    return f"{more}\n[[providers]]\n{served if up else 'type = ' + chr(34) + 'demo' + chr(34)}\n"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel_sink, "GATHER_S", 0.01)
    monkeypatch.setattr(kept, "GATHER_S", 0.01)


async def chat(gw: Running, *headers: tuple[bytes, bytes]) -> int:
    body = {"model": "m", "messages": [{"role": "user", "content": "canary-prompt"}]}
    reply = await gw.ask("POST", "/v1/chat/completions", body, headers=[JSON, *headers])
    return reply.status


async def spans_at(collector: Scripted, *, count: int) -> list[Any]:
    async with asyncio.timeout(WAIT_S):
        while True:
            found: list[Any] = []
            for seen in collector.seen:
                request = ExportTraceServiceRequest()
                request.ParseFromString(seen.body)
                for resource in request.resource_spans:
                    found += [span for scope in resource.scope_spans for span in scope.spans]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.01)


async def test_a_clients_trace_is_recorded_and_goes_on(tmp_path: Path) -> None:
    async with provider(answer(b"")) as collector, provider(answer(chat_answer())) as up:
        otel = f'[otel]\nendpoint = "{collector.url}"\n'
        async with gateway(config(up.url, otel, traced=True), folder=tmp_path) as gw:
            state = (b"tracestate", b"rojo=1")
            assert await chat(gw, (b"traceparent", PARENT.encode()), state) == 200
            assert await chat(gw, (b"traceparent", b"00-bad"), state) == 200
            call, attempt, *_ = await spans_at(collector, count=4)
            await gw.record()
            first, second = gw.records
    assert first.trace is not None
    assert first.trace.traceparent == PARENT
    assert second.trace is None
    assert (call.trace_id.hex(), call.parent_span_id.hex()) == (TRACE, SPAN)
    assert attempt.parent_span_id == call.span_id
    sent, begun = up.seen
    assert sent.headers["traceparent"] == f"00-{TRACE}-{attempt.span_id.hex()}-01"
    assert sent.headers["tracestate"] == "rojo=1"
    assert begun.headers["traceparent"].startswith("00-")  # the gateway's own
    assert TRACE not in begun.headers["traceparent"]
    assert "tracestate" not in begun.headers


async def test_a_provider_gets_no_trace_unless_it_is_allowed(tmp_path: Path) -> None:
    async with provider(answer(chat_answer())) as up:
        async with gateway(config(up.url), folder=tmp_path) as gw:
            assert await chat(gw, (b"traceparent", PARENT.encode()), (b"tracestate", b"rojo=1")) == 200
    assert {"traceparent", "tracestate"} & up.seen[0].headers.keys() == set()


async def test_a_trace_begins_only_where_spans_are_sent(tmp_path: Path) -> None:
    async with provider(answer(chat_answer())) as up:
        async with gateway(config(up.url, traced=True), folder=tmp_path) as gw:
            assert await chat(gw) == 200
            assert await chat(gw, (b"traceparent", PARENT.encode())) == 200
    assert "traceparent" not in up.seen[0].headers
    assert up.seen[1].headers["traceparent"].startswith(f"00-{TRACE}-")


async def test_spans_have_no_secrets_and_no_content(tmp_path: Path) -> None:
    refused = answer({"error": {"message": "Incorrect key sk-canary-0123456789"}}, status=401)
    async with provider(answer(b"")) as collector, provider(refused) as up:
        otel = f'[otel]\nendpoint = "{collector.url}"\nheaders = {{ x-key = "canary-header" }}\n'
        async with gateway(config(up.url, otel), folder=tmp_path) as gw:
            assert await chat(gw) == 502
            spans = await spans_at(collector, count=2)
        assert collector.seen[0].headers["x-key"] == "canary-header"
    assert "canary" not in str(spans)
    assert spans[0].status.code == 2


async def test_a_dead_collector_costs_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel_sink, "CLOSE_LIMIT_S", 0.2)
    otel = '[otel]\nendpoint = "http://127.0.0.1:1"\n'
    async with provider(answer(chat_answer())) as up:
        async with gateway(config(up.url, otel), folder=tmp_path) as gw:
            for _ in range(20):
                assert await chat(gw) == 200


async def test_telemetry_of_agents_is_stamped_kept_and_relayed(tmp_path: Path) -> None:
    async with provider(answer(b"{}")) as collector:
        more = f"""
[otel]
endpoint = "{collector.url}"
agents = ["keep", "relay"]
[[agents]]
name = "coder"
token = "tok-coder-0123456789"
"""
        async with gateway(config(more=more), folder=tmp_path) as gw:
            token = (b"authorization", b"Bearer tok-coder-0123456789")
            packed = gzip.compress(json.dumps(LOGS).encode())
            headers = [JSON, token, (b"content-encoding", b"gzip")]
            reply = await gw.ask("POST", "/v1/logs", packed, headers=headers)
            assert (reply.status, reply.json) == (200, {})
            binary = [(b"content-type", b"application/x-protobuf"), token]
            reply = await gw.ask("POST", "/models/v1/metrics", b"\x0a\x00", headers=binary)
            assert (reply.status, reply.body, reply.headers["content-type"]) == (
                200,
                b"",
                "application/x-protobuf",
            )
            reply = await gw.ask("POST", "/v1/traces", b"{", headers=[JSON, token])
            assert (reply.status, reply.error["code"]) == (400, "invalid_telemetry")
            async with asyncio.timeout(WAIT_S):
                while len(collector.seen) < 2:
                    await asyncio.sleep(0.01)
            shown = (await gw.ask("GET", "/_internal/metrics")).body.decode()
        found = list(read_kept(tmp_path / "state" / FILE, KeptFilter()))
    assert [(each.signal, each.encoding, each.sender.agent) for each in found] == [
        ("logs", "json", "coder"),
        ("metrics", "protobuf", "coder"),
    ]
    assert [each.body for each in collector.seen] == [each.body for each in found]
    assert b"modelplex.agent.name" in found[1].body
    assert (
        'modelplex_agent_telemetry_requests_total{agent="coder",outcome="invalid",signal="traces"} 1.0'
        in shown
    )


async def test_a_flood_is_limited_and_others_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "REQUESTS_A_SECOND", 0.001)
    more = '[otel]\nagents = "keep"\n'
    agents = "".join(
        f'[[agents]]\nname = "{name}"\ntoken = "tok-{name}-0123456789"\n' for name in ("bad", "good")
    )
    async with gateway(config(more=more + agents), folder=tmp_path) as gw:
        bad = [JSON, (b"authorization", b"Bearer tok-bad-0123456789")]
        good = [JSON, (b"authorization", b"Bearer tok-good-0123456789")]
        statuses = [(await gw.ask("POST", "/v1/logs", LOGS, headers=bad)).status for _ in range(120)]
        assert set(statuses[:100]) == {200}
        assert set(statuses[100:]) == {429}
        refused = await gw.ask("POST", "/v1/logs", LOGS, headers=bad)
        assert int(refused.headers["retry-after"]) >= 1
        assert (await gw.ask("POST", "/v1/logs", LOGS, headers=good)).status == 200
        assert (await gw.ask("POST", "/v1/logs", b"x" * (intake.MAX_BODY + 1), headers=good)).status == 413


async def test_without_the_table_it_is_answered_and_discarded(tmp_path: Path) -> None:
    async with gateway(config(), folder=tmp_path) as gw:
        assert gw.process.app.telemetry is None
        reply = await gw.ask(
            "POST", "/v1/logs", b"anything", headers=[(b"content-type", b"application/x-protobuf")]
        )
        assert (reply.status, reply.body, reply.headers["content-type"]) == (
            200,
            b"",
            "application/x-protobuf",
        )
        assert (await gw.ask("POST", "/v1/traces", b"anything")).json == {}
