"""What a gateway loads until it serves, in an interpreter of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import asyncio, json, sys
from modelplex.config import load
from modelplex.server.process import GatewayProcess

async def ask(path, body):
    reader, writer = await asyncio.open_unix_connection(sys.argv[2])
    writer.write(b"%b HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\ncontent-length: %d\\r\\n\\r\\n%b" % (path, len(body), body))
    answer = await reader.read()
    writer.close()
    return int(answer.split()[1])

async def main():
    process = GatewayProcess(load(sys.argv[1], environ={}), config_path=None, verbose=False)
    serving = asyncio.create_task(process.serve())
    while not process.addresses:
        await asyncio.sleep(0.005)
    assert await ask(b"GET /health", b"") == 200
    for task in asyncio.all_tasks():
        if "load_dialects" in repr(task):
            await task
    seen = [sorted(sys.modules)]
    if len(sys.argv) > 3:
        await ask(b"POST " + sys.argv[3].encode(), b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}')
        seen.append(sorted(sys.modules))
    process.stop()
    await serving
    print(json.dumps(seen))

async def bounded():
    await asyncio.wait_for(main(), 30)

asyncio.run(bounded())
"""
PROVIDER = '[[providers]]\nname = "up"\ntype = "openai"\nbase_url = "http://127.0.0.1:1"\napi_key = "k"\nmodels = ["m"]\n'
UNUSED = (
    *("modelplex.mcp.gateway", "modelplex.mcp.service", "modelplex.mcp.clients.http"),
    *("modelplex.sandbox.run", "modelplex.server.reach", "modelplex.config.lint"),
    *("modelplex.pipeline.response_store", "modelplex.limits.budget_store", "sqlite3"),
    *(
        "modelplex.records.store",
        "modelplex.records.metrics_text",
        "prometheus_client",
        "difflib",
        "email.utils",
        "shutil",
        "urllib.request",
    ),
)
"""What a gateway without tools, budgets and stored responses does not need."""
DIALECTS = frozenset({"openai_chat", "openai_responses", "anthropic", "gemini", "ollama"})


def modules(folder: Path, config: str, *path: str) -> list[frozenset[str]]:
    """The modules once a gateway with this config serves, and after a POST to `path`."""
    socket = folder / "agent.sock"
    file = folder / "config.toml"
    file.write_text(
        f'[log]\nfile = "{folder / "log"}"\n{config}[[agents]]\nname = "coder"\nsocket = "{socket}"\n'
        '[server]\nhttp = "127.0.0.1:0"\n'
    )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(file), str(socket), *path],
        check=True,
        env={**os.environ, "XDG_STATE_HOME": str(folder / "state")},
        capture_output=True,
        timeout=60,
        text=True,
    )
    return [frozenset(names) for names in json.loads(done.stdout.splitlines()[-1])]


def dialects(names: frozenset[str]) -> set[str]:
    """Those of which any function is loaded."""
    return {dialect for dialect in DIALECTS if f"modelplex.dialects.{dialect}.dialect" in names}


def test_what_is_not_used_is_not_loaded(tmp_path: Path) -> None:
    (names,) = modules(tmp_path, PROVIDER)
    assert [name for name in UNUSED if name in names] == []
    assert dialects(names) == {"openai_chat"}


@pytest.mark.parametrize(("path", "dialect"), [("/v1/messages", "anthropic"), ("/api/chat", "ollama")])
def test_a_client_s_dialect_is_loaded_at_its_first_request(tmp_path: Path, path: str, dialect: str) -> None:
    before, after = modules(tmp_path, PROVIDER, path)
    assert dialects(after) - dialects(before) == {dialect}


def test_tools_are_loaded_where_they_are_enabled(tmp_path: Path) -> None:
    (names,) = modules(tmp_path, PROVIDER + "[mcp]\nenabled = true\n")
    assert "modelplex.mcp.gateway" in names


def test_the_launcher_is_forked_before_the_gateway_is_loaded() -> None:
    """It keeps in memory what is loaded until then."""
    code = "import sys, modelplex.cli, modelplex.server.start, modelplex.confinement.launcher; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "modelplex.confinement.launcher" in loaded
    heavy = {
        *(
            "asyncio",
            "ssl",
            "httptools",
            "uvloop",
            "sqlite3",
            "modelplex.http_client",
            "modelplex.server.process",
        ),
        *("modelplex.mcp.servers.server", "modelplex.credentials.aws", "modelplex.dialects.registry"),
    }
    assert not heavy & loaded
