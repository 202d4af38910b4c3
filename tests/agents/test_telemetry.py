"""Claude Code's own telemetry, sent from inside `modelplex run` to its gateway, which stamps and
keeps it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import defaultdict
from contextlib import closing
from typing import Any

import pytest

from modelplex.core.trace_context import span_id_of, trace_id_of
from modelplex.records.store import queries
from modelplex.records.store.database import open_database
from modelplex.telemetry.kept import FILE, KeptFilter, read_kept
from tests.agents.installed import TIMEOUT_S, platform
from tests.agents.scripted import FINAL, Play, playing
from tests.agents.test_agents import AGENTS, TASK, Place, config_for, place
from tests.peers import node

__all__ = ["place"]

pytestmark = [pytest.mark.agents, pytest.mark.timeout(90)]

RESOURCES = {"logs": "resourceLogs", "metrics": "resourceMetrics", "traces": "resourceSpans"}


def attributes(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in entries}


async def test_claude_codes_telemetry_arrives_stamped(place: Place) -> None:
    state = place.home.parent / "state"
    binaries = place.home / ".local" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "claude").symlink_to(platform("@anthropic-ai/claude-code", "claude"))
    agent = AGENTS["claude-code"]
    play = Play(agent.tools, agent.text)
    async with playing(agent.upstream, play) as upstream:
        config = place.home.parent / "config.toml"
        config.write_text(
            f'[server]\nstate_folder = "{state}"\n[otel]\nagents = "keep"\n[[agents]]\nname = "coder"\n'
            f'socket = "{place.home.parent}/coder.socket"\n' + config_for(agent.upstream, url=upstream.url)
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "modelplex", "run", "--config", str(config), "--agent", "coder"),
            *("claude", "-p", TASK, "--dangerously-skip-permissions"),
            cwd=place.work,
            env={
                "PATH": f"{binaries}:{node().parent}:/usr/local/bin:/usr/bin:/bin",
                "HOME": str(place.home),
                "LANG": "C.UTF-8",
                "TERM": "dumb",
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, errors = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        finally:
            if process.returncode is None:
                os.killpg(process.pid, 9)
                await process.wait()
    assert process.returncode == 0, (out, errors)
    assert FINAL[-1] in out.decode()
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    runs: set[str] = set()
    for item in read_kept(state / FILE, KeptFilter(agent="coder")):
        assert (item.encoding, item.sender.agent) == ("json", "coder")
        runs.add(item.sender.run)
        for entry in json.loads(item.body)[RESOURCES[item.signal]]:
            stamp = attributes(entry["resource"]["attributes"])
            assert stamp["modelplex.agent.name"] == "coder"
            assert stamp["modelplex.run.id"] == item.sender.run
            assert stamp["service.name"] == "claude-code"
            found[item.signal].append(entry)
    (run,) = runs
    assert run.startswith("run-")
    spans = {
        span["spanId"]: span
        for entry in found["traces"]
        for scope in entry["scopeSpans"]
        for span in scope["spans"]
    }
    # One tree: below the run's span its interaction, and below its requests the gateway's calls.
    assert {each["traceId"] for each in spans.values()} == {trace_id_of(run)}
    (top,) = [each for each in spans.values() if each["parentSpanId"] == span_id_of(run)]
    assert top["name"] == "claude_code.interaction"
    with closing(open_database(str(state / "records.sqlite"), read_only=True)) as database:
        traces = [
            read.detail.trace
            for call in queries.calls_of_run(database, run)
            if (read := queries.one_call(database, call.id))
        ]
    assert len(traces) >= 2
    for trace in traces:
        assert trace is not None
        assert trace.trace_id == trace_id_of(run)
        assert spans[trace.parent_id]["name"] == "claude_code.llm_request"
    names = [
        metric["name"]
        for entry in found["metrics"]
        for scope in entry["scopeMetrics"]
        for metric in scope["metrics"]
    ]
    assert "claude_code.token.usage" in names, names
    events = [
        attributes(record["attributes"]).get("event.name")
        for entry in found["logs"]
        for scope in entry["scopeLogs"]
        for record in scope["logRecords"]
    ]
    assert {"user_prompt", "api_request", "tool_result"} <= set(events), events
    assert TASK not in json.dumps(found["logs"])  # prompts are redacted unless it is told otherwise
