"""A call by a plan goes on in the general path wherever something unusual happens, and counts as
any call. tests/test_reused_decisions.py compares both ways, and tests/pipeline/test_call_plans.py
has what a plan depends on.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from modelplex.core.errors import Stopping
from modelplex.core.trace_context import attempt_id, span_id_of, trace_id_of
from modelplex.records import otel_sink
from modelplex.records.record import AS_RECEIVED
from modelplex.server.fair_start import FairStart
from modelplex.server.planned_call import PlannedCall
from tests.gateways import one
from tests.processes import until
from tests.reuse import Kept, count_planned
from tests.sealed import NO_RETRIES
from tests.server.run_links import control
from tests.server.test_record_store import recorded
from tests.server.test_telemetry import spans_at
from tests.test_reuse_ends import AS_READER as AS
from tests.test_reuse_ends import BASE, OTHER_TOKEN, Warm, chat, filled, reader, warm
from tests.upstreams import Act, answer, chat_answer, hang_up, provider, raw, stall


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return count_planned(monkeypatch)


def then(gw: Warm, *acts: Act) -> None:
    """What the provider does next, and then answers as before."""
    done = len(gw.up.seen)
    gw.up.scripts[:] = [*[answer(chat_answer())] * done, *acts, answer(chat_answer())]


async def test_the_second_of_two_equal_requests_is_planned(planned: list[str], tmp_path: Path) -> None:
    config = BASE.replace("api_key", "quirks = { stores_chat = true }\napi_key", 1)
    async with warm(tmp_path, config) as gw:
        for over in (gw.tcp, gw.socket):
            await gw.twice(chat(), over=over)
        first, second = gw.up.seen[:2]
        assert (first.head, first.body) == (second.head, second.body)
        # The socket is sealed: its bodies get the switch that nothing is stored.
        assert [each.json.get("store") for each in gw.up.seen] == [None, None, False, False]
        assert planned == [gw.gw.records[1].id, gw.gw.records[3].id]


@pytest.mark.parametrize("over", ["tcp", "socket"])
@pytest.mark.parametrize(
    "act",
    [
        answer({"error": {"message": "No"}}, status=500),
        answer({"error": {"message": "No"}}, status=429, retry_after="0"),
        answer({"error": {"message": "No"}}),
        answer({"choices": []}),
        answer(b"<html>", label="text/html"),
        raw(b"SSH-2.0-x\r\n\r\n"),
        raw(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{"),
        answer(b"{}", content_encoding="br"),
    ],
)
async def test_a_fault_of_the_provider_goes_to_the_next_candidate(
    act: Act, over: str, planned: list[str], tmp_path: Path
) -> None:
    config = one("{up}") + one("{other}", name="other") + NO_RETRIES
    async with warm(tmp_path, config) as gw:
        client: Kept = getattr(gw, over)
        config_of_one = one("{up}") + NO_RETRIES
        await gw.reload(filled(config_of_one, gw.up, gw.other))
        await gw.twice(chat(), over=client)
        assert len(planned) == 1
        await gw.reload(filled(config, gw.up, gw.other))
        await client.send(chat(n=1))
        then(gw, answer(chat_answer()), act)
        for _ in range(2):
            assert (await client.send(chat(n=1))).status == 200
        record = gw.gw.records[-1]
        assert [each.provider for each in record.attempts] == ["up", "other"]
        assert [each.outcome == "ok" for each in record.attempts] == [False, True]
        assert record.times.overhead < record.times.total


async def test_a_kept_connection_that_is_lost_is_replaced_once(planned: list[str], tmp_path: Path) -> None:
    async with warm(tmp_path, BASE) as gw:
        await gw.twice(chat())
        then(gw, hang_up)
        assert (await gw.tcp.send(chat())).status == 200
        assert len(gw.up.seen) == 4
        assert [each.outcome for each in gw.gw.records[-1].attempts] == ["ok"]
        assert len(planned) == 1


async def test_answers_in_pieces_and_encoded_ones_are_read_as_any(planned: list[str], tmp_path: Path) -> None:
    body = json.dumps(chat_answer()).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\ncontent-type: application/json\r\n\r\n" % len(body)

    async def slowly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in (head[:9], head[9:], body[:5], body[5:]):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    chunked = raw(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    )
    packed = answer(gzip.compress(body), content_encoding="gzip")
    async with warm(tmp_path, BASE) as gw:
        await gw.twice(chat())
        then(gw, slowly, slowly, packed)
        got = [await gw.tcp.send(chat()) for _ in range(3)]
        assert [json.loads(each.body) for each in got] == [chat_answer()] * 3
        assert len(planned) == 3
        gw.up.seen.clear()
        then(gw, chunked)
        assert json.loads((await gw.tcp.send(chat())).body) == chat_answer()
        assert {each.outcome for each in gw.gw.records} == {"ok"}


async def test_usage_that_the_provider_does_not_count_is_estimated(
    planned: list[str], tmp_path: Path
) -> None:
    async with warm(tmp_path, BASE) as gw:
        await gw.twice(chat())
        uncounted = chat_answer()
        del uncounted["usage"]
        then(gw, answer(uncounted))
        assert (await gw.tcp.send(chat())).status == 200
        usage = gw.gw.records[-1].usage
        assert usage is not None
        assert usage.estimated
        assert len(planned) == 1


async def test_a_disconnect_reaches_the_provider(planned: list[str], tmp_path: Path) -> None:
    async with warm(tmp_path, BASE + reader("concurrent = 1")) as gw:
        await gw.twice(chat(AS))
        then(gw, stall)
        waiting = asyncio.create_task(gw.tcp.send(chat(AS)))
        await until(lambda: len(gw.up.seen) == 3, what="the request")
        (running,) = gw.gw.process.app.running
        assert isinstance(running, PlannedCall)
        assert (running.request.model, running.attempt and running.attempt.provider) == ("m", "up")
        waiting.cancel()
        await gw.tcp.close()
        await asyncio.wait_for(gw.up.hung_up.wait(), 10)
        await gw.gw.record(3)
        record = gw.gw.records[-1]
        assert (record.outcome, len(record.attempts)) == ("client_closed", 1)
        assert not gw.gw.process.app.running
        # Its place in the limits is free.
        async with Kept(gw.tcp.address) as client:
            assert (await client.send(chat(AS))).status == 200


async def test_a_call_is_stopped_when_the_drain_is_over(planned: list[str], tmp_path: Path) -> None:
    async with warm(tmp_path, BASE) as gw:
        await gw.twice(chat())
        then(gw, stall)
        waiting = asyncio.create_task(gw.tcp.send(chat()))
        await until(lambda: len(gw.up.seen) == 3, what="the request")
        gw.gw.process.app.stop()
        assert (await waiting).status == 503
        assert gw.gw.records[-1].code == Stopping.default_code
        assert len(planned) == 1


async def test_a_call_whose_turn_has_not_come_is_planned_in_its_turn(
    planned: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def later(turns: FairStart, *_: object, **__: object) -> bool:
        asyncio.get_running_loop().call_soon(turns._start_next)
        return False

    async with warm(tmp_path, BASE) as gw:
        await gw.tcp.send(chat())
        monkeypatch.setattr(FairStart, "may_start", later)
        response = await gw.tcp.send(chat())
        assert response.status == 200
        assert planned == [gw.gw.records[-1].id]
        assert gw.gw.records[-1].times.overhead < gw.gw.records[-1].times.total


async def test_a_fault_at_its_turn_is_for_the_general_path(
    planned: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def later(turns: FairStart, *_: object, **__: object) -> bool:
        asyncio.get_running_loop().call_soon(turns._start_next)
        return False

    def fail(call: PlannedCall) -> None:
        raise RuntimeError(call.id)

    async with warm(tmp_path, BASE) as gw:
        await gw.twice(chat())
        monkeypatch.setattr(FairStart, "may_start", later)
        monkeypatch.setattr(PlannedCall, "start", fail)
        for _ in range(2):
            assert (await gw.tcp.send(chat())).status == 200
        assert len(planned) == 1
        assert not gw.gw.process.app.running


async def test_a_client_that_disconnects_before_its_turn_is_not_served(
    planned: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> bool:
        return False

    async with warm(tmp_path, BASE + reader("concurrent = 1")) as gw:
        await gw.twice(chat(AS))
        app, seen = gw.gw.process.app, len(gw.up.seen)
        monkeypatch.setattr(FairStart, "may_start", never)
        sending = asyncio.create_task(gw.tcp.send(chat(AS)))
        await until(lambda: len(app.fair_start._waiting) == 1, what="the request")
        sending.cancel()
        await gw.tcp.close()
        await until(lambda: len(gw.gw.records) == 3, what="its record")
        assert (gw.gw.records[-1].outcome, app.running) == ("client_closed", {})
        app.fair_start._start_next()
        assert (len(gw.up.seen), len(app.fair_start._waiting), app.running) == (seen, 0, {})
        assert len(planned) == 1
        (agent,) = app.limits.view()
        assert (agent["running"], app.bodies.used) == (0, 0)


async def test_limits_hold_for_planned_calls(planned: list[str], tmp_path: Path) -> None:
    async with warm(tmp_path, BASE + reader("concurrent = 1\nrate = { requests = 5 }")) as gw:
        await gw.twice(chat(AS))
        then(gw, stall)
        waiting = asyncio.create_task(gw.tcp.send(chat(AS)))
        await until(lambda: len(gw.up.seen) == 3, what="the request")
        async with Kept(gw.tcp.address) as client:
            assert (
                json.loads((await client.send(chat(AS))).body)["error"]["code"] == "agent_concurrency_limited"
            )
            waiting.cancel()
            await gw.tcp.close()
            await gw.gw.record(4)
            statuses = [(await client.send(chat(AS))).status for _ in range(4)]
            assert statuses == [200, 200, 429, 429]
        (agent,) = gw.gw.process.limits.view()
        assert (agent["running"], agent["refused"]) == (0, 3)
        assert gw.gw.process.app.bodies.used == 0
        assert len(planned) >= 2


async def test_spending_counts_and_ends_a_budget(planned: list[str], tmp_path: Path) -> None:
    async with warm(tmp_path, BASE + reader('budget = { tokens = 20, per = "total" }')) as gw:
        statuses = [(await gw.tcp.send(chat(AS))).status for _ in range(8)]
        spent = sum(usage.input + usage.output for each in gw.gw.records if (usage := each.usage))
        assert statuses[-1] == 402
        assert 20 <= spent < 40
        assert len(planned) == statuses.count(200) - 1


async def test_the_budget_of_a_team_holds_for_planned_calls(planned: list[str], tmp_path: Path) -> None:
    team = '[[teams]]\nname = "all"\nbudget = { tokens = 20, per = "total" }\n'
    both = reader('team = "all"') + reader('team = "all"', token=OTHER_TOKEN).replace('"reader"', '"writer"')
    async with warm(tmp_path, BASE + team + both) as gw:
        limits = gw.gw.process.limits
        statuses = [(await gw.tcp.send(chat(AS))).status for _ in range(8)]
        assert statuses[-1] == 402
        assert len(planned) == statuses.count(200) - 1 > 0
        refused = await gw.tcp.send(chat(f"authorization: Bearer {OTHER_TOKEN}"))
        assert "the team 'all' is used up" in json.loads(refused.body)["error"]["message"]
        spent = sum(usage.input + usage.output for each in gw.gw.records if (usage := each.usage))
        (view,) = limits.teams_view()
        assert (view["running"], view["spent"]) == (
            0,
            {"requests": statuses.count(200), "tokens": spent, "usd": 0.0},
        )


async def test_the_budget_of_a_run_holds_for_planned_calls(planned: list[str], tmp_path: Path) -> None:
    async with warm(tmp_path, BASE) as gw, control(gw.gw) as runs:
        run = await runs.attach(tokens=20)
        async with Kept(run.path) as client:
            statuses = [(await client.send(chat())).status for _ in range(8)]
        assert statuses[-1] == 402
        assert len(planned) == statuses.count(200) - 1 > 0
        assert {each.run for each in gw.gw.records} == {"run-1"}
        ended = (await run.leave()).ended
        assert ended is not None
        assert 20 <= ended.tokens < 40


async def test_a_run_that_ends_stops_its_planned_call(planned: list[str], tmp_path: Path) -> None:
    async with warm(tmp_path, BASE) as gw, control(gw.gw) as runs:
        run = await runs.attach()
        async with Kept(run.path) as client:
            await gw.twice(chat(), over=client)
            then(gw, stall)
            waiting = asyncio.create_task(client.send(chat()))
            await until(lambda: len(gw.up.seen) == 3, what="the request")
            (call,) = gw.gw.process.app.running
            assert isinstance(call, PlannedCall)
            run_of_call = call.caller.run
            assert run_of_call is not None
            assert run_of_call.id == "run-1"
            waiting.cancel()
            await client.close()
            await asyncio.wait_for(gw.up.hung_up.wait(), 10)
        ended = (await run.leave()).ended
        assert ended is not None
        assert len(planned) == 1
        assert not gw.gw.process.app.running


async def test_what_a_template_told_counts_for_the_next_request(planned: list[str], tmp_path: Path) -> None:
    said = {"error": {"message": "Conversation roles must alternate user/assistant/...", "code": 500}}
    twice = [{"role": "user", "content": "a"}] * 2
    async with warm(tmp_path, BASE) as gw:
        await gw.twice(chat(messages=twice))
        then(gw, answer(said, status=500))
        for _ in range(3):
            assert (await gw.tcp.send(chat(messages=twice))).status == 200
        assert [len(each.json["messages"]) for each in gw.up.seen] == [2, 2, 2, 1, 1, 1]
        assert len(planned) == 1


async def test_names_of_messages_are_dropped_after_calls_without_any(
    planned: list[str], tmp_path: Path
) -> None:
    config = BASE.replace("api_key", "quirks = { message_names = false }\napi_key", 1)
    async with warm(tmp_path, config) as gw:
        await gw.twice(chat())
        named = {"role": "user", "name": "ann", "content": "Hi"}
        got = await gw.twice(chat(messages=[named]))
        assert got.header("x-modelplex-changes") == "drop=messages[0].name"
        assert "name" not in gw.up.seen[-1].json["messages"][0]
        assert len(planned) == 1


@pytest.mark.parametrize(
    ("rows", "seeds"), [("seed = 7", [7, 7, 7]), ("cache = true", [None]), ("", [None, None, None])]
)
async def test_calls_with_a_seed_of_the_agent_or_a_cache_have_no_plan(
    rows: str, seeds: list[int | None], planned: list[str], tmp_path: Path
) -> None:
    async with warm(tmp_path, BASE + reader(rows)) as gw:
        for _ in range(3):
            assert (await gw.tcp.send(chat(AS))).status == 200
        assert [each.json.get("seed") for each in gw.up.seen] == seeds
        assert len(planned) == (0 if rows else 2)


@pytest.mark.parametrize("tokens", [False, True])
async def test_calls_whose_token_ids_are_kept_have_no_plan(
    planned: list[str], tmp_path: Path, *, tokens: bool
) -> None:
    """Also where nothing is added, since the client asks for the ids itself."""
    config = BASE.replace('type = "openai"', 'type = "vllm"', 1) + recorded(
        tmp_path, content="full", tokens=tokens
    )
    async with warm(tmp_path, config) as gw:
        for _ in range(3):
            got = await gw.tcp.send(chat(return_token_ids=True, logprobs=True))
            assert got.status == 200
        assert len(planned) == (0 if tokens else 2)


# --- traces ---------------------------------------------------------------------------------------

TRACED = BASE.replace("api_key", "trace_context = true\napi_key", 1)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_a_clients_trace_is_recorded_and_goes_on(planned: list[str], tmp_path: Path) -> None:
    async with warm(tmp_path, TRACED) as gw:
        await gw.twice(chat())
        kept = repr(gw.gw.process.app.gateway.plans)
        for parent in ("00f067aa0ba902b7", "00f067aa0ba902b7", "00f067aa0ba902b8"):
            assert (await gw.tcp.send(chat(f"traceparent: 00-{TRACE}-{parent}-01"))).status == 200
            record = gw.gw.records[-1]
            assert record.trace is not None
            assert (record.trace.trace_id, record.trace.parent_id) == (TRACE, parent)
            span = span_id_of(attempt_id(record.id, 0))
            assert gw.up.seen[-1].headers["traceparent"] == f"00-{TRACE}-{span}-01"
        assert len(planned) == 1
        # A head that comes once leaves nothing.
        assert repr(gw.gw.process.app.gateway.plans) == kept
        await gw.tcp.send(chat())
        await gw.tcp.send(chat())
        assert gw.gw.records[-1].trace is None
        assert "traceparent" not in gw.up.seen[-1].headers
        assert len(planned) >= 2


@pytest.mark.parametrize(("config", "count"), [(TRACED, 0), (BASE, 2)])
async def test_a_trace_that_the_gateway_begins_has_spans_of_every_call(
    config: str, count: int, planned: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(otel_sink, "GATHER_S", 0.01)
    async with provider(answer(b"")) as collector:
        otel = f'[otel]\nendpoint = "{collector.url}"\n'
        async with warm(tmp_path, otel + config) as gw:
            for _ in range(3):
                assert (await gw.tcp.send(chat())).status == 200
            spans = await spans_at(collector, count=6)
            records = gw.gw.records
        assert len(planned) == count
        calls, attempts = spans[::2], spans[1::2]
        assert [each.trace_id.hex() for each in calls] == [trace_id_of(each.id) for each in records]
        assert [each.parent_span_id for each in attempts] == [each.span_id for each in calls]
        assert all(
            call.start_time_unix_nano < each.start_time_unix_nano < each.end_time_unix_nano
            for call, each in zip(calls, attempts, strict=True)
        )
        for kind in (calls, attempts):
            facts = [{each.key for each in span.attributes} for span in kind]
            assert facts == [facts[0]] * 3
        told = [each.headers.get("traceparent") for each in gw.up.seen]
        spans_of = [f"00-{each.trace_id.hex()}-{each.span_id.hex()}-01" for each in attempts]
        assert told == (spans_of if config is TRACED else [None] * 3)


async def test_bodies_are_kept_for_the_record(planned: list[str], tmp_path: Path) -> None:
    async with warm(tmp_path, BASE) as gw:
        gw.gw.process.app.keep_bodies = 10
        await gw.twice(chat())
        first, second = gw.gw.records
        assert (second.request_body, second.response_body, second.headers) == (
            first.request_body,
            first.response_body,
            first.headers,
        )
        assert second.attempts[0].sent == first.attempts[0].sent == AS_RECEIVED
        assert len(planned) == 1


async def test_a_large_answer_is_refused_as_any(planned: list[str], tmp_path: Path) -> None:
    config = BASE.replace("api_key", "max_response_size = 4096\napi_key", 1)
    async with warm(tmp_path, config) as gw:
        await gw.twice(chat())
        then(gw, answer(chat_answer("x" * 300_000)))
        assert (await gw.tcp.send(chat())).status == 502
        assert len(planned) == 1


async def test_states_of_a_planned_answer_are_remembered(planned: list[str], tmp_path: Path) -> None:
    said: dict[str, Any] = chat_answer()
    said["choices"][0]["message"]["reasoning_details"] = [{"type": "reasoning.encrypted", "data": "A-STATE"}]
    async with warm(tmp_path, BASE) as gw:
        await gw.twice(chat())
        then(gw, answer(said))
        await gw.tcp.send(chat())
        assert len(planned) == 2
        found = gw.gw.process.app.gateway.origins.find("A-STATE")
        assert found is not None
        assert found[0] == "up"
