"""A key that a command prints, as apiKeyHelper and kubectl's exec plugins do."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from modelplex.credentials.key_command import KeyCommand
from modelplex.credentials.source import CredentialError, Expiring
from tests.credentials.clouds import Clock


def printing(text: str, *, status: int = 0, error: str = "") -> list[str]:
    program = f"import sys; sys.stdout.write({text!r}); sys.stderr.write({error!r}); sys.exit({status})"
    return [sys.executable, "-c", program]


async def test_a_plain_key_holds_for_the_time_to_live() -> None:
    clock = Clock()
    command = KeyCommand(printing("sk-printed\n"), ttl=60, clock=clock)
    assert await command.fetch() == Expiring("sk-printed", clock.now + 60)


async def test_an_exec_credential_has_its_own_end() -> None:
    said = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "t-1", "expirationTimestamp": "2027-01-15T08:00:00Z"},
    }
    found = await KeyCommand(printing(json.dumps(said))).fetch()
    assert found == Expiring("t-1", 1_800_000_000.0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ('{"token": "t"}', '"kind" is not "ExecCredential"'),
        ('{"kind": "ExecCredential", "status": {}}', "status.token in .* is empty"),
        ('{"kind": ', "no JSON"),
        ('{"kind": "ExecCredential", "status": {"token": "t", "expirationTimestamp": "soon"}}', "no date"),
    ],
)
async def test_an_output_without_a_key_is_told(text: str, reason: str) -> None:
    with pytest.raises(CredentialError, match=reason):
        await KeyCommand(printing(text)).fetch()


async def test_what_a_failed_command_wrote_is_for_the_host_alone() -> None:
    said: list[str] = []
    command = KeyCommand(printing("sk-half", status=3, error="not signed in"), failed=said.append)
    with pytest.raises(CredentialError, match="ended with the status 3") as caught:
        await command.fetch()
    assert said == ["not signed in"]
    assert "not signed in" not in str(caught.value)
    assert "sk-half" not in str(caught.value)


async def test_a_command_that_does_not_exist_is_told() -> None:
    with pytest.raises(CredentialError, match="cannot be started: No such file"):
        await KeyCommand(["/nowhere/key-helper"]).fetch()


async def test_a_cancelled_fetch_kills_the_command_and_its_children(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    child = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    task = asyncio.create_task(KeyCommand([sys.executable, "-c", parent]).fetch())
    async with asyncio.timeout(30):
        while not file.exists() or not file.read_text():
            await asyncio.sleep(0.02)
        pid = int(file.read_text())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
            await asyncio.sleep(0.02)


async def test_no_argument_is_in_a_repr() -> None:
    command = KeyCommand(["op", "read", "--token=secret"])
    assert repr(command) == "<KeyCommand op>"
