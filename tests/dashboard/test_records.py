"""The store as the page reads it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from modelplex.dashboard import records
from modelplex.dashboard.calls import PageFilter
from modelplex.dashboard.records import (
    PageRecords,
    call_page,
    find_call,
    read_message,
    run_calls,
    search_run,
    series,
    spending,
)
from modelplex.records.store.database import Database, StoreUnavailable, open_database
from modelplex.records.store.queries import recent_calls, recent_runs
from modelplex.records.store.rows import CallSummary
from tests.dashboard.scene import Scene, scene
from tests.dashboard.test_browser import FULL, conversation
from tests.gateways import WAIT_S


async def database(made: Scene, calls: int) -> Database:
    """The store, once it has so many calls."""
    path = made.folder / "state" / "records.sqlite"
    async with asyncio.timeout(WAIT_S):
        while True:
            await asyncio.sleep(0.02)
            if not path.exists():
                continue
            try:
                opened = await asyncio.to_thread(open_database, path, read_only=True)
            except StoreUnavailable:
                continue
            if len(recent_calls(opened)) >= calls:
                return opened
            opened.close()


async def test_calls_come_in_pages_and_by_filters_that_the_store_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "PAGE", 2)
    monkeypatch.setattr(records, "SCAN", 2)
    async with scene(tmp_path) as made:
        for model in ("gpt-5-fast", "qwen-fast", "no-such-model", "claude-opus-fast", "gpt-5-fast"):
            await made.call("coder", model)
        db = await database(made, 5)
        seen: list[str] = []
        page = call_page(db, PageFilter(), None)
        while True:
            seen += [row.requested_model for row in page.rows]
            if page.last is None:
                break
            assert len(page.rows) == 2
            page = call_page(db, PageFilter(), page.last)
        assert seen == ["gpt-5-fast", "claude-opus-fast", "no-such-model", "qwen-fast", "gpt-5-fast"]
        assert [row.model for row in call_page(db, PageFilter(model="GPT"), None).rows] == ["gpt-5-fast"] * 2
        assert [row.model for row in call_page(db, PageFilter(only="unpriced"), None).rows] == ["qwen-fast"]
        (failed,) = call_page(db, PageFilter(only="failed"), None).rows
        assert (failed.requested_model, failed.code) == ("no-such-model", "model_not_found")
        db.close()


async def test_the_parts_of_a_request_are_marked_where_they_are_new(tmp_path: Path) -> None:
    async with scene(tmp_path, more=FULL) as made:
        await conversation(made)
        db = await database(made, 4)
        found = find_call(db, made.running.records[1].id)
        assert found is not None
        _, content = found
        assert content.before == made.running.records[0].id
        messages = [(part.label, part.is_new) for part in content.parts if part.kind == "message"]
        assert messages == [("system", False), ("user", False), ("assistant", True), ("tool", True)]
        (call,) = [part.blocks[0] for part in content.parts if part.label == "assistant"]
        assert (call.kind, call.name, json.loads(call.text)) == (
            "tool_call",
            "read_file",
            {"path": "migrations/0.sql"},
        )
        assert content.response[0].text.startswith("The build fails")
        db.close()


async def test_a_small_body_which_is_stored_whole_has_its_messages_too(tmp_path: Path) -> None:
    async with scene(tmp_path, more=FULL) as made:
        messages: list[Any] = [{"role": "user", "content": "One."}]
        await made.call("coder", "gpt-5-fast", messages=messages)
        messages += [{"role": "assistant", "content": "Two."}, {"role": "user", "content": "Three."}]
        await made.call("coder", "gpt-5-fast", messages=messages)
        db = await database(made, 2)
        first, second = (find_call(db, record.id) for record in made.running.records)
        assert first is not None
        assert second is not None
        assert [(part.label, part.text, part.is_new) for part in first[1].parts] == [("user", "One.", True)]
        assert [(part.text, part.is_new) for part in second[1].parts] == [
            ("One.", False),
            ("Two.", True),
            ("Three.", True),
        ]
        assert find_call(db, "none") is None
        db.close()


async def test_a_run_has_its_calls_with_what_they_say_and_is_searched(tmp_path: Path) -> None:
    async with scene(tmp_path, more=FULL) as made:
        await conversation(made)
        db = await database(made, 4)
        (run,) = recent_runs(db)
        calls = run_calls(db, run.id)
        assert [call.row.relation for call in calls] == ["root", "turn", "turn", "branch"]
        assert calls[0].asks == "The build fails on main. Find out why."
        assert calls[-1].asks == "Look at the other branch."
        assert all(call.says.startswith("The build fails because") for call in calls)
        assert search_run(db, run.id, "USERS_1") == [calls[2].row.id]
        assert search_run(db, run.id, "claude-opus") == [calls[3].row.id]
        assert search_run(db, run.id, "nowhere") == []
        db.close()


@pytest.mark.parametrize("days", [1, 7, 30])
async def test_spending_adds_up_by_group_and_over_time(tmp_path: Path, days: int) -> None:
    async with scene(tmp_path) as made:
        await made.call("coder", "gpt-5-fast")
        await made.call("researcher", "qwen-fast")
        db = await database(made, 2)
        now = made.running.records[-1].started
        found = spending(db, now, days)
        assert {row.group["agent"]: row.calls for row in found.by["agent"]} == {"coder": 1, "researcher": 1}
        assert found.by["provider"][0].cost == pytest.approx(0.00204)
        assert len(found.at) == (24 if days == 1 else days)
        assert found.cost["gpt-5-fast"][-1] == pytest.approx(0.00204)
        assert found.tokens["qwen-fast"][-1] == 1240
        assert found.agents["coder"].cost[-1] == pytest.approx(0.00204)
        assert found.agents["researcher"].tokens[-1] == 1240
        assert sum(sum(values) for values in found.tokens.values()) == 2480
        db.close()


async def test_plots_have_latencies_calls_and_errors_of_each_step(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        await made.call("coder", "gpt-5-fast")
        await made.call("coder", "no-such-model")
        db = await database(made, 2)
        found = series(db, made.running.records[-1].started + 1, 600.0)
        assert len(found.at) == len(found.p50) == records.STEPS
        assert [value for value in found.p50 if value is not None] == [
            pytest.approx(made.running.records[0].times.total)
        ]
        assert sum(found.calls["openai"]) == 1
        assert sum(found.errors["client"]) == 1
        assert found.first_p95[-1] is not None
        db.close()


@pytest.mark.parametrize(
    ("dialect", "endpoint", "message"),
    [
        ("openai_chat", "chat/completions", '{"role": "user", "content": "Hi"}'),
        ("anthropic_messages", "messages", '{"role": "user", "content": [{"type": "text", "text": "Hi"}]}'),
        ("openai_responses", "responses", '{"role": "user", "content": "Hi"}'),
        ("gemini", "chat/completions", '{"role": "user", "parts": [{"text": "Hi"}]}'),
        ("ollama", "chat/completions", '{"role": "user", "content": "Hi"}'),
    ],
)
def test_a_message_of_each_dialect_is_read_by_itself(dialect: str, endpoint: str, message: str) -> None:
    facts: dict[str, Any] = dict.fromkeys(CallSummary.__struct_fields__, 0)
    facts |= {"dialect": dialect, "endpoint": endpoint, "requested_model": "m"}
    call = CallSummary(**facts)
    (entry,) = read_message(call, message.encode())
    assert (entry.role, entry.text) == ("user", "Hi")


async def test_a_store_that_cannot_be_read_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def refuse() -> Database:
        asked.append(1)
        raise StoreUnavailable("it is away.")

    store = PageRecords(refuse)
    assert await store.read(lambda db: db.place) is None
    assert await store.read(lambda db: db.place) is None
    assert len(asked) == 1
    monkeypatch.setattr(records, "REOPEN_S", 0.0)
    assert await store.read(lambda db: db.place) is None
    assert len(asked) == 2
