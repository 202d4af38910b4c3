"""A picture of each view, of a gateway at work.

They are written to .cache/screenshots, which CI keeps. `make pictures` writes those of the
documents.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from modelplex.dashboard import live
from modelplex.records.store.database import open_database
from tests.dashboard.browser import Opened, needs_chromium, opened
from tests.dashboard.pictures import with_palette
from tests.dashboard.scene import Scene, scene
from tests.dashboard.test_browser import FULL, TOOL, stored

pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("MODELPLEX_PICTURES", ROOT / ".cache" / "screenshots"))
LARGEST = 100_000
"""Bytes of a picture, of which the documents have one for each view."""
VIEWS = ("now", "calls", "request", "run", "spend", "tools", "health")

SQL = """-- The migration that fails
ALTER TABLE users RENAME COLUMN mail TO email;
CREATE UNIQUE INDEX users_by_email ON users (email);
"""


async def work(made: Scene) -> None:
    """Two agents that work on a repository, one of which branches."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You are a careful software engineer. Read before you write. " * 12},
        {"role": "user", "content": "The build fails on main since this morning. Find out why, and fix it."},
    ]
    for turn, path in enumerate(("build.log", "migrations/0007.sql", "migrations/0008.sql", "app/models.py")):
        await made.call("coder", "gpt-5.2-mini", messages=messages, tools=[TOOL], store=True)
        call = {"name": "read_file", "arguments": json.dumps({"path": path})}
        one = {"id": f"call_{turn}", "type": "function", "function": call}
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [one]},
            {"role": "tool", "tool_call_id": f"call_{turn}", "content": SQL},
        ]
    await made.call("coder", "claude-sonnet-4-6", messages=messages, tools=[TOOL], store=True)
    other = [*messages[:4], {"role": "user", "content": "Look at the release branch instead."}]
    await made.call("coder", "default", messages=other, tools=[TOOL], metadata={"ticket": "1207"})
    review = [{"role": "user", "content": "Review the change of migrations/0008.sql."}]
    for model in ("claude-sonnet-4-6", "qwen3-8b", "no-such-model"):
        await made.call("reviewer", model, messages=review)
        await made.call("researcher", model, messages=review, store=True)


async def traffic(made: Scene) -> None:
    """Short calls, until it is cancelled."""
    while True:
        await made.call("coder", "gpt-5.2-mini")
        await made.call("reviewer", "claude-sonnet-4-6")
        await asyncio.sleep(0.15)


def history(path: Path) -> None:
    """The calls of a busy week, from those that are stored."""
    database = open_database(path)
    columns = [str(row[1]) for row in database.query("PRAGMA table_info(calls)")]
    shift = "((n * 7919) % 604800 + (n % 7) * 40)"
    changed = {
        "id": "'past-' || n || '-' || id",
        "started": f"started - {shift}",
        "day": f"date(started - {shift}, 'unixepoch')",
        "run": "'past-' || run",
        "cost": "cost * (3 + n % 11)",
        "tokens_in": "tokens_in * (1 + n % 9)",
        "tokens_out": "tokens_out * (1 + n % 13)",
    }
    values = ", ".join(changed.get(each, each) for each in columns)
    numbers = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)"
    copy = f"INSERT INTO calls ({', '.join(columns)}) {numbers} SELECT {values} FROM calls, numbers WHERE id NOT LIKE 'past-%'"
    slow = (
        "UPDATE calls SET seconds = 1.2 + (rowid * 37 % 70) / 10.0 + (CASE rowid % 23 WHEN 0 THEN 14 ELSE 0 END), "
        "first_output = 0.25 + (rowid * 13 % 30) / 20.0 + (CASE rowid % 31 WHEN 0 THEN 3 ELSE 0 END) WHERE kind = 'model'"
    )
    spread = (
        "UPDATE calls SET started = started + (rowid - (SELECT MIN(rowid) FROM calls)) * 6.5 - 150 WHERE ?"
    )
    database.write([(slow, [()]), (spread, [(1,)]), (copy, [(600,)]), (slow, [()])])
    database.close()


