"""Lists and results in the official SDKs."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from typing import Final

import pytest

from modelplex.mcp.constants import Era, Json
from modelplex.mcp.result_shapes import repair_result
from modelplex.mcp.shapes import Kind, Malformed
from tests.mcp.definitions import broken, broken_answers, merged_with
from tests.mcp.installed import MODULES, PEERS, python
from tests.peers import node

METHODS: Final[dict[Kind, str]] = {
    "tools": "tools/list",
    "prompts": "prompts/list",
    "resources": "resources/list",
    "resourceTemplates": "resources/templates/list",
}


CACHE: Final[Json] = {"ttlMs": 0, "cacheScope": "private"}


NODE_MODES: Final[dict[str, Era]] = {"1.x": "legacy", "2.x": "legacy", "2026-07-28": "modern"}


REVISIONS: Final[dict[str, Era]] = {
    "2024-11-05": "legacy",
    "2025-03-26": "legacy",
    "2025-06-18": "legacy",
    "2025-11-25": "legacy",
    "2026-07-28": "modern",
}


def refused(command: list[str], modes: dict[str, Era]) -> tuple[list[str], list[str]]:
    """What a peer refuses of all that is listed and answered, and of all that servers said; by
    revision and fault.
    """
    lines: list[str] = []
    whats: list[str] = []
    for what, method, given in broken_answers():
        for mode, era in modes.items():
            more = {"resultType": "complete"} if era == "modern" else {}
            if era == "modern" and method == "resources/read":
                more |= CACHE
            whats.append(f"theirs {mode} {what}")
            lines.append(json.dumps([mode, method, {**given, **more}]))
            with suppress(Malformed):
                ours = repair_result(method, given, era=era)
                whats.append(f"ours {mode} {what}")
                lines.append(json.dumps([mode, method, {**ours, **more}]))
    for kind, method in METHODS.items():
        for what, entry in broken(kind):
            merged = merged_with(kind, entry)
            for mode, era in modes.items():
                more = {"resultType": "complete"} | CACHE if era == "modern" else {}
                for said, page in (("ours", merged.page(kind, era=era)), ("theirs", {kind: [entry]})):
                    whats.append(f"{said} {mode} {kind} {what}")
                    lines.append(json.dumps([mode, method, {**page, **more}]))
    done = subprocess.run(
        command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=True, timeout=240
    )
    answers = done.stdout.splitlines()
    assert len(answers) == len(lines)
    faults = [f"{what}: {answer}" for what, answer in zip(whats, answers, strict=True) if answer != "ok"]
    return [fault for fault in faults if fault.startswith("ours")], [
        fault for fault in faults if fault.startswith("theirs")
    ]


@pytest.mark.tools
@pytest.mark.timeout(300)
def test_the_typescript_sdks_read_every_list() -> None:
    ours, theirs = refused([str(node()), str(PEERS / "lists.mjs"), f"{MODULES}/"], NODE_MODES)
    assert ours == []
    assert len(theirs) > 1_000  # or nothing was tried


@pytest.mark.tools
@pytest.mark.timeout(300)
def test_the_python_sdk_reads_every_list() -> None:
    ours, theirs = refused([python(), str(PEERS / "lists.py")], REVISIONS)
    assert ours == []
    assert len(theirs) > 1_000
