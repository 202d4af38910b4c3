"""The official conformance suite from its other side: its servers stand behind the gateway, which
is to be as good a client as any.

Its scenarios of OAuth are left out: the gateway asks for no token by itself, the host gives it one
(`[mcp] servers` have `headers`).
"""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from tests.mcp.installed import CONFORMANCE
from tests.peers import ROOT

pytestmark = [pytest.mark.tools, pytest.mark.timeout(120)]
PATIENCE_S = 60.0
SCENARIOS = {
    "2025-11-25": ("initialize", "tools_call", "elicitation-sep1034-client-defaults", "sse-retry"),
    "2026-07-28": (
        "tools_call",
        "request-metadata",
        "sep-2322-client-request-state",
        "http-standard-headers",
        "http-custom-headers",
        "http-invalid-tool-headers",
        "json-schema-ref-no-deref",
        "json-schema-2020-12-preservation",
    ),
}
"""All that the suite has for clients in each set of requirements, but for those of OAuth; and the
last, which came after the release and is not scored.
"""
RESULT = re.compile(r"^Passed: (\d+)/(\d+), (\d+) failed, (\d+) warnings", re.MULTILINE)
LISTED = re.compile(r"^  - (\S+)$", re.MULTILINE)


async def told(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *CONFORMANCE,
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return out.decode()


@pytest.mark.parametrize(
    ("revision", "scenario"), [(revision, one) for revision, all_ in SCENARIOS.items() for one in all_]
)
async def test_the_gateway_is_the_client_that_a_scenario_asks_for(
    revision: str, scenario: str, tmp_path: Path
) -> None:
    command = f"{sys.executable} -m tests.mcp.conformance_client"
    report = await told(
        *("client", "--command", command, "--scenario", scenario, "--spec-version", revision),
        *("--output-dir", str(tmp_path), "--verbose"),
    )
    found = RESULT.search(report)
    assert found is not None, report[-3000:]
    passed, all_, failed, warned = map(int, found.groups())
    assert (failed, warned) == (0, 0), report[-6000:]
    assert passed == all_ > 0


@pytest.mark.parametrize("revision", list(SCENARIOS))
async def test_no_scenario_of_a_client_is_left_out_but_those_of_oauth(revision: str) -> None:
    listed = await told("list", "--requirements", revision)
    _, _, rest = listed.partition("Client scenarios")
    required, _, _ = rest.partition("Run and reported")
    names = {name for name in LISTED.findall(required) if not name.startswith("auth/")}
    assert names
    assert names <= set(SCENARIOS[revision])
