"""Real Claude Code and Codex when a conversation is too long for the model: the provider refuses it
in its own words, the agent compacts, and goes on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from modelplex.records.store import queries
from modelplex.records.store.database import open_database
from modelplex.records.store.queries import CallFilter
from tests.agents.installed import BASE, PROGRAMS, run
from tests.agents.scripted import FINAL, SUMMARY, LongPlay, Play, playing
from tests.agents.test_agents import AGENTS, MARKER, TASK, Place, config_for, describe, output_of, place
from tests.gateways import gateway

__all__ = ["place"]

pytestmark = [pytest.mark.agents, pytest.mark.timeout(180)]


NO_LONG_CONTEXT = {
    "type": "error",
    "error": {
        "type": "rate_limit_error",
        "message": "Usage credits are required for long context requests.",
    },
}
"""Of a plan without the 1M context: https://github.com/anthropics/claude-code/issues/61808"""


async def compact(
    name: str, place: Place, *, again: tuple[str, ...] = (), plan_without_long_context: bool = False
) -> None:
    """The agent does its task, is refused, compacts and goes on: with `again` when it is started
    with these words instead of the task. The record says where the conversation was shortened.
    """
    agent = AGENTS[name]
    play = LongPlay(agent.tools, refusal=(429, NO_LONG_CONTEXT) if plan_without_long_context else None)
    dialect = "anthropic" if plan_without_long_context else agent.upstream
    store = place.home.parent / "records.sqlite"
    async with playing(dialect, play) as upstream:
        config = config_for(dialect, url=upstream.url) + f'[record]\nstore = "{store}"\n'
        async with gateway(config, folder=place.home.parent) as gw:
            command, environ = agent.start(place)
            at: dict[str, Any] = {
                "socket": gw.socket,
                "home": place.home,
                "cwd": place.work,
                "environ": environ,
            }
            done = await run(command, **at)
            if again:
                assert play.has_refused, describe(done, play, gw.records)
                assert (done.status, play.summaries) == (1, 0), describe(done, play, gw.records)
                done = await run([*command[:-1], *again], **at)
            assert done.status == 0, describe(done, play, gw.records)
            assert (place.work / MARKER).read_text() == "it ran\n" * 2
            assert play.summaries == 1, describe(done, play, gw.records)
            assert FINAL[-1] in output_of(done), describe(done, play, gw.records)
            assert SUMMARY in json.dumps(upstream.seen[-1].json), describe(done, play, gw.records)
    with closing(open_database(store, read_only=True)) as database:
        calls = queries.recent_calls(database, CallFilter(kind="model"))[::-1]
    shown = [(each.run, each.relation, each.messages, each.outcome) for each in calls if each.messages]
    assert len({each.run for each in calls}) == 1, shown
    relations = [relation for _, relation, _, _ in shown]
    assert relations.count("compaction") == 1, shown
    assert relations.index("turn") < relations.index("compaction"), shown


async def test_claude_code_compacts_what_is_too_long_and_goes_on(place: Place) -> None:
    await compact("claude-code", place)


async def test_claude_code_compacts_where_the_plan_has_no_long_context(place: Place) -> None:
    await compact("claude-code", place, plan_without_long_context=True)


async def test_codex_compacts_what_was_too_long_when_it_resumes(place: Place) -> None:
    """It ends the turn, and compacts before the next one."""
    await compact("codex", place, again=("resume", "--last", "Go on."))


RESUMES: dict[str, Callable[[list[str]], list[str]]] = {
    "claude-code": lambda command: [*command, "--continue"],
    "codex": lambda command: [*command[:-1], "resume", "--last", TASK],
}


@pytest.mark.parametrize("name", RESUMES)
async def test_an_agent_resumes_a_session(name: str, place: Place) -> None:
    """The second start sends what was said and done in the first."""
    agent = AGENTS[name]
    play = Play(agent.tools)
    async with playing(agent.upstream, play) as upstream:
        config = config_for(agent.upstream, url=upstream.url)
        async with gateway(config, folder=place.home.parent) as gw:
            command, environ = agent.start(place)
            facts = ""
            for words in (command, RESUMES[name](command)):
                done = await run(words, socket=gw.socket, home=place.home, cwd=place.work, environ=environ)
                facts = describe(done, play, gw.records)
                assert done.status == 0, facts
                assert FINAL[-1] in output_of(done), facts
            assert (place.work / MARKER).read_text() == "it ran\n" * 4
            assert (play.answers, len(play.results)) == (2, 4), facts
            assert FINAL[-1] in json.dumps(upstream.seen[-1].json, ensure_ascii=False), facts


HOST_TOOLS = f"{BASE}/mcp/v1/servers/marker"


def with_claude(place: Place) -> tuple[list[str], dict[str, str]]:
    command, environ = AGENTS["claude-code"].start(place)
    servers = {"mcpServers": {"host": {"type": "http", "url": HOST_TOOLS}}}
    given = ["--mcp-config", json.dumps(servers), "--allowedTools", "mcp__host__write_marker"]
    # Otherwise the tool is deferred until the model searches for it.
    return [*command, *given], {**environ, "ENABLE_TOOL_SEARCH": "false"}


def with_codex(place: Place) -> tuple[list[str], dict[str, str]]:
    command, environ = AGENTS["codex"].start(place)
    with (place.home / ".codex" / "config.toml").open("a") as file:
        file.write(f'\n[mcp_servers.host]\nurl = "{HOST_TOOLS}"\n')
    return command, dict(environ)


@pytest.mark.parametrize(("name", "start"), [("claude-code", with_claude), ("codex", with_codex)])
async def test_an_agent_calls_a_tool_of_the_host(
    name: str, start: Callable[[Place], tuple[list[str], dict[str, str]]], place: Place
) -> None:
    agent = AGENTS[name]
    play = Play({"mcp__host__write_marker": {"text": "it ran\n"}})
    marker = place.home.parent / "host.txt"
    async with playing(agent.upstream, play) as upstream:
        config = (
            config_for(agent.upstream, url=upstream.url)
            + f"""
[mcp]
enabled = true

[[mcp.servers]]
name = "marker"
command = "{sys.executable}"
args = ["{PROGRAMS / "marker_server.py"}", "{marker}"]
"""
        )
        async with gateway(config, folder=place.home.parent) as gw:
            command, environ = start(place)
            done = await run(command, socket=gw.socket, home=place.home, cwd=place.work, environ=environ)
            facts = describe(done, play, gw.records)
            assert done.status == 0, facts
            assert marker.exists(), facts
            assert marker.read_text() == "it ran\n" * 2, facts
            assert FINAL[-1] in output_of(done), facts
            assert all("written on the host" in each for each in play.results), facts
