"""The paths of calls, runs and spending."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.dashboard.scene import Scene, scene
from tests.dashboard.test_browser import FULL, conversation
from tests.dashboard.test_page import Events, ask
from tests.gateways import WAIT_S


async def stored(made: Scene, count: int) -> list[Any]:
    """The rows of the list, once the store has so many."""
    async with asyncio.timeout(WAIT_S):
        while len(rows := (await ask(made, "GET", "/calls")).json["rows"]) < count:
            await asyncio.sleep(0.05)
    return list(rows)


async def test_a_call_has_its_attempts_and_what_was_stripped(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        await made.call("coder", "best", store=True)
        (row,) = await stored(made, 1)
        call = (await ask(made, "GET", f"/call/{row['id']}")).json
        assert [each["provider"] for each in call["attempts"]] == ["openai", "anthropic"]
        assert call["stripped"] == [{"pointer": "/store", "rule": "store"}]
        assert (call["stored"], call["has_request"]) == (True, False)
        assert (await ask(made, "GET", "/call/none")).status == 404
        assert (await ask(made, "GET", f"/call/{row['id']}/nothing")).status == 404


async def test_what_is_not_stored_yet_comes_from_the_calls_that_have_just_ended(tmp_path: Path) -> None:
    async with scene(tmp_path, more='[record]\ncontent = "off"\n') as made:
        async with Events(made, "/calls/live") as events:
            await events.next()
            await made.call("coder", "best", store=True)
            call = (await ask(made, "GET", f"/call/{made.running.records[0].id}")).json
        assert call["stored"] is False
        assert len(call["attempts"]) == 2
        assert (await ask(made, "GET", "/calls")).json == {"rows": [], "last": None, "stored": False}
        assert (await ask(made, "GET", "/runs")).json == {"runs": [], "stored": False}
        assert (await ask(made, "GET", "/spend")).json["spending"] is None
        assert (await ask(made, "GET", "/health")).json["series"] is None


async def test_the_bytes_of_each_side_are_text_and_never_a_page(tmp_path: Path) -> None:
    async with scene(tmp_path, more=FULL) as made:
        await made.call("coder", "best", store=True)
        (row,) = await stored(made, 1)
        client, sent, response = [
            await ask(made, "GET", f"/call/{row['id']}/{which}") for which in ("request", "sent", "response")
        ]
        assert client.headers["content-type"].startswith("text/plain")
        assert client.headers["x-content-type-options"] == "nosniff"
        assert client.json["store"] is True
        assert "store" not in sent.json
        assert (client.json["model"], sent.json["model"]) == ("best", "claude-opus-fast")
        assert response.body.startswith(b"data: ")


async def test_without_bodies_there_are_no_bytes(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        await made.call("coder", "gpt-5-fast")
        (row,) = await stored(made, 1)
        assert (await ask(made, "GET", f"/call/{row['id']}/request")).status == 404
        assert (await ask(made, "GET", f"/call/{row['id']}/content")).json["content"]["parts"] == []


async def test_a_run_is_listed_searched_and_exported(tmp_path: Path) -> None:
    async with scene(tmp_path, more=FULL) as made:
        await conversation(made)
        await stored(made, 4)
        (run,) = (await ask(made, "GET", "/runs?agent=coder")).json["runs"]
        assert (run["agent"], run["calls"]) == ("coder", 4)
        assert (await ask(made, "GET", "/runs?agent=nobody")).json["runs"] == []
        found = (await ask(made, "GET", f"/run/{run['id']}")).json
        assert [each["row"]["relation"] for each in found["calls"]] == ["root", "turn", "turn", "branch"]
        hits = (await ask(made, "GET", f"/run/{run['id']}/search?q=users_1")).json["found"]
        assert hits == [found["calls"][2]["row"]["id"]]
        assert (await ask(made, "GET", f"/run/{run['id']}/search?q=")).json == {"found": []}
        lines = await ask(made, "GET", f"/run/{run['id']}/export?format=jsonl")
        assert lines.headers["content-disposition"] == f'attachment; filename="{run["id"]}.jsonl"'
        assert len(lines.body.splitlines()) == 4
        for form in ("otlp", "inspect"):
            document = await ask(made, "GET", f"/run/{run['id']}/export?format={form}")
            assert json.loads(document.body)
            assert f".{form}.json" in document.headers["content-disposition"]
        assert (await ask(made, "GET", f"/run/{run['id']}/export?format=pdf")).status == 400
        assert (await ask(made, "GET", "/run/none/export")).status == 404
        assert (await ask(made, "GET", "/run/none")).status == 404


@pytest.mark.parametrize("path", ["/calls?before=x", "/health?seconds=x"])
async def test_an_argument_that_is_not_understood_is_refused(tmp_path: Path, path: str) -> None:
    async with scene(tmp_path) as made:
        assert (await ask(made, "GET", path)).status == 400
