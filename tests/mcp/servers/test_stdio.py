"""Servers over stdio."""

import os
from pathlib import Path

import pytest

from modelplex.mcp.constants import Unavailable

from .conftest import Start, text_of


async def test_lines_that_are_no_messages_are_logged_and_skipped(start: Start) -> None:
    scripted = start(start="rubbish")
    await scripted.call("rubbish")
    received = [event.text for event in scripted.events if event.kind == "stdout"]
    assert "Welcome to the server!" in received
    assert "not json" in received


async def test_invalid_utf_8_is_replaced_and_its_call_gets_the_response(start: Start) -> None:
    assert text_of(await start().call("undecodable")) == "caf\ufffd.txt"


async def test_output_without_a_line_end_stops_the_server_and_memory_stays_bounded(start: Start) -> None:
    scripted = start(limits={"max_result": 100_000})
    await scripted.call("echo")
    before = _resident()
    with pytest.raises(Unavailable, match="without the end of a line") as lost:
        await scripted.call("flood", {"megabytes": 100})
    assert lost.value.reason == "lost"
    assert _resident() - before < 20_000_000
    await scripted.call("echo")


async def test_output_without_a_line_end_from_the_start_is_a_failed_start(start: Start) -> None:
    scripted = start(start="flood", limits={"max_result": 100_000})
    with pytest.raises(Unavailable) as failed:
        await scripted.call("echo")
    assert failed.value.reason == "start_failed"


async def test_a_result_above_the_limit_becomes_an_error_with_its_size(start: Start) -> None:
    scripted = start(limits={"max_result": 10_000})
    reply = await scripted.call("big", {"size": 20_000})
    assert reply.result is not None
    assert reply.result["isError"] is True
    assert "larger than the limit of 10000 bytes" in text_of(reply)
    assert len(text_of(await scripted.call("big", {"size": 5_000}))) == 5_000


async def test_a_result_above_the_limit_is_passed_on_if_it_is_cut_later(start: Start) -> None:
    scripted = start(limits={"max_result": 10_000, "oversized": "cut"})
    assert len(text_of(await scripted.call("big", {"size": 20_000}))) == 20_000
    assert "larger than the limit" not in text_of(await scripted.call("big", {"size": 39_000}))


async def test_a_closed_output_is_a_lost_server(start: Start) -> None:
    scripted = start()
    with pytest.raises(Unavailable, match="closed its output"):
        await scripted.call("close")


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
