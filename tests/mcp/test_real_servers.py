"""Servers and clients that we did not write, with the gateway between them: six servers at once,
four older wire versions, and clients of both eras.

The servers take seconds to start, so all tests share one gateway in front of each set of them, as
agents would.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.gateways import Running, gateway
from tests.mcp.installed import MODULES, PEERS, WIRE_VERSIONS, configured, python, script, servers, sqlite
from tests.peers import node

pytestmark = [pytest.mark.tools, pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]
PATIENCE_S = 90.0
SCRIPTED = Path(__file__).parent / "scripted_tools.py"
PYTHON_CLIENTS = ("auto", "legacy", "2026-07-28", "fastmcp")
NODE_CLIENTS = ("legacy", "auto", "2026-07-28")
TOOLS_OF = {"everything": 13, "filesystem": 14, "memory": 9, "thinking": 1, "git": 12, "time": 2}
"""How many tools each of the six has without a client's capabilities, at least."""


def make_repository(folder: Path) -> None:
    """A git repository with one commit."""
    folder.mkdir()
    somebody = ["-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q"], [*somebody, "commit", "-q", "--allow-empty", "-m", "First"]):
        subprocess.run(["git", *command], cwd=folder, check=True)


@dataclass(frozen=True)
class Six:
    """A gateway with the six real servers behind it, and the folder of what they work on."""

    running: Running
    folder: Path

    @property
    def url(self) -> str:
        return f"{self.running.base}/mcp/v1"

    @property
    def unix(self) -> str:
        return f"unix:{self.running.socket}:http://localhost/mcp/v1"


async def all_listed(running: Running) -> None:
    """Wait until the gateway has learnt every server's lists: it answers before that, without those
    of servers that are slow to start.
    """
    async with asyncio.timeout(PATIENCE_S):
        while True:
            rows = (await running.ask("GET", "/_internal/mcp")).json["servers"]
            if all(row["tools"] is not None for row in rows):
                return
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def six(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Six]:
    folder = tmp_path_factory.mktemp("six")
    make_repository(folder / "repository")
    commands = servers(folder)
    (folder / "files" / "note.txt").write_text("a note")
    memory = {"env": f'{{ MEMORY_FILE_PATH = "{folder / "memory.json"}" }}'}
    named = [
        configured(name, command, **(memory if name == "memory" else {}))
        for name, command in commands.items()
    ]
    top = f'[server]\nstate_folder = "{folder / "state"}"\n[mcp]\nenabled = true'
    text = "\n".join([top, f'stdio_socket = "{folder / "lines.sock"}"', *named])
    async with gateway(text, folder=folder) as running:
        await all_listed(running)
        yield Six(running, folder)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def four(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Running]:
    """A gateway with a server of each older wire version behind it."""
    folder = tmp_path_factory.mktemp("four")
    top = f'[server]\nstate_folder = "{folder / "state"}"\n[mcp]\nenabled = true'
    text = "\n".join([top, *(configured(venv, command) for venv, command in sqlite(folder).items())])
    async with gateway(text, folder=folder) as running:
        await all_listed(running)
        yield running


def calls(folder: Path) -> list[tuple[str, dict[str, Any], str]]:
    """A call of each of the six, and what its answer holds."""
    return [
        ("everything__echo", {"message": "marker 7"}, "marker 7"),
        ("filesystem__read_text_file", {"path": str(folder / "files" / "note.txt")}, "a note"),
        ("memory__read_graph", {}, "entities"),
        (
            "thinking__sequentialthinking",
            {"thought": "t", "nextThoughtNeeded": False, "thoughtNumber": 1, "totalThoughts": 1},
            "thoughtNumber",
        ),
        ("git__git_log", {"repo_path": str(folder / "repository")}, "First"),
        ("time__get_current_time", {"timezone": "UTC"}, "UTC"),
    ]


async def output(command: Sequence[str], *, cwd: Path | None = None) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()[-3000:]
    return out.decode()


async def used(client: Sequence[str], where: str, folder: Path) -> None:
    """The client lists the tools of all six, calls one of each at once, and has the right
    answers.
    """
    wanted = calls(folder)
    asked = json.dumps([[name, arguments] for name, arguments, _ in wanted])
    got = json.loads(await output([*client, where, asked]))
    for name, least in TOOLS_OF.items():
        assert sum(tool.startswith(f"{name}__") for tool in got["tools"]) >= least, (name, got["tools"])
    for (name, _, holds), texts in zip(wanted, got["answers"], strict=True):
        assert holds in "".join(texts), (name, texts)


@pytest.mark.parametrize("which", PYTHON_CLIENTS)
async def test_a_client_for_python_uses_six_servers_at_once(which: str, six: Six) -> None:
    await used([python(), str(PEERS / "client.py"), which], six.url, six.folder)


