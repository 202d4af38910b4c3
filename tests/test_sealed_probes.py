"""The probes of all official SDKs through a whole gateway: every place that reaches a provider is
on the reviewed list.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from zlib import crc32

import pytest
import pytest_asyncio

from tests.policy.probing import MARK, Probe
from tests.policy.test_probes import FORMS as ASKED
from tests.policy.test_probes import reviewed
from tests.sealed import DIALECTS, Sealed, sealed_world, told

pytestmark = pytest.mark.asyncio(loop_scope="module")
NATIVE = {
    "chat": "chat",
    "responses": "responses",
    "messages": "messages",
    "messages, beta": "messages",
    "gemini": "gemini",
    "gemini in snake_case": "gemini",
    "ollama": "ollama",
}
"""Requests of the SDKs, and the form of the gateway's that they are sent in."""
OF_EACH = 200
"""Probes of each form that are sent to its own dialect; every fourth of them goes to another one
too. The judge alone is asked about all of them in `policy/test_probes.py`.
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def everywhere(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sealed]:
    async with sealed_world(tmp_path_factory.mktemp("w")) as made:
        yield made


def sample(name: str) -> list[Probe]:
    """The same probes in every run, spread over all places: one body for each place and kind."""
    _, probes = ASKED[name]
    first: dict[tuple[str, str], Probe] = {}
    for probe in probes():
        if probe.body.get("model", "m") == "m":
            first.setdefault((probe.place, probe.kind), probe)
    spread = sorted(first.values(), key=lambda probe: crc32(f"{probe.place} {probe.kind}".encode()))
    return spread[:OF_EACH]


@pytest.mark.parametrize("name", NATIVE)
async def test_what_arrives_is_on_the_reviewed_list(everywhere: Sealed, name: str) -> None:
    form, known = NATIVE[name], reviewed()
    others = [dialect for dialect in DIALECTS if dialect != form]
    arrived = 0
    for number, probe in enumerate(sample(name)):
        for dialect in (form, *((others[number // 4 % len(others)],) if number % 4 == 0 else ())):
            body = dict(probe.body) if form == "gemini" else {**probe.body, "model": f"m-{dialect}"}
            if form == "ollama":
                body["stream"] = False
            got, seen = await everywhere.send(form, dialect, json.dumps(body).encode())
            assert got.status in {200, 400}, (probe, got.body)
            if got.status == 400:
                message, _, _ = told(form, got)
                assert seen is None
                assert f"{MARK}.example" not in message, probe
            elif seen is not None and MARK.encode() in seen.head + seen.body:
                arrived += 1
                assert probe.kind in known.get(probe.place, ()), (probe, dialect, seen.body)
    assert arrived > 0
