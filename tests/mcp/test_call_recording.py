"""Records of calls."""

import asyncio

import pytest

from modelplex.mcp.approvals import hash_of
from modelplex.mcp.call_recording import MAX_ERROR, MAX_NAME, CallRecording, trace_of
from modelplex.mcp.constants import (
    McpReply,
)
from modelplex.mcp.request_context import ToolRequestContext, tool_refused
from modelplex.records.tool_call import ToolRecord
from tests.mcp.harness import (
    Harness,
    ScriptedClient,
    ScriptedServer,
    Sent,
    echo,
    tool,
)


async def test_every_call_has_one_record_with_decision_rule_hash_and_duration() -> None:
    server = ScriptedServer("git", tools=[tool("log")])
    harness = Harness(server)

    async def slow(sent: Sent) -> McpReply:
        harness.now += 0.5
        return McpReply(result={"content": [], "isError": True})

    server.script = slow
    await harness.call(ScriptedClient(agent="coder"), "git__log", {"b": 1, "a": 2})
    await harness.call(ScriptedClient("legacy"), "git__none")
    first, second = harness.calls
    assert (first.agent, first.server, first.tool, first.method) == ("coder", "git", "git__log", "tools/call")
    assert (first.decision, first.rule, first.outcome) == ("allow", "default", "tool_error")
    assert first.definition == hash_of(tool("log"))
    assert len(first.arguments) == 64
    assert first.seconds == 0.5
    assert first.bytes_in == len('{"a":2,"b":1}')
    assert first.bytes_out > 0
    assert (second.outcome, second.reason, second.era) == ("refused", "unknown", "legacy")
    assert first.id != second.id


async def test_a_call_of_a_disconnected_client_is_cancelled_at_the_server_and_recorded() -> None:
    async def never(sent: Sent) -> McpReply:
        await asyncio.Event().wait()
        return await echo(sent)

    harness = Harness(ScriptedServer("s", tools=[tool("x")], script=never))
    task = asyncio.create_task(harness.call(ScriptedClient(), "s__x"))
    while not harness.servers["s"].sent:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert harness.servers["s"].cancelled == 1
    assert harness.calls[-1].outcome == "client_closed"


def recording(keep_bodies: int = 0) -> tuple[CallRecording, list[ToolRecord]]:
    records: list[ToolRecord] = []
    made = CallRecording(
        ids=iter(("id-1",)),
        clock=lambda: 5.0,
        wall=lambda: 1_000.0,
        on_record=records.append,
        keep_bodies=keep_bodies,
    )
    return made, records


@pytest.mark.parametrize(
    ("reply", "outcome", "reason", "message"),
    [
        (McpReply(result={"content": []}), "ok", "", None),
        (McpReply(result={"content": [], "isError": True}), "tool_error", "", None),
        (McpReply(error={"code": -7, "message": "no"}), "error", "", "no"),
        (McpReply.failed(-32602, "unknown", reason="unknown"), "refused", "unknown", "unknown"),
        (McpReply.failed(-32603, "gone", reason="lost"), "error", "lost", "gone"),
        (tool_refused("denied", reason="policy", era="legacy"), "refused", "policy", "denied"),
        (tool_refused("too large", reason="size", era="legacy"), "error", "size", "too large"),
        (McpReply(error={"code": "x", "message": "m" * 10_000}), "error", "", "m" * MAX_ERROR),
    ],
)
def test_the_outcome_follows_from_the_reply(
    reply: McpReply, outcome: str, reason: str, message: str | None
) -> None:
    made, records = recording()
    context = ToolRequestContext(ScriptedClient(), {"method": "tools/call"}, route=None)
    made.begin(context)
    made.note_reply(context, reply)
    made.finish(context)
    (record,) = records
    assert (record.outcome, record.reason, record.error) == (outcome, reason, message)
    assert record.code == (reply.error or {}).get("code") or not isinstance(record.code, int)


@pytest.mark.parametrize("keep", [0, 4])
def test_bodies_are_kept_up_to_a_limit_and_names_are_cut(keep: int) -> None:
    made, records = recording(keep)
    context = ToolRequestContext(ScriptedClient(agent="coder"), {"method": "tools/call"}, route=None)
    made.begin(context)
    made.note_request(context, "x" * 2_000, {"b": 1, "a": 2})
    made.note_size(context, 10, b"0123456789")
    made.finish(context)
    (record,) = records
    assert (len(record.tool), record.bytes_in, record.bytes_out) == (MAX_NAME, 13, 10)
    assert (record.request_body, record.response_body) == ((b'{"a"', b"0123") if keep else (None, None))
    assert (record.agent, record.outcome, record.started) == ("coder", "client_closed", 1_000.0)


PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("meta", "found"),
    [
        ({"traceparent": PARENT, "tracestate": "a=1"}, ("00f067aa0ba902b7", "a=1")),
        ({"traceparent": PARENT, "tracestate": 7}, ("00f067aa0ba902b7", "")),
        ({"traceparent": PARENT.upper()}, None),
        ({"traceparent": [PARENT]}, None),
        ({}, None),
        ("no object", None),
    ],
)
def test_the_trace_of_a_call_is_in_its_meta(meta: object, found: tuple[str, str] | None) -> None:
    trace = trace_of(meta)
    assert (None if trace is None else (trace.parent_id, trace.state)) == found
