"""The official conformance suite, through the gateway, in front of a server that passes it alone:
both sets of requirements, over stdio and over HTTP.

The suite is a program of the protocol's own authors. It is run without a list of expected failures,
against one server un-prefixed and against the whole.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.gateways import gateway
from tests.mcp.installed import CONFORMANCE, EVERYTHING, configured

pytestmark = [pytest.mark.tools, pytest.mark.timeout(180)]
REVISIONS = ("2025-11-25", "2026-07-28")
PATIENCE_S = 120.0
SCORE = re.compile(r"^[✓✗] (\S+): (\d+) passed, (\d+) failed", re.MULTILINE)
UNSCORED = re.compile(r"^  [✓✗] (\S+) \(", re.MULTILINE)
EVERYTHING_ALLOWED = {"allow": '["sampling", "elicitation", "roots"]'}
"""The suite asks for all that a server may ask of a client, and it changes its tools while it runs.
"""


class Score(NamedTuple):
    passed: int
    failed: dict[str, int]
    """How many checks of each scenario that counts."""


def scored(report: str) -> Score:
    _, _, summary = report.partition("=== SUMMARY ===")
    assert summary, report[-2000:]
    beside = set(UNSCORED.findall(summary))
    rows = [(name, int(passed), int(failed)) for name, passed, failed in SCORE.findall(summary)]
    counted = [row for row in rows if row[0] not in beside]
    assert counted
    return Score(sum(row[1] for row in counted), {row[0]: row[2] for row in counted if row[2]})


async def suite(url: str, revision: str, *, folder: Path) -> tuple[Score, str]:
    """The suite's score of the server at `url`, and all that it said."""
    process = await asyncio.create_subprocess_exec(
        *CONFORMANCE,
        *("server", "--url", url, "--requirements", revision),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    report = out.decode()
    return scored(report), report


@asynccontextmanager
async def over_http() -> AsyncGenerator[str]:
    """The everything server on a port of its own, without the gateway."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *EVERYTHING, "http", str(port), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield f"http://localhost:{port}/mcp"
    finally:
        process.kill()
        await process.wait()


def config(server: str, *more: str) -> str:
    return "\n".join(["[mcp]", "enabled = true", 'pinning = "off"', *more, server])


def in_words(report: str, names: Sequence[str]) -> str:
    """What the suite says of the scenarios that failed."""
    parts = report.split("=== Running scenario: ")
    found = [part[:3000] for part in parts if part.split(" ", 1)[0] in names]
    return "\n".join(found) + report[report.find("=== SUMMARY") :]


@pytest.mark.parametrize("revision", REVISIONS)
async def test_the_server_alone_passes(revision: str, tmp_path: Path) -> None:
    """Else a pass through the gateway would say nothing."""
    async with over_http() as url:
        score, report = await suite(url, revision, folder=tmp_path)
    assert not score.failed, in_words(report, list(score.failed))


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_server_over_stdio_passes_behind_the_gateway(revision: str, tmp_path: Path) -> None:
    server = configured("conf", [*EVERYTHING, "stdio"], **EVERYTHING_ALLOWED)
    async with gateway(config(server), folder=tmp_path) as running:
        base = running.base.replace("127.0.0.1", "localhost")
        score, report = await suite(f"{base}/mcp/v1/servers/conf", revision, folder=tmp_path)
    assert not score.failed, in_words(report, list(score.failed))


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_server_over_http_passes_behind_the_gateway(revision: str, tmp_path: Path) -> None:
    async with over_http() as url:
        server = f'[[mcp.servers]]\nname = "conf"\nurl = "{url}"\nallow = {EVERYTHING_ALLOWED["allow"]}\n'
        async with gateway(config(server), folder=tmp_path) as running:
            base = running.base.replace("127.0.0.1", "localhost")
            score, report = await suite(f"{base}/mcp/v1/servers/conf", revision, folder=tmp_path)
    assert not score.failed, in_words(report, list(score.failed))


@pytest.mark.parametrize("revision", REVISIONS)
async def test_the_suite_passes_with_one_server_without_a_prefix(revision: str, tmp_path: Path) -> None:
    server = configured("conf", [*EVERYTHING, "stdio"], **EVERYTHING_ALLOWED)
    async with gateway(config(server, "prefix = false"), folder=tmp_path) as running:
        base = running.base.replace("127.0.0.1", "localhost")
        score, report = await suite(f"{base}/mcp/v1", revision, folder=tmp_path)
    assert not score.failed, in_words(report, list(score.failed))
