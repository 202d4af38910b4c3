"""The record of a real session: an unmodified Claude Code in 200 turns, each of which reads a piece
of a project, and one of which starts a subagent. The provider is scripted.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from modelplex.records.store import queries
from modelplex.records.store.database import open_database
from tests.agents.installed import run
from tests.agents.scripted import ASIDE, FINAL, Play, playing
from tests.agents.test_agents import AGENTS, TASK, Place, config_for, output_of, place
from tests.gateways import gateway
from tests.peers import ROOT

__all__ = ["place"]

pytestmark = [pytest.mark.agents, pytest.mark.timeout(600)]

TURNS = 200
SUBAGENT = 100
"""The turn that starts one."""
ERRAND = "Look into the file."
LINES = 40
TIMEOUT_S = 570.0


@dataclass
class Session(Play):
    """The same tools turn after turn, with other arguments."""

    pieces: tuple[str, ...] = ()

    def turn(self, *, offered: list[str], results: list[str], last_is_result: bool) -> tuple[str, Any]:
        self.offered.append(offered)
        if "Bash" not in offered:
            return "text", (ASIDE,)
        first = str(self.request["messages"][0])
        number = sum(message["role"] == "assistant" for message in self.request["messages"]) + 1
        if TASK not in first:
            return (
                ("text", FINAL) if results else ("calls", ("Bash", [{"command": "true", "description": "w"}]))
            )
        if number >= TURNS:
            self.answers += 1
            return "text", FINAL
        agent = next((name for name in ("Task", "Agent") if name in offered), None)
        if number == SUBAGENT and agent is not None:
            arguments = {"description": "An errand", "prompt": ERRAND, "subagent_type": "general-purpose"}
            return "calls", (agent, [arguments])
        return "calls", (
            "Bash",
            [{"command": self.pieces[number % len(self.pieces)], "description": "Reads"}],
        )


def pieces() -> tuple[str, ...]:
    """Commands that each print other lines."""
    found: list[str] = []
    for file in sorted((ROOT / "src" / "modelplex").rglob("*.py")):
        count = len(file.read_text().splitlines())
        name = file.relative_to(ROOT / "src")
        found += [f"sed -n {at},{at + LINES}p {name}" for at in range(1, count, LINES)]
    return tuple(found[:: max(1, len(found) // TURNS)])


async def test_a_session_of_200_turns_is_20_times_smaller_than_its_bodies(place: Place) -> None:
    shutil.copytree(ROOT / "src", place.work, dirs_exist_ok=True)
    store = place.home.parent / "records.sqlite"
    play = Session({}, pieces=pieces())
    async with playing("anthropic", play) as upstream:
        config = config_for("anthropic", url=upstream.url)
        config += f'[record]\nstore = "{store}"\ncontent = "full"\n'
        async with gateway(config, folder=place.home.parent) as gw:
            command, environ = AGENTS["claude-code"].start(place)
            allowed = command.index("--allowedTools") + 1
            command[allowed] = "Bash,Task,Agent"
            done = await run(
                command,
                socket=gw.socket,
                home=place.home,
                cwd=place.work,
                environ=environ,
                timeout_s=TIMEOUT_S,
            )
            assert done.status == 0, done
            assert FINAL[-1] in output_of(done)
            await gw.record()
            records = [record for record in gw.records if record.request_body]
    database = open_database(store, read_only=True)
    bodies = sum(len(each.request_body or b"") + len(each.response_body or b"") for each in records)
    size = database.size()
    relations = Counter(each.relation for each in queries.recent_calls(database, limit=1000))
    assert len(records) >= TURNS
    assert bodies >= 20 * size
    assert relations["turn"] >= TURNS - 2
    assert relations["subagent"] >= 1, relations
    for each in records[:: TURNS // 8]:
        assert queries.request_body(database, each.id) == each.request_body
        assert queries.sent_body(database, each.id, 1) == (each.attempts[0].sent or each.request_body)
    database.close()
