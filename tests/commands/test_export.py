"""`modelplex export` as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.commands.recorded import OTHER, SECOND

Run = Callable[..., tuple[int, str, str]]


def test_each_call_is_a_line_with_its_bodies(modelplex: Run) -> None:
    status, out, _ = modelplex("export", "run-1")
    calls = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [each["call"]["id"] for each in calls] == [
        "mpx-0001",
        "mpx-0002",
        "mpx-0003",
        "mpx-0004",
        "mpx-t0005",
    ]
    assert calls[1]["request"]["messages"] == SECOND
    assert calls[1]["response"].startswith("data: ")
    assert calls[1]["headers"] == [["user-agent", "agent/1"], ["x-api-key", "(not kept)"]]
    assert calls[1]["sent"] == [json.loads(OTHER), None]
    assert [each["sent"] for each in calls[1]["detail"]["attempts"]] == ["stored", "same"]
    tokens = {"choices": [{"index": 0, "token_ids": [7]}]}
    assert [each["tokens"] for each in calls] == [None, tokens, None, None, None]
    assert calls[2]["request"] == "no json"
    assert calls[2]["response"] is None
    assert calls[4]["request"] == {"a": 1}


def test_a_run_that_is_not_there(modelplex: Run) -> None:
    status, out, err = modelplex("export", "run-2")
    assert (status, out) == (1, "")
    assert "run-2" in err