@pytest.mark.parametrize("which", ["auto", "legacy"])
async def test_a_client_for_python_uses_six_servers_over_the_unix_socket(which: str, six: Six) -> None:
    await used([python(), str(PEERS / "client.py"), which], six.unix, six.folder)


@pytest.mark.parametrize("which", ["auto", "legacy"])
async def test_a_stock_stdio_client_uses_six_servers_through_socat(which: str, six: Six) -> None:
    if shutil.which("socat") is None:
        pytest.skip("socat is not installed")
    where = f"exec:socat - UNIX-CONNECT:{six.folder / 'lines.sock'}"
    await used([python(), str(PEERS / "client.py"), which], where, six.folder)


@pytest.mark.parametrize("which", NODE_CLIENTS)
async def test_a_client_for_node_uses_six_servers_at_once(which: str, six: Six) -> None:
    client = [str(node()), str(PEERS / "client.mjs"), f"{MODULES}/", which]
    await used(client, six.url, six.folder)


async def test_a_modern_and_a_legacy_client_use_six_servers_through_one_socket_at_the_same_time(
    six: Six,
) -> None:
    clients = [[python(), str(PEERS / "client.py"), which] for which in ("2026-07-28", "legacy")]
    await asyncio.gather(*(used(client, six.unix, six.folder) for client in clients))


@pytest.mark.parametrize("which", NODE_CLIENTS)
async def test_an_odd_entry_of_one_server_hides_no_tool_of_another(which: str, tmp_path: Path) -> None:
    schema = {"type": "object"}
    odd: list[dict[str, Any]] = [
        {"name": "a", "inputSchema": {}},
        {"name": "b", "inputSchema": schema, "description": 3},
    ]
    (tmp_path / "odd.json").write_text(json.dumps({"tools": odd}))
    (tmp_path / "good.json").write_text(json.dumps({"tools": [{"name": "c", "inputSchema": schema}]}))
    parts = [
        configured(name, [sys.executable, "-S", "-E", str(SCRIPTED), str(tmp_path / f"{name}.json")])
        for name in ("odd", "good")
    ]
    top = f'[server]\nstate_folder = "{tmp_path / "state"}"\n[mcp]\nenabled = true'
    async with gateway("\n".join([top, *parts]), folder=tmp_path) as running:
        await all_listed(running)
        client = [str(node()), str(PEERS / "client.mjs"), f"{MODULES}/", which]
        got = json.loads(await output([*client, f"{running.base}/mcp/v1", json.dumps([["good__c", {}]])]))
        assert (got["tools"], got["answers"]) == (["odd__a", "good__c"], [["{}"]])
        metrics = (await running.ask("GET", "/_internal/metrics")).body.decode()
        assert 'modelplex_tool_entries_left_out{server="odd"} 1.0' in metrics


async def test_the_inspector_lists_and_calls(six: Six) -> None:
    inspector = [*script("mcp-inspector"), "--cli", six.url, "--transport", "http"]
    listed = json.loads(await output([*inspector, "--method", "tools/list"], cwd=six.folder))
    assert {"git__git_log", "time__get_current_time"} <= {tool["name"] for tool in listed["tools"]}
    call = ["--method", "tools/call", "--tool-name", "everything__echo", "--tool-arg", "message=marker"]
    answer = json.loads(await output([*inspector, *call], cwd=six.folder))
    assert "marker" in answer["content"][0]["text"]


@pytest.mark.parametrize("which", ["2026-07-28", "legacy"])
async def test_a_server_of_each_older_version_serves_both_eras(which: str, four: Running) -> None:
    table = f"of_{which[:4]}"
    asked = [
        [f"{venv}__create_table", {"query": f"CREATE TABLE {table} (x INTEGER)"}] for venv in WIRE_VERSIONS
    ]
    client = [python(), str(PEERS / "client.py"), which, f"{four.base}/mcp/v1"]
    got = json.loads(await output([*client, json.dumps(asked)]))
    assert {f"{venv}__read_query" for venv in WIRE_VERSIONS} <= set(got["tools"])
    assert all("Table created" in texts[0] for texts in got["answers"]), got["answers"]
    state = (await four.ask("GET", "/_internal/mcp")).json
    assert {row["name"]: row["version"] for row in state["servers"]} == WIRE_VERSIONS


async def test_the_clients_roots_are_not_the_filesystem_servers(six: Six) -> None:
    """A client that says `file:///etc` would have the server serve it (M38)."""
    answer = await six.running.ask(
        "POST", "/mcp/v1/tools/filesystem__read_text_file/call", {"arguments": {"path": "/etc/hostname"}}
    )
    assert answer.status == 200
    assert answer.json["isError"] is True
    assert "denied" in json.dumps(answer.json).lower()
