"""oidc-provider with a tool server that accepts its tokens, and `modelplex mcp` beside them."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mcp.browser import browse
from tests.peers import ROOT, node, node_modules

BROWSER = Path(__file__).parent / "browser.py"
PATIENCE_S = 40.0


@dataclass
class Authorization:
    issuer: str
    resource: str


@asynccontextmanager
async def authorization_server(**options: Any) -> AsyncGenerator[Authorization]:
    """tests/node/authorization_server.mjs documents the options."""
    process = await asyncio.create_subprocess_exec(
        str(node()),
        str(ROOT / "tests" / "node" / "authorization_server.mjs"),
        json.dumps(options),
        env={**os.environ, "NODE_MODULES": str(node_modules())},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        line = b""
        while not line.startswith(b"{"):
            line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
            assert line, "the authorization server did not start"
        yield Authorization(**json.loads(line))
    finally:
        process.kill()
        await process.wait()


@dataclass
class Said:
    status: int
    out: str
    err: str


async def modelplex(
    folder: Path, *arguments: str, user: str = "owner", browser: Sequence[str] | None = None
) -> Said:
    """`modelplex ARGUMENTS --config` of the gateway in `folder`. Its browser is `user`'s."""
    command = browser if browser is not None else (sys.executable, str(BROWSER), "%s", user)
    environ = {
        name: value for name, value in os.environ.items() if name not in {"DISPLAY", "WAYLAND_DISPLAY"}
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "modelplex", *arguments, "--config", str(folder / "config.toml")),
        cwd=ROOT,
        env={**environ, "BROWSER": shlex.join(command)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Said(process.returncode, out.decode(), err.decode())


async def login_by_device(folder: Path, *, user: str = "owner") -> Said:
    """`modelplex mcp login far --device`, with a browser that knows only what it shows."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "modelplex", "mcp", "login", "far", "--device"),
        *("--config", str(folder / "config.toml")),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    shown = ""
    try:
        while not shown.startswith("http"):
            line = await asyncio.wait_for(process.stderr.readline(), PATIENCE_S)
            assert line, "nothing was shown"
            shown = line.decode().strip()
        await asyncio.to_thread(browse, shown, user)
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Said(process.returncode, out.decode(), err.decode())
