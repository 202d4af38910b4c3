"""Subscribers to changed lists and resources."""

import asyncio

from modelplex.mcp.constants import META_SUBSCRIPTION, Json
from tests.mcp.harness import Harness, ScriptedClient, ScriptedServer, error, result, tool
from tests.mcp.listening import ALL, TOOLS, Listening, files


async def test_a_change_of_one_server_reaches_subscribers_of_both_eras_once() -> None:
    harness = Harness(files(), ScriptedServer("other", tools=[tool("y")]))
    old = harness.opened(ScriptedClient("legacy"))
    new = ScriptedClient()
    listening = Listening(harness, new, ALL, id="sub")
    granted = await listening.begun()
    assert granted["method"] == "notifications/subscriptions/acknowledged"
    assert granted["params"]["notifications"] == {"toolsListChanged": True, "resourcesListChanged": True}
    harness.servers["fs"].becomes(tools=(tool("z"),))
    assert old.channel == [TOOLS]
    assert new.notifications[1:] == [{**TOOLS, "params": {"_meta": {META_SUBSCRIPTION: "sub"}}}]
    assert await harness.names(new) == ["fs__z", "other__y"]
    await listening.end()
    harness.servers["fs"].says("notifications/tools/list_changed")
    assert len(new.notifications) == 2


async def test_equal_subscription_ids_of_two_clients_never_mix() -> None:
    harness = Harness(files("a", "file:///a"), files("b", "file:///b"))
    one, two = ScriptedClient(), ScriptedClient()
    first = Listening(harness, one, {"resourceSubscriptions": ["file:///a", "file:///none"]}, id=1)
    second = Listening(harness, two, {"resourceSubscriptions": ["file:///b"]}, id=1)
    assert (await first.begun())["params"]["notifications"] == {"resourceSubscriptions": ["file:///a"]}
    await second.begun()
    assert harness.servers["a"].watched == {"": frozenset({"file:///a"})}
    harness.servers["a"].says("notifications/resources/updated", {"uri": "file:///a"})
    harness.servers["a"].says("notifications/resources/updated", {"uri": "file:///b"})
    harness.servers["a"].says("notifications/tools/list_changed")
    assert len(one.notifications) == 2
    assert one.notifications[1]["params"] == {"uri": "file:///a", "_meta": {META_SUBSCRIPTION: 1}}
    assert len(two.notifications) == 1
    await first.end()
    for _ in range(5):
        await asyncio.sleep(0)
    assert harness.servers["a"].watched == {"": frozenset()}
    await second.end()


async def test_a_session_watches_a_resource_until_it_unsubscribes_or_ends() -> None:
    harness = Harness(files())
    server = harness.servers["fs"]
    one, two = (
        harness.opened(ScriptedClient("legacy", session="a")),
        harness.opened(ScriptedClient("legacy", session="b")),
    )
    for client in (one, two):
        assert result(await harness.ask(client, "resources/subscribe", {"uri": "file:///a"})) == {}
    assert error(await harness.ask(one, "resources/subscribe", {"uri": "file:///etc"}))["code"] == -32002
    server.says("notifications/resources/updated", {"uri": "file:///a/below"})
    assert [len(client.channel) for client in (one, two)] == [1, 1]
    await harness.ask(one, "resources/unsubscribe", {"uri": "file:///a"})
    server.says("notifications/resources/updated", {"uri": "file:///a"})
    assert [len(client.channel) for client in (one, two)] == [1, 2]
    assert server.watched == {"": frozenset({"file:///a"})}
    harness.gateway.close_session(two)
    for _ in range(5):
        await asyncio.sleep(0)
    assert server.watched == {"": frozenset()}


async def test_a_session_on_a_legacy_instance_gets_its_resource_updates() -> None:
    about: Json = {"tools": {}, "resources": {"subscribe": True}}
    listed = [{"uri": "file:///a", "name": "a"}]
    main = ScriptedServer("a", era="modern", allow=("elicitation",), resources=listed, capabilities=about)
    legacy_server = ScriptedServer("a", allow=("elicitation",), resources=listed, capabilities=about)
    harness = Harness(main, legacy_servers=[legacy_server])
    asked = harness.opened(ScriptedClient("legacy", session="s1", capabilities={"elicitation": {}}))
    other = harness.opened(ScriptedClient("legacy", session="s2"))
    for client in (asked, other):
        await harness.ask(client, "resources/subscribe", {"uri": "file:///a"})
    assert main.watched == {"": frozenset({"file:///a"})}
    (scope,) = legacy_server.watched
    assert scope.startswith("session:")
    legacy_server.says("notifications/resources/updated", {"uri": "file:///a"}, scope=scope)
    assert [len(client.channel) for client in (asked, other)] == [1, 0]
    main.says("notifications/resources/updated", {"uri": "file:///a"})
    assert [len(client.channel) for client in (asked, other)] == [1, 1]
    await harness.ask(asked, "resources/unsubscribe", {"uri": "file:///a"})
    assert legacy_server.watched[scope] == frozenset()
    assert main.watched[""] == {"file:///a"}
