"""`modelplex show`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from modelplex import cli
from tests.commands.recorded import OTHER, SECOND, record_in, request, streamed

Run = Callable[..., tuple[int, str, str]]


def test_a_run_is_a_transcript_without_repetition(modelplex: Run) -> None:
    status, out, _ = modelplex("show", "run-1")
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith("run-1: 4 calls, 1 tool call, 30 tokens in")
    assert "tags: pr=12" in lines
    for said, times in (
        ("    Fix a.py", 1),
        ("    You edit code.", 1),
        ("    Done now.", 1),
        ("assistant calls read_file:", 1),
    ):
        assert lines.count(said) == times, said
    assert "(retry of mpx-0001)" in out
    assert "\x1b" not in out
    assert "    print(1)\\x1b[31m" in lines


def test_one_call_has_its_attempts_and_losses(modelplex: Run) -> None:
    _, out, _ = modelplex("show", "mpx-0002")
    lines = out.splitlines()
    assert "attempt 1: q/m-2 overloaded 0.100 s: busy \\x1b[2J" in lines
    assert "stripped: /tools/1 (web-search)" in lines
    assert "changed: drop top_k: no such parameter" in lines
    assert "run: run-1 (turn of mpx-0001)" in lines
    assert "header user-agent: agent/1" in lines
    assert "header x-api-key: (not kept)" in lines
    assert lines[-2:] == ["assistant:", "    Done now."]
    assert "error: Policy: no. (blame: policy)" in modelplex("show", "mpx-0003")[1]
    assert "it was to have 70 bytes" in modelplex("show", "mpx-0003")[1]
    assert "git/git_status" in modelplex("show", "mpx-t0005")[1]


def test_the_raw_bytes_are_those_that_were_sent(
    place: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert cli.main(["show", "mpx-0002", "--raw", "--store", place]) == 0
    assert capfdbinary.readouterr().out == request(SECOND, stream=True)
    assert cli.main(["show", "mpx-0002", "--raw", "--response", "--store", place]) == 0
    assert capfdbinary.readouterr().out == streamed("Done", " now.")
    for attempt, sent in ((1, OTHER), (2, request(SECOND, stream=True))):
        assert cli.main(["show", "mpx-0002", "--raw", "--attempt", str(attempt), "--store", place]) == 0
        assert capfdbinary.readouterr().out == sent
    assert cli.main(["show", "mpx-0002", "--raw", "--attempt", "3", "--store", place]) == 1
    assert b"attempt 3 of mpx-0002 is not stored" in capfdbinary.readouterr().err


def test_what_is_not_there_is_reported(tmp_path: Path, modelplex: Run) -> None:
    status, out, err = modelplex("show", "mpx-none\x1b")
    assert (status, out) == (1, "")
    assert "no call mpx-none\\x1b" in err
    (tmp_path / "other").mkdir()
    place = record_in(tmp_path / "other", content=False)
    assert cli.main(["show", "mpx-0002", "--raw", "--store", place]) == 1
    assert cli.main(["show", "mpx-0002", "--store", place]) == 0
    assert cli.main(["show", "run-1", "--store", place]) == 0


def test_as_json(modelplex: Run) -> None:
    run = json.loads(modelplex("show", "run-1", "--json")[1])
    assert [call["id"] for call in run["calls"]] == [
        "mpx-0001",
        "mpx-0002",
        "mpx-0003",
        "mpx-0004",
        "mpx-t0005",
    ]
    call = json.loads(modelplex("show", "mpx-0002", "--json")[1])
    assert call["detail"]["attempts"][0]["outcome"] == "overloaded"
