"""`modelplex tail`."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from pathlib import Path

from modelplex.commands.tail import Follower, one_line
from modelplex.records.store.queries import recent_calls
from tests.commands.recorded import record_in
from tests.processes import WAIT_S, command, environment_in
from tests.records.store import stored
from tests.records.store.stored import record, write


def test_each_call_is_returned_once_and_late_ones_too(tmp_path: Path) -> None:
    db = stored.database(tmp_path)
    write(db, *(record(number) for number in range(10, 15)))
    follower = Follower(db, agent="")
    assert [call.id for call in follower.first(2)] == ["mpx-000d", "mpx-000e"]
    assert follower.more() == []
    write(db, record(3), record(20))  # the first began before those that were printed
    assert [call.id for call in follower.more()] == ["mpx-0003", "mpx-0014"]
    assert follower.more() == []


def test_a_call_is_one_line(tmp_path: Path) -> None:
    place = record_in(tmp_path)
    assert place
    db = stored.database(tmp_path)
    lines = {call.id: one_line(call) for call in recent_calls(db)}
    assert lines["mpx-0002"].endswith("coder p/m-1 ok 0.5s 15+3 tokens $0.25 2 attempts 1 stripped")
    assert lines["mpx-0003"].endswith("coder p/m-1 error 0.5s Policy: no.")
    assert lines["mpx-t0005"].endswith("coder git/git_status ok 0.1s")


async def test_calls_are_printed_as_they_are_written(tmp_path: Path) -> None:
    db = stored.database(tmp_path)
    write(db, record(1))
    process = await asyncio.create_subprocess_exec(
        *command("tail", "--json", "--store", str(tmp_path / "records.sqlite")),
        env=environment_in(tmp_path),
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(WAIT_S):
        assert json.loads(await process.stdout.readline())["id"] == "mpx-0001"
        write(db, record(2))
        assert json.loads(await process.stdout.readline())["id"] == "mpx-0002"
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
