"""Memory that was freed between blocks of the heap goes back to the system."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from modelplex.server import heap_trim
from modelplex.server.heap_trim import HeapTrim, trim_heap
from tests.processes import WAIT_S

SCRIPT = """
from modelplex.server.heap_trim import trim_heap
from modelplex.server.process_setup import set_up

set_up()

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

before = resident()
blocks = [bytes(n) for n in range(20_000, 23_000)]
last = bytes(20_000)
del blocks
kept = resident() - before
assert kept > 30_000_000, kept
assert trim_heap()
assert resident() - before < kept / 3
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the heap of other systems is not ours to trim")
def test_the_free_memory_below_a_used_block_is_given_back() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=WAIT_S)


async def test_one_trim_follows_many_releases_and_another_while_work_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heap_trim, "DELAY_S", 0.0)
    trims = 0
    over = asyncio.Event()
    working = iter([True, False])
    loop = asyncio.get_running_loop()

    def trim() -> None:
        nonlocal trims
        trims += 1
        if trims == 2:
            loop.call_soon_threadsafe(over.set)

    heap = HeapTrim(trim, is_working=lambda: next(working))
    for _ in range(10):
        heap.soon()
    await asyncio.wait_for(over.wait(), WAIT_S)
    assert (trims, repr(heap)) == (2, "<HeapTrim idle>")
    heap.soon()
    heap.close()
    assert repr(heap) == "<HeapTrim idle>"


def test_a_system_without_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not trim_heap()
