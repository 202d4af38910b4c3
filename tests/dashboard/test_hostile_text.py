"""What agents, models and tool servers say is text in every view, whatever it says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from modelplex.dashboard.records import PageRecords
from modelplex.records.store.database import open_database
from tests.dashboard.browser import needs_chromium, opened
from tests.dashboard.scene import WORDS, scene
from tests.dashboard.test_browser import FULL, stored

pytestmark = [needs_chromium, pytest.mark.timeout(120)]

EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>"><svg/onload=window.hacked=1>'
HIDDEN = "safe\u202egnp.exe\u200b"
CLEAN = """() => ({
    hacked: window.hacked,
    made: document.querySelectorAll('main img, main script, main iframe, main svg[onload], main [onerror]').length,
})"""


async def test_hostile_text_is_text_in_every_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "WORDS", WORDS)
    monkeypatch.setattr("tests.dashboard.scene.WORDS", [EVIL, HIDDEN])
    (tmp_path / "words").write_text(EVIL)
    function: dict[str, Any] = {"name": "x", "description": EVIL, "parameters": {}}
    tools = [{"type": "function", "function": function}]
    more = FULL + (
        '[[mcp.servers]]\nname = "loud"\ncommand = "sh"\nargs = ["-c", '
        + json.dumps(f"printf '%s\\n' '{EVIL}' >&2; exit 3")
        + "]\n"
    )
    async with scene(tmp_path, more=more) as made, opened(made) as tab:
        await made.call("coder", "gpt-5-fast", messages=[{"role": "user", "content": EVIL}], tools=tools)
        await made.call("coder", EVIL)
        await made.call("coder", HIDDEN)
        made.start("coder", "gpt-5-slow", messages=[{"role": "user", "content": EVIL}])
        await stored(tab, 3)
        run = (await tab.page.evaluate("fetch('page/api/runs').then((answer) => answer.json())"))["runs"][0][
            "id"
        ]
        first = made.running.records[0].id
        expected = {
            "now": "gpt-5-slow",
            "calls": "onerror",
            f"calls?q={EVIL[:20]}": "onerror",
            f"call/{first}": "onerror",
            f"run/{run}": "onerror",
            "runs": "coder",
            "spend": "coder",
            "tools": "onerror",
            "health": "model_not_found",
        }
        for view, seen in expected.items():
            await tab.go(view)
            await tab.until(f"document.querySelector('main').textContent.includes({json.dumps(seen)})")
            assert await tab.page.evaluate(CLEAN) == {"hacked": None, "made": 0}, view
        await tab.go("calls")
        # Text that turns or hides other text is written out.
        await tab.sees(".vrow:has-text('safe\\\\u202egnp.exe\\\\u200b')")
        assert tab.faults == []
        assert tab.elsewhere == []


async def test_the_browser_itself_refuses_strings_as_html_and_other_hosts(tmp_path: Path) -> None:
    async with scene(tmp_path) as made, opened(made) as tab:
        refused = """(work) => { try { eval; Function; } catch {} ; try { document.body.innerHTML = 'x'; return false; } catch { return true; } }"""
        assert await tab.page.evaluate(refused)
        blocked = await tab.page.evaluate("fetch('http://127.0.0.1:9/').then(() => false, () => true)")
        assert blocked
        assert any("Content Security Policy" in fault or "Trusted" in fault for fault in tab.faults)


async def test_a_frame_of_the_page_stays_empty(tmp_path: Path) -> None:
    async with scene(tmp_path) as made, opened(made) as tab:
        await tab.page.goto("about:blank")
        await tab.page.set_content(f"<iframe src='{tab.base}/_internal/'></iframe>")
        frame = tab.page.frames[-1]
        assert await frame.query_selector("#nav a") is None


@pytest.mark.parametrize("rows", [10_000])
async def test_ten_thousand_calls_are_a_list_of_few_elements(tmp_path: Path, rows: int) -> None:
    async with scene(tmp_path) as made, opened(made) as tab:
        await made.call("coder", "gpt-5-fast")
        await stored(tab, 1)
        await asyncio.to_thread(_multiply, tmp_path / "state" / "records.sqlite", rows)
        await tab.go("calls")
        await tab.sees(".vrow:visible")
        body = tab.page.locator(".vbody")
        shown = "Number(document.querySelector('.vbody').getAttribute('aria-rowcount'))"
        while await tab.page.evaluate(shown) < rows:
            before = await tab.page.evaluate(shown)
            await body.evaluate("(node) => { node.scrollTop = node.scrollHeight; }")
            await tab.until(f"{shown} > {before}")
        assert await tab.page.locator(".vrow").count() < 100
        await body.focus()
        await tab.page.keyboard.press("End")
        await tab.sees(f".vrow.chosen[aria-rowindex='{rows}']")
        await tab.page.keyboard.press("Home")
        await tab.sees(".vrow.chosen[aria-rowindex='1']")
        assert await tab.page.evaluate("document.querySelectorAll('main *').length") < 2_000
        assert tab.faults == []


def _multiply(path: Path, rows: int) -> None:
    """Copies of the one stored call, each a second older."""
    database = open_database(path)
    columns = [str(row[1]) for row in database.query("PRAGMA table_info(calls)")]
    changed = {"id": "'copy-' || n", "started": "started - n"}
    values = ", ".join(changed.get(each, each) for each in columns)
    copy = (
        f"INSERT INTO calls ({', '.join(columns)}) WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL "
        f"SELECT n + 1 FROM numbers WHERE n < ?) SELECT {values} FROM calls, numbers WHERE id NOT LIKE 'copy-%'"
    )
    database.write([(copy, [(rows - 1,)])])
    database.close()


def test_a_store_that_cannot_be_opened_is_no_error(tmp_path: Path) -> None:
    records = PageRecords(lambda: open_database(tmp_path / "none.sqlite", read_only=True))
    assert asyncio.run(records.read(lambda db: db.place)) is None
