"""The lists of a server: stored, and loaded again after a change."""

import asyncio

from modelplex.mcp.constants import Json
from modelplex.mcp.servers.server_catalog import _without_subscription_id

from .conftest import Start, until


async def test_a_slow_server_is_stored_as_such_until_its_lists_are_loaded(start: Start) -> None:
    first = start(cache=True)
    await first.server.load()
    first.server.set_late()
    await first.server.close()
    second = start(cache=True)
    assert await second.server.load() is None
    assert second.server.late
    await second.server.lists()
    assert not second.server.late
    await second.server.close()
    third = start(cache=True)
    assert await third.server.load() is not None
    assert not third.server.late
    assert not list((third.log.parent / "mcp").glob("*.late"))


async def test_a_changed_list_is_loaded_and_then_announced_once(start: Start) -> None:
    scripted = start()
    await scripted.call("echo")
    received: list[tuple[str, str, int]] = []
    end = scripted.server.listen(
        lambda scope, message: received.append(
            (scope, message["method"], len(scripted.server.catalog.tools) if scripted.server.catalog else 0)
        )
    )
    await scripted.call("grow", {"name": "new", "times": 5})
    await until(lambda: bool(received))
    await asyncio.sleep(0.1)
    assert 1 <= len(received) <= 2  # five at once: one load, and one more for those that came during it
    assert received[0] == ("", "notifications/tools/list_changed", 3)
    assert len(scripted.lines("prompts/list")) == 1
    end()
    await scripted.call("touch", {"uri": "a://b"})
    assert len(received) <= 2


def test_the_id_of_the_gateways_own_subscription_is_removed() -> None:
    of = "io.modelcontextprotocol/subscriptionId"
    cases: list[tuple[Json, Json]] = [
        ({"uri": "a", "_meta": {of: 1}}, {"uri": "a"}),
        ({"uri": "a", "_meta": {of: 1, "x": 2}}, {"uri": "a", "_meta": {"x": 2}}),
        ({"uri": "a", "_meta": {"x": 2}}, {"uri": "a", "_meta": {"x": 2}}),
        ({"uri": "a", "_meta": None}, {"uri": "a", "_meta": None}),
    ]
    for params, expected in cases:
        assert _without_subscription_id({"method": "m", "params": params}) == {
            "method": "m",
            "params": expected,
        }
    assert _without_subscription_id({"method": "m"}) == {"method": "m"}
