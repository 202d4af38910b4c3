"""Changes: told once to each who may see them, on the stream that is theirs."""

import asyncio

from modelplex.mcp.constants import META_SUBSCRIPTION, Json, McpReply, Unavailable
from modelplex.mcp.streams import MAX_SUBSCRIPTIONS
from tests.mcp.harness import WAIT, Harness, ScriptedClient, ScriptedServer, error, result, tool

TOOLS = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
ALL: Json = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}


def files(name: str = "fs", uri: str = "file:///a") -> ScriptedServer:
    return ScriptedServer(
        name,
        tools=[tool("x")],
        resources=[{"uri": uri, "name": "a"}],
        capabilities={"tools": {}, "resources": {"subscribe": True}},
    )


class Listening:
    """One modern subscription."""

    def __init__(self, harness: Harness, guest: ScriptedClient, wanted: Json, *, id: str | int = 1) -> None:
        message = guest.message("subscriptions/listen", {"notifications": wanted}, id=id)
        self.task: asyncio.Task[McpReply] = asyncio.create_task(harness.gateway.request(guest, message))
        self.guest = guest

    async def begun(self) -> Json:
        await asyncio.wait_for(self.guest.notified.wait(), WAIT)
        for _ in range(5):
            await asyncio.sleep(0)
        return self.guest.notifications[0]

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


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


async def test_who_may_not_see_a_server_is_not_told_of_it() -> None:
    harness = Harness(files(), ScriptedServer("other", tools=[tool("y")]))
    blind = harness.opened(ScriptedClient("legacy", session="a", tools=("other__*",)))
    elsewhere = harness.opened(ScriptedClient("legacy", session="b"), server="other")
    harness.servers["fs"].says("notifications/tools/list_changed")
    assert blind.channel == []
    assert elsewhere.channel == []
    harness.servers["other"].says("notifications/tools/list_changed")
    assert blind.channel == elsewhere.channel == [TOOLS]


async def test_the_tools_of_search_mode_never_change() -> None:
    harness = Harness(files(), search="on")
    guest = harness.opened(ScriptedClient("legacy"))
    harness.servers["fs"].says("notifications/tools/list_changed")
    harness.servers["fs"].says("notifications/resources/list_changed")
    assert [each["method"] for each in guest.channel] == ["notifications/resources/list_changed"]


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


async def test_a_session_watches_a_resource_until_it_says_otherwise_or_ends() -> None:
    harness = Harness(files())
    server = harness.servers["fs"]
    one, two = (
        harness.opened(ScriptedClient("legacy", session="a")),
        harness.opened(ScriptedClient("legacy", session="b")),
    )
    for guest in (one, two):
        assert result(await harness.ask(guest, "resources/subscribe", {"uri": "file:///a"})) == {}
    assert error(await harness.ask(one, "resources/subscribe", {"uri": "file:///etc"}))["code"] == -32002
    server.says("notifications/resources/updated", {"uri": "file:///a/below"})
    assert [len(guest.channel) for guest in (one, two)] == [1, 1]
    await harness.ask(one, "resources/unsubscribe", {"uri": "file:///a"})
    server.says("notifications/resources/updated", {"uri": "file:///a"})
    assert [len(guest.channel) for guest in (one, two)] == [1, 2]
    assert server.watched == {"": frozenset({"file:///a"})}
    harness.gateway.close_session(two)
    for _ in range(5):
        await asyncio.sleep(0)
    assert server.watched == {"": frozenset()}


async def test_a_caller_has_so_many_subscriptions_and_no_more() -> None:
    harness = Harness(files())
    running = [Listening(harness, ScriptedClient(), ALL, id=number) for number in range(MAX_SUBSCRIPTIONS)]
    for each in running:
        await each.begun()
    refused = await harness.ask(ScriptedClient(), "subscriptions/listen", {"notifications": ALL})
    assert error(refused)["data"]["reason"] == "limit"
    for each in running:
        await each.end()


async def test_a_gateway_that_stops_ends_subscriptions_with_their_result() -> None:
    harness = Harness(files())
    guest = ScriptedClient()
    listening = Listening(harness, guest, ALL, id="x")
    await listening.begun()
    await harness.gateway.close()
    reply = await asyncio.wait_for(listening.task, WAIT)
    assert result(reply)["_meta"][META_SUBSCRIPTION] == "x"
    assert result(reply)["resultType"] == "complete"
    assert harness.servers["fs"].closed


# --- a session's own process


async def test_a_session_that_is_served_by_an_elder_hears_of_the_resources_there() -> None:
    about: Json = {"tools": {}, "resources": {"subscribe": True}}
    listed = [{"uri": "file:///a", "name": "a"}]
    main = ScriptedServer("a", era="modern", allow=("elicitation",), resources=listed, capabilities=about)
    legacy_server = ScriptedServer("a", allow=("elicitation",), resources=listed, capabilities=about)
    harness = Harness(main, legacy_servers=[legacy_server])
    asked = harness.opened(ScriptedClient("legacy", session="s1", capabilities={"elicitation": {}}))
    other = harness.opened(ScriptedClient("legacy", session="s2"))
    for guest in (asked, other):
        await harness.ask(guest, "resources/subscribe", {"uri": "file:///a"})
    assert main.watched == {"": frozenset({"file:///a"})}
    (scope,) = legacy_server.watched
    assert scope.startswith("session:")
    legacy_server.says("notifications/resources/updated", {"uri": "file:///a"}, scope=scope)
    assert [len(guest.channel) for guest in (asked, other)] == [1, 0]
    main.says("notifications/resources/updated", {"uri": "file:///a"})
    assert [len(guest.channel) for guest in (asked, other)] == [1, 1]
    await harness.ask(asked, "resources/unsubscribe", {"uri": "file:///a"})
    assert legacy_server.watched[scope] == frozenset()
    assert main.watched[""] == {"file:///a"}


async def test_what_changes_at_an_elder_is_asked_of_the_server_before_it_is_told() -> None:
    main = ScriptedServer("a", era="modern", allow=("elicitation",))
    legacy_server = ScriptedServer("a", allow=("elicitation",))
    harness = Harness(main, legacy_servers=[legacy_server])
    guest = harness.opened(ScriptedClient("legacy"))
    for _ in range(3):
        legacy_server.says("notifications/tools/list_changed", scope="session:x")
    assert guest.channel == []
    async with asyncio.timeout(WAIT):
        while not guest.channel:
            await asyncio.sleep(0)
    assert main.listed == 1
    assert [each["method"] for each in guest.channel] == ["notifications/tools/list_changed"]
    main.fails = Unavailable("gone", server="a", reason="lost")
    legacy_server.says("notifications/prompts/list_changed", scope="session:x")
    async with asyncio.timeout(WAIT):
        while len(guest.channel) < 2:
            await asyncio.sleep(0)
