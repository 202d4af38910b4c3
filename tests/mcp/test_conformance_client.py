"""The official conformance suite from its other side: its servers stand behind the gateway, which
is to be as good a client as any.

In its scenarios of OAuth the owner of the host signs in when a call says so.
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
AUTH = tuple(
    f"auth/{name}"
    for name in (
        "metadata-default metadata-var1 metadata-var2 metadata-var3 basic-cimd scope-from-www-authenticate"
        " scope-from-scopes-supported scope-omitted-when-undefined scope-step-up scope-retry-limit"
        " token-endpoint-auth-basic token-endpoint-auth-post token-endpoint-auth-none pre-registration"
    ).split()
)
"""Of both sets of requirements."""
AUTH_OF_2026 = tuple(
    f"auth/{name}"
    for name in (
        "resource-mismatch offline-access-scope offline-access-not-supported authorization-server-migration"
        " iss-supported iss-not-advertised iss-supported-missing iss-wrong-issuer iss-unexpected"
        " iss-normalized metadata-issuer-mismatch"
    ).split()
)
EXTENSIONS = ("auth/client-credentials-jwt", "auth/client-credentials-basic", "auth/wif-jwt-bearer")
"""Of no revision, and not scored. Left out: DPoP, and the enterprise-managed authorization."""
SCENARIOS = {
    "2025-03-26": ("auth/2025-03-26-oauth-metadata-backcompat", "auth/2025-03-26-oauth-endpoint-fallback"),
    "2025-11-25": ("initialize", "tools_call", "elicitation-sep1034-client-defaults", "sse-retry", *AUTH),
    "2026-07-28": (
        "tools_call",
        "request-metadata",
        "sep-2322-client-request-state",
        "http-standard-headers",
        "http-custom-headers",
        "http-invalid-tool-headers",
        "json-schema-ref-no-deref",
        "json-schema-2020-12-preservation",
        *AUTH,
        *AUTH_OF_2026,
    ),
}
"""All that the suite has for clients in each set of requirements; the preservation of schemas,
which came after the release and is not scored; and the sign-ins of the first revision with one.
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
    ("revision", "scenario"),
    [
        *((revision, one) for revision, all_ in SCENARIOS.items() for one in all_),
        *((None, one) for one in EXTENSIONS),
    ],
)
async def test_the_gateway_is_the_client_that_a_scenario_asks_for(
    revision: str | None, scenario: str, tmp_path: Path
) -> None:
    module = "conformance_auth_client" if scenario.startswith("auth/") else "conformance_client"
    command = f"{sys.executable} -m tests.mcp.{module}"
    report = await told(
        *("client", "--command", command, "--scenario", scenario),
        *(("--spec-version", revision) if revision is not None else ()),
        *("--output-dir", str(tmp_path), "--verbose"),
    )
    found = RESULT.search(report)
    assert found is not None, report[-3000:]
    passed, all_, failed, warned = map(int, found.groups())
    assert (failed, warned) == (0, 0), report[-6000:]
    assert passed == all_ > 0


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_no_scenario_of_a_client_is_left_out(revision: str) -> None:
    listed = await told("list", "--requirements", revision)
    _, _, rest = listed.partition("Client scenarios")
    required, _, _ = rest.partition("Run and reported")
    names = set(LISTED.findall(required))
    assert names
    assert names <= set(SCENARIOS[revision])
