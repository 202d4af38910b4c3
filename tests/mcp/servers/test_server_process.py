"""One process and its descendants."""

import asyncio
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.mcp.constants import Unavailable
from modelplex.mcp.servers.server_process import _Lines

from .conftest import Start, running, text_of, until


@pytest.mark.parametrize("ignore", ["", "eof", "eof,term"])
async def test_stop_ends_children_that_have_left_the_group(start: Start, ignore: str) -> None:
    scripted = start(ignore=ignore)
    pid = int(text_of(await scripted.call("pid")))
    child = int(text_of(await scripted.call("fork")))
    assert running(child)
    began = time.monotonic()
    await scripted.server.close()
    assert time.monotonic() - began < 6
    assert not running(pid)
    assert not running(child)


async def test_a_crash_leaves_no_child_of_the_server(start: Start) -> None:
    scripted = start(fork="yes")
    child = int(text_of(await scripted.call("fork")))
    with pytest.raises(Unavailable):
        await scripted.call("die")
    await until(lambda: not running(child), seconds=8)


async def test_start_and_stop_leave_no_process_and_no_descriptor(start: Start) -> None:
    scripted = start(extra={"protocol": "legacy"}, cache=True)
    await scripted.call("echo")
    await scripted.server.end_scope("")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        await scripted.call("echo")
        await scripted.server.end_scope("")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    pids = [int(line.split()[1]) for line in scripted.lines("start")]
    assert len(pids) == 21
    assert not any(running(pid) for pid in pids)


def split_lines(data: bytes, cuts: list[int], *, limit: int) -> tuple[list[bytes], list[bytes]]:
    """The lines and the cut lines, if the data comes in pieces."""

    async def split() -> tuple[list[bytes], list[bytes]]:
        lines: list[bytes] = []
        too_long: list[bytes] = []
        splitter = _Lines(lines.append, limit=limit, too_long=too_long.append)
        for start, end in pairwise([0, *sorted(cuts), len(data)]):
            splitter.data_received(data[start:end])
        return lines, too_long

    return asyncio.run(split())


OUTPUT = b"one\n\nfour five\n" + b"x" * 25 + b"\nlast\n" + b"y" * 11 + b"\nunfinished"


@given(st.lists(st.integers(0, len(OUTPUT)), max_size=8))
def test_lines_are_the_same_in_any_pieces(cuts: list[int]) -> None:
    assert split_lines(OUTPUT, cuts, limit=10) == (
        [b"one", b"", b"four five", b"last"],
        [b"x" * 10, b"y" * 10],
    )
