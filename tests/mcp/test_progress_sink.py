"""Progress and log messages of one call."""

import asyncio

import pytest

from modelplex.mcp.constants import (
    META_LOG_LEVEL,
    Json,
    McpReply,
)
from modelplex.mcp.progress_sink import MAX_LOGS, MESSAGE, PROGRESS, ProgressSink
from tests.mcp.harness import (
    Harness,
    ScriptedClient,
    ScriptedServer,
    Sent,
    tool,
)


async def test_progress_goes_to_the_calling_client() -> None:
    async def script(sent: Sent) -> McpReply:
        assert sent.on_notification is not None
        token = sent.params["_meta"]["progressToken"]
        sent.on_notification(
            {
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": {"progressToken": token, "progress": 1, "_meta": {"io.modelcontextprotocol/x": 1}},
            }
        )
        await asyncio.sleep(0)
        return McpReply(result={"content": []})

    harness = Harness(ScriptedServer("s", tools=[tool("x")], script=script))
    one, two = ScriptedClient("legacy", session="a"), ScriptedClient("modern")
    await asyncio.gather(
        harness.call(one, "s__x", _meta={"progressToken": 1}),
        harness.call(two, "s__x", _meta={"progressToken": 1}),
    )
    for client in (one, two):
        (found,) = client.notifications
        assert found["params"] == {"progressToken": 1, "progress": 1}


def logging(count: int, level: str = "info") -> ScriptedServer:
    async def script(sent: Sent) -> McpReply:
        for number in range(count):
            if sent.on_notification is not None:
                sent.on_notification(
                    {
                        "jsonrpc": "2.0",
                        "method": "notifications/message",
                        "params": {"level": level, "data": number},
                    }
                )
        return McpReply(result={"content": []})

    return ScriptedServer("s", tools=[tool("x")], script=script)


async def test_a_modern_client_gets_log_messages_only_at_the_requested_level() -> None:
    server = logging(1)
    harness = Harness(server)
    quiet, asks, strict = ScriptedClient(), ScriptedClient(), ScriptedClient()
    await harness.call(quiet, "s__x")
    await harness.call(asks, "s__x", _meta={META_LOG_LEVEL: "info"})
    await harness.call(strict, "s__x", _meta={META_LOG_LEVEL: "error"})
    assert (len(quiet.notifications), len(asks.notifications), len(strict.notifications)) == (0, 1, 0)
    assert [sent.log_level for sent in server.sent] == [None, "info", "error"]


async def test_log_messages_have_a_rate_limit() -> None:
    harness = Harness(logging(50))
    client = ScriptedClient("legacy")
    await harness.call(client, "s__x")
    assert len(client.notifications) == MAX_LOGS


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def sink_of(client: ScriptedClient, clock: Clock, level: str | None = "info", **more: bool) -> ProgressSink:
    return ProgressSink(client, level=level, globs=("a.org/*",), clock=clock, related=lambda _: {}, **more)


def log(level: object = "info", **members: object) -> Json:
    return {"jsonrpc": "2.0", "method": MESSAGE, "params": {"level": level, **members}}


@pytest.mark.parametrize(
    ("wanted", "level", "passes"),
    [
        ("warning", "warning", True),
        ("warning", "error", True),
        ("warning", "notice", False),
        ("warning", "loud", True),
        ("warning", None, True),
        (None, "emergency", False),
    ],
)
def test_a_message_below_the_wanted_level_is_dropped(wanted: str | None, level: object, passes: bool) -> None:
    client = ScriptedClient()
    sink_of(client, Clock(), wanted)(log(level))
    assert len(client.notifications) == passes


def test_the_rate_limit_is_per_second_and_not_for_progress() -> None:
    client, clock = ScriptedClient(), Clock()
    sink = sink_of(client, clock)
    for _ in range(MAX_LOGS + 5):
        sink(log())
        sink({"method": PROGRESS, "params": {"progress": 1}})
    assert len(client.notifications) == MAX_LOGS + MAX_LOGS + 5
    clock.now += 1.0
    sink(log())
    assert len(client.notifications) == MAX_LOGS + MAX_LOGS + 6


def test_other_notifications_are_dropped() -> None:
    client = ScriptedClient()
    sink_of(client, Clock())({"method": "notifications/tools/list_changed"})
    sink_of(client, Clock())({"method": MESSAGE, "params": "text"})
    assert [each["params"] for each in client.notifications] == ["text"]


def test_reserved_members_are_removed_and_invisible_characters_escaped() -> None:
    client = ScriptedClient()
    meta = {"a.org/x": 1, "b.org/y": 2, "io.modelcontextprotocol/z": 3}
    sink_of(client, Clock(), plain=True)(log(data="a\u202eb", _meta=meta))
    assert client.notifications[0]["params"] == {
        "level": "info",
        "data": "a\\u202eb",
        "_meta": {"a.org/x": 1},
    }