async def picture(tab: Opened, name: str) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    png = await with_palette(tab.page.context, await tab.page.screenshot())
    (FOLDER / f"{name}.png").write_bytes(png)
    assert len(png) < LARGEST, name


@needs_chromium
async def test_each_view_has_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "STALLED_S", 2.0)
    async with scene(tmp_path, more=FULL) as made, opened(made) as tab:
        # A tool that changes after it was seen for the first time.
        await tab.go("tools")
        await tab.sees("details:has-text('read_file')")
    (tmp_path / "words").write_text(
        "Read a file of the repository, and send its content to the search index."
    )
    for cached in (tmp_path / "state").rglob("*.json"):
        if "seen" not in cached.name:
            cached.unlink()
    async with scene(tmp_path, more=FULL) as made, opened(made) as tab:
        await work(made)
        await stored(tab, 12)
        await asyncio.to_thread(history, tmp_path / "state" / "records.sqlite")
        first = made.running.records
        for agent, model in (
            ("coder", "claude-opus-4-6"),
            ("reviewer", "gpt-5.2"),
            ("researcher", "qwen3-32b"),
            ("coder", "claude-haiku-4-6"),
            ("researcher", "gpt-5.2-pro"),
        ):
            made.start(agent, model)
        busy = asyncio.create_task(traffic(made))
        await tab.go("now")
        await tab.sees("td .badge:has-text('stalled')")
        await tab.until(
            "document.querySelectorAll('.tile .spark polyline').length > 1 && "
            "document.querySelector('.tile .spark polyline').points.length > 8"
        )
        await picture(tab, "now")
        busy.cancel()
        made.running.process.app.gateway.circuits.keep_only(frozenset())
        await tab.go("calls")
        await tab.sees(".vrow:visible")
        await made.call("coder", "default", metadata={"ticket": "1207"}, store=True)
        await tab.sees(".vrow:has-text('default')")
        await tab.page.click(".vrow:has-text('default')")
        await tab.sees("aside .waterfall")
        await picture(tab, "calls")
        await tab.go(f"call/{first[3].id}")
        await tab.sees(".part.new.tool")
        await tab.page.evaluate("document.querySelector('.part.new').scrollIntoView({block: 'center'})")
        await picture(tab, "request")
        found = await tab.page.evaluate("fetch('page/api/runs?agent=coder').then((answer) => answer.json())")
        run = max(found["runs"], key=lambda each: each["calls"])
        await tab.go(f"run/{run['id']}?call={first[3].id}")
        await tab.sees(".vrow.chosen")
        await tab.sees("aside .part.response")
        await picture(tab, "run")
        await tab.go("spend")
        await tab.sees("svg.chart rect.bar")
        await picture(tab, "spend")
        await tab.go("tools")
        await tab.sees("article.card")
        await picture(tab, "tools")
        await tab.go("health?range=24 h")
        await tab.sees("figure:has-text('Latency') path.line")
        await picture(tab, "health")
        assert tab.faults == []
    assert {file.stem for file in FOLDER.glob("*.png")} >= set(VIEWS)


@needs_chromium
async def test_the_dark_theme_and_a_phone_have_pictures_too(tmp_path: Path) -> None:
    async with scene(tmp_path, more=FULL) as made:
        await work(made)
        made.start("coder", "claude-opus-4-6")
        made.start("researcher", "qwen3-32b")
        async with opened(made, scheme="dark") as tab:
            await tab.sees("tr:has-text('claude-opus-4-6')")
            await picture(tab, "now-dark")
        async with opened(made, width=390, height=760) as tab:
            await tab.sees("tr:has-text('claude-opus-4-6')")
            await picture(tab, "now-phone")


def test_the_documents_show_each_view() -> None:
    page = (ROOT / "docs" / "how-to" / "page.md").read_text()
    for name in (*VIEWS, "now-dark", "now-phone"):
        assert f"(../images/{name}.png)" in page
        assert 0 < (ROOT / "docs" / "images" / f"{name}.png").stat().st_size < LARGEST
    first, _, rest = (ROOT / "README.md").read_text().partition("docs/images/now.png)")
    assert first.count("```bash") == 1, "the picture stands under the first command"
    assert rest
