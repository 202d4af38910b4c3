"""Answers of `initialize`, `server/discover` and the list methods."""

import pytest

from modelplex.mcp import routing
from modelplex.mcp.constants import (
    INVALID_PARAMS,
)
from tests.mcp.harness import (
    Harness,
    ScriptedClient,
    ScriptedServer,
    SlowServer,
    error,
    result,
    tool,
    two_servers,
)
from tests.mcp.task_servers import tasking


async def test_initialize_echoes_a_supported_revision_and_offers_the_newest_for_others() -> None:
    harness = two_servers()
    client = ScriptedClient("legacy")
    for asked, given in (("2024-11-05", "2024-11-05"), ("2025-06-18", "2025-06-18"), ("1999", "2025-11-25")):
        found = result(await harness.ask(client, "initialize", {"protocolVersion": asked}))
        assert found["protocolVersion"] == given
        assert found["serverInfo"]["name"] == "modelplex"
        assert found["capabilities"]["tools"] == {"listChanged": True}


async def test_discover_starts_no_server_and_has_a_cache_time() -> None:
    harness = Harness(ScriptedServer("git", known=False))
    found = result(await harness.ask(ScriptedClient(), "server/discover"))
    assert found["supportedVersions"][0] == "2026-07-28"
    assert "2025-11-25" in found["supportedVersions"]
    assert found["cacheScope"] == "private"
    assert found["ttlMs"] == 0
    assert "tools" in found["capabilities"]
    assert harness.servers["git"].listed == 0


async def test_capabilities_are_the_relayed_ones_of_all_servers() -> None:
    harness = Harness(
        ScriptedServer("a", capabilities={"tools": {}, "tasks": {"list": {}}, "experimental": {"x": {}}}),
        ScriptedServer("b", capabilities={"completions": {}, "resources": {"subscribe": True}}),
    )
    found = result(
        await harness.ask(ScriptedClient("legacy"), "initialize", {"protocolVersion": "2025-11-25"})
    )
    assert found["capabilities"] == {
        "tools": {"listChanged": True},
        "resources": {"subscribe": True, "listChanged": True},
        "completions": {},
    }


async def test_instructions_have_their_servers_name_as_heading() -> None:
    harness = Harness(
        ScriptedServer("a", instructions="be kind"), ScriptedServer("b", instructions="be brief")
    )
    found = result(
        await harness.ask(ScriptedClient("legacy"), "initialize", {"protocolVersion": "2025-11-25"})
    )
    assert found["instructions"] == "# a\n\nbe kind\n\n# b\n\nbe brief"


async def test_an_unknown_cursor_is_refused() -> None:
    assert (
        error(await two_servers().ask(ScriptedClient(), "tools/list", {"cursor": "AAAA"}))["code"]
        == INVALID_PARAMS
    )
    assert (
        error(await two_servers().ask(ScriptedClient(), "tools/list", {"cursor": 1}))["code"]
        == INVALID_PARAMS
    )


async def test_capabilities_of_a_slow_server_are_assumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routing, "LIST_WAIT_SECONDS", 0.01)
    slow = SlowServer("slow", allow=("tasks",))
    harness = Harness(slow, ScriptedServer("up", tools=[tool("x")], capabilities={"tools": {}}))
    began = await harness.ask(ScriptedClient("legacy"), "initialize", {"protocolVersion": "2025-11-25"})
    claims = result(began)["capabilities"]
    assert claims["resources"]["subscribe"] is True
    assert (claims["logging"], claims["completions"]) == ({}, {})
    assert claims["tasks"] == {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}
    slow.go_on.set()


async def test_tasks_are_advertised_from_their_revision_on() -> None:
    harness = Harness(tasking("a"))
    for version, offered in (("2025-06-18", False), ("2025-11-25", True)):
        reply = await harness.ask(ScriptedClient("legacy"), "initialize", {"protocolVersion": version})
        assert ("tasks" in result(reply)["capabilities"]) is offered
