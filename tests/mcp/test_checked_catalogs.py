"""Checks and approvals of catalogs."""

from __future__ import annotations

import asyncio

from modelplex.mcp.approvals import Approvals, hash_of
from tests.mcp.harness import (
    Harness,
    ScriptedClient,
    ScriptedServer,
    tool,
)


async def test_with_trust_first_a_change_is_relayed_and_reported() -> None:
    server = ScriptedServer("git", tools=[tool("log")])
    harness = Harness(server, approvals=Approvals(mode="trust_first"))
    assert await harness.names(ScriptedClient()) == ["git__log"]
    assert harness.seen["git"].tools == {"log": hash_of(tool("log"))}
    server.becomes(tools=(tool("log", title="Other"),))
    assert await harness.names(ScriptedClient()) == ["git__log"]
    assert any("not as it was approved" in sentence for _, sentence in harness.reports)
    assert harness.gateway.status()[0]["changed"] == ["log"]


async def test_hidden_characters_in_a_description_are_reported() -> None:
    harness = Harness(
        ScriptedServer("git", tools=[tool("log", description="good\u200btool")]),
        approvals=Approvals(mode="trust_first"),
    )
    await harness.names(ScriptedClient())
    assert any("invisible characters" in sentence for _, sentence in harness.reports)


async def test_an_entry_that_is_left_out_is_reported_once_and_counted() -> None:
    odd = ScriptedServer("odd", tools=[tool("good"), tool("bad", description=3), tool("part", icons=[{}])])
    harness = Harness(odd, ScriptedServer("other", tools=[tool("x")]))
    for era in ("legacy", "modern"):
        assert await harness.names(ScriptedClient(era)) == ["odd__good", "odd__part", "other__x"]
    told = [
        "the tool 'bad' is left out: description is a number, not a string",
        "the tool 'part' is listed without what clients refuse: icons.0.src is missing",
    ]
    assert harness.reports == [("odd", sentence) for sentence in told]
    rows = {row["name"]: row for row in harness.gateway.status()}
    assert (rows["odd"]["left_out"], rows["odd"]["warnings"]) == (1, told)
    assert (rows["other"]["left_out"], rows["other"]["warnings"]) == (0, [])
    assert harness.gateway.left_out() == {"odd": 1, "other": 0}


async def test_a_large_catalog_is_checked_in_a_thread() -> None:
    harness = Harness(ScriptedServer("s", tools=[tool(f"x{index}") for index in range(3_000)]))
    began = asyncio.get_running_loop().time()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    waiting = asyncio.create_task(others())
    try:
        assert len(await harness.names(ScriptedClient())) == 1_000  # a page
    finally:
        waiting.cancel()
    assert turns > 10, asyncio.get_running_loop().time() - began
