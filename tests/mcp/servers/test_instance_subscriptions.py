"""Subscriptions to resources and lists."""

import pytest

from modelplex.mcp.constants import Json, Unavailable
from modelplex.mcp.servers.instance_subscriptions import _notification_filter

from .conftest import Start, until
from .remote import Seen, Stream, modern, remote, result, server_of


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_watched_resources_are_subscribed_to_again_after_a_crash(start: Start, era: str) -> None:
    scripted = start(era=era)
    received: list[Json] = []
    scripted.server.listen(lambda _, message: received.append(message))
    await scripted.server.watch(frozenset({"a://b"}))
    await scripted.call("touch", {"uri": "a://b"})
    await until(lambda: bool(received))
    assert received[0]["params"] == {"uri": "a://b"}
    method = "resources/subscribe" if era == "legacy" else "subscriptions/listen"
    subscribed = [line for line in scripted.lines(method) if "a://b" in line]
    assert len(subscribed) == 1
    with pytest.raises(Unavailable):
        await scripted.call("die")
    await scripted.call("echo")
    await until(lambda: len([line for line in scripted.lines(method) if "a://b" in line]) == 2)
    await scripted.server.watch(frozenset())
    if era == "legacy":
        assert len(scripted.lines("resources/unsubscribe")) == 1


async def test_a_change_opens_a_new_subscription_stream() -> None:
    async def respond(seen: Seen, stream: Stream) -> None:
        if seen.rpc_method == "server/discover":
            capabilities: Json = {"tools": {"listChanged": True}, "resources": {"subscribe": True}}
            await stream.json(
                result(seen, {"supportedVersions": ["2026-07-28"], "capabilities": capabilities})
            )
        elif seen.rpc_method == "subscriptions/listen":
            wish = seen.message["params"]["notifications"]
            meta: Json = {"io.modelcontextprotocol/subscriptionId": seen.message["id"]}
            await stream.events()
            acknowledged: Json = {"notifications": wish, "_meta": meta}
            await stream.event(
                {
                    "jsonrpc": "2.0",
                    "method": "notifications/subscriptions/acknowledged",
                    "params": acknowledged,
                }
            )
            for uri in wish.get("resourceSubscriptions", []):
                updated: Json = {"uri": uri, "_meta": meta}
                await stream.event(
                    {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": updated}
                )
            await stream.wait_closed()
        elif seen.rpc_method.startswith("resources"):
            await stream.json(result(seen, {}))
        else:
            await modern(seen, stream)

    async with remote(respond) as it, server_of(it) as server:
        received: list[Json] = []
        server.listen(lambda _, message: received.append(message))
        await server.lists()
        await server.watch(frozenset({"a://1"}))
        await server.watch(frozenset({"a://1", "a://2"}))
        await until(lambda: len(received) >= 3)
        wishes = [seen.message["params"]["notifications"] for seen in it.requests("subscriptions/listen")]
        assert wishes[-1] == {"toolsListChanged": True, "resourceSubscriptions": ["a://1", "a://2"]}
        assert received[-1]["params"] == {"uri": "a://2"}  # our own subscription's id is not in it


def test_the_filter_has_the_announced_lists_and_the_wanted_resources() -> None:
    capabilities: Json = {
        "tools": {"listChanged": True},
        "prompts": {"listChanged": "yes"},
        "resources": None,
    }
    assert _notification_filter(capabilities, frozenset()) == {"toolsListChanged": True}
    assert _notification_filter({}, frozenset({"b://", "a://"})) == {
        "resourceSubscriptions": ["a://", "b://"]
    }
    assert _notification_filter({}, frozenset()) == {}
