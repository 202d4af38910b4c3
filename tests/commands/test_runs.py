"""`modelplex runs`."""

from __future__ import annotations

import json
from collections.abc import Callable


def test_a_run_is_a_row(modelplex: Callable[..., tuple[int, str, str]]) -> None:
    status, out, _ = modelplex("runs")
    head, row = out.splitlines()
    assert status == 0
    assert head.split()[:3] == ["run", "started", "agent"]
    cells = row.split("  ")
    assert cells[0] == "run-1"
    for part in ("coder", "$0.5000", "python agent.py; https://example.com/project.git@main; pr=12"):
        assert part.replace("$0.5000", "$0.5") in row


def test_runs_are_selected(modelplex: Callable[..., tuple[int, str, str]]) -> None:
    assert modelplex("runs", "--agent", "other")[1].count("\n") == 1
    assert "run-1" in modelplex("runs", "--since", "2026-11-30")[1]
    assert "run-1" not in modelplex("runs", "--since", "2026-12-30")[1]
    status, _, err = modelplex("runs", "--since", "soon")
    assert status == 2
    assert "soon" in err


def test_as_json(modelplex: Callable[..., tuple[int, str, str]]) -> None:
    (run,) = json.loads(modelplex("runs", "--json")[1])
    assert (run["id"], run["calls"], run["tool_calls"], run["refused"], run["failed"]) == (
        "run-1",
        4,
        1,
        1,
        1,
    )
    assert run["tags"] == {"pr": "12"}
