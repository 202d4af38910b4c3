"""Checks and approvals of catalogs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection

import msgspec
import pytest

from modelplex.mcp import checked_catalogs
from modelplex.mcp.approvals import Approvals, Judgement, Lock, hash_of
from modelplex.mcp.catalog import CatalogEntry
from modelplex.mcp.checked_catalogs import MAX_SENTENCE, CheckedCatalogs, RouteTarget
from modelplex.mcp.constants import Catalog
from modelplex.mcp.names import ServerToolName
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
    found = [
        "the tool 'bad' is left out: description is a number, not a string",
        "the tool 'part' is listed without what clients refuse: icons.0.src is missing",
    ]
    assert harness.reports == [("odd", sentence) for sentence in found]
    rows = {row["name"]: row for row in harness.gateway.status()}
    assert (rows["odd"]["left_out"], rows["odd"]["warnings"]) == (1, found)
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


def checks_of(
    *servers: ScriptedServer, approvals: Approvals | None = None
) -> tuple[CheckedCatalogs, list[tuple[str, str]], list[Lock]]:
    reports: list[tuple[str, str]] = []
    seen: list[Lock] = []
    made = CheckedCatalogs(
        {server.name: server for server in servers},
        approvals=approvals or Approvals(),
        launches={server.name: "sha256:launch" for server in servers},
        report=lambda server, sentence: reports.append((server, sentence)),
        on_first_seen=seen.append,
    )
    return made, reports, seen


def test_a_catalog_is_checked_and_judged_once_until_it_changes() -> None:
    server = ScriptedServer("s", tools=[tool("a")])
    checks, _, seen = checks_of(server)
    catalog = server.offered
    assert checks.checked("s", catalog) is checks.checked("s", catalog)
    assert checks.judgement("s", catalog) is checks.judgement("s", catalog)
    assert [list(each["s"].tools) for each in seen] == [["a"]]
    changed = msgspec.structs.replace(catalog, tools=(tool("a"), tool("b")))
    assert len(checks.checked("s", changed).catalog.tools) == 2
    assert checks.judgement("s", changed) is not checks.judgement("s", catalog)


def test_other_globs_of_the_config_check_a_catalog_again() -> None:
    server = ScriptedServer("s", tools=[tool("a"), tool("b")])
    checks, _, _ = checks_of(server)
    assert len(checks.checked("s", server.offered).catalog.tools) == 2
    server.config = msgspec.structs.replace(server.config, tools=("!b",))
    assert len(checks.checked("s", server.offered).catalog.tools) == 1


async def test_a_catalog_prepared_in_a_thread_is_not_checked_again() -> None:
    server = ScriptedServer("s", tools=[tool("a"), {"name": "bad"}])
    checks, _, seen = checks_of(server)
    await checks.prepare(server)
    assert checks.left_out() == {"s": 1}
    usable, judgement = checks.checked("s", server.offered), checks.judgement("s", server.offered)
    await checks.prepare(server)
    assert checks.checked("s", server.offered) is usable
    assert checks.judgement("s", server.offered) is judgement
    assert len(seen) == 1


def test_names_of_other_servers_tools_are_findings_with_and_without_prefix() -> None:
    text = "Better than mail__send_mail, and than send_mail."
    server = ScriptedServer("s", tools=[tool("a", description=text)])
    checks, reports, _ = checks_of(server, ScriptedServer("mail", tools=[tool("send_mail")]))
    checks.judgement("s", server.offered)
    assert [sentence for _, sentence in reports] == [
        "the tool 'a': description has the name of another server's tool: mail__send_mail, send_mail"
    ]


def test_a_sentence_is_reported_once_cut_and_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked_catalogs, "MAX_SENTENCES", 2)
    checks, reports, _ = checks_of(ScriptedServer("s"))
    for sentence in ("one", "one", "x" * 5_000, "three"):
        checks.report_once("s", sentence)
    assert reports == [("s", "one"), ("s", "x" * MAX_SENTENCE)]


def test_a_target_has_the_hash_and_the_approval_of_its_definition() -> None:
    server = ScriptedServer("s", tools=[tool("a")])
    checks, _, _ = checks_of(server, approvals=Approvals(mode="locked"))
    found = checks.target_of("tool", ServerToolName("s", "a"), "s__a", None)
    assert found == RouteTarget("s", "a", "s__a", hash_of(tool("a")), "pending")
    checks.set_approvals(Approvals(mode="off"))
    entry = CatalogEntry(name="s__a", server="s", own="a", definition=tool("s__a"), older={})
    definition = {**tool("s__a"), "name": "a"}
    found = checks.target_of("tool", ServerToolName("s", "a"), "s__a", entry)
    assert found == RouteTarget("s", "a", "s__a", hash_of(definition), "approved")
    server.catalog = None
    assert checks.target_of("tool", ServerToolName("s", "a"), "s__a", entry) is None


class SlowApprovals(Approvals, frozen=True, kw_only=True):
    """Judges once `go` is set."""

    began: threading.Event
    go: threading.Event

    def judge(
        self, server: str, catalog: Catalog, *, launch: str = "", others: Collection[str] = ()
    ) -> Judgement:
        self.began.set()
        assert self.go.wait(5)
        return super().judge(server, catalog, launch=launch, others=others)


async def test_a_judgement_of_replaced_approvals_is_dropped() -> None:
    slow = SlowApprovals(mode="locked", began=threading.Event(), go=threading.Event())
    server = ScriptedServer("s", tools=[tool("a")])
    checks, _, _ = checks_of(server, approvals=slow)
    preparing = asyncio.create_task(checks.prepare(server))
    try:
        assert await asyncio.to_thread(slow.began.wait, 5)
        checks.set_approvals(Approvals(mode="off"))
    finally:
        slow.go.set()
    await asyncio.wait_for(preparing, 5)
    assert checks.judgement("s", server.offered).mode == "off"
