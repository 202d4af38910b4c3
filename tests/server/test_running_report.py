"""The log line about calls in flight."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

from modelplex.server.running_report import RunningCall, report_running, running_line
from tests.dashboard.scene import scene
from tests.gateways import WAIT_S


def test_calls_that_have_run_long_enough_are_listed_the_longest_first() -> None:
    calls = [
        RunningCall("gpt", "openai", "coder", 16.4, 12_345),
        RunningCall("claude", "anthropic", "", 42.0, 0),
        RunningCall("new", "", "", 3.0, 0),
    ]
    assert running_line(calls, least=15.0) == {
        "calls": 2,
        "longest": ["claude → anthropic 42s no output yet", "gpt → openai of coder 16s 12.3 KB"],
    }
    assert running_line(calls[2:], least=15.0) == {}


def test_of_many_calls_the_longest_are_named() -> None:
    line: dict[str, Any] = running_line(
        [RunningCall(f"m{number}", "", "", number, 1) for number in range(20)], least=1.0
    )
    assert line["calls"] == 19
    assert [text.split()[0] for text in line["longest"]] == ["m19", "m18", "m17", "m16", "m15"]


class Events:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.came = asyncio.Event()

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append({"event": event, **fields})
        self.came.set()

    debug = warning = error = info


async def test_a_silent_provider_is_reported_while_it_is_silent(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        log = Events()
        answer = asyncio.create_task(made.call("coder", "gpt-5-silent"))
        reports = asyncio.create_task(report_running(made.running.process.app, log, every=0.02))
        async with asyncio.timeout(WAIT_S):
            while not log.lines or "openai" not in log.lines[-1]["longest"][0]:
                log.came.clear()
                await log.came.wait()
        for task in (reports, answer):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    assert log.lines[-1]["event"] == "in flight"
    assert log.lines[-1]["longest"][0].startswith("gpt-5-silent → openai of coder ")
    assert log.lines[-1]["longest"][0].endswith(" no output yet")
