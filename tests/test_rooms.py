"""The arrows of docs/why/architecture.md, read from the imports of the code itself.

A room is a file or a folder directly below src/modelplex. A pure room asks nothing of the world: time, ids and
randomness are its arguments. A room may import itself and what stands below it, and nothing else of ours.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src" / "modelplex"

NOUNS = frozenset({"call", "event", "errors"})
PURE = NOUNS | {"wire", "policy", "route", "provider", "caller"}

# Of the room mcp, which waits and starts processes, these modules are pure: they decide, and others do.
PURE_OF_MCP = frozenset(
    f"mcp/{module}.py"
    for module in (
        *("words", "names", "schemas", "shapes", "catalog", "pins", "search", "policy", "cells", "speech"),
        *("front/checks", "upstream/states"),
    )
)
BELOW_PURE_OF_MCP = NOUNS | {"caller"}

# Modules that wait, tell the time, throw dice, touch the machine or speak HTTP.
WORLD = frozenset(
    "asyncio selectors socket ssl select threading multiprocessing concurrent subprocess signal "
    "time random secrets uuid os logging structlog tempfile shutil sqlite3 "
    "http urllib httptools uvicorn uvloop httpx aiohttp requests anyio".split()
)
# Pieces of those that only compute: quoting a URL's part is no I/O.
HARMLESS = frozenset({"urllib.parse", "http.HTTPStatus"})

# Who may import whom, beside itself; a room that is not named here may import every room that names no `above`.
BELOW = {
    "call": NOUNS,
    "event": NOUNS,
    "errors": NOUNS,
    "wire": NOUNS,
    "policy": NOUNS,
    "route": NOUNS,
    "provider": NOUNS,
}
# Rooms at the top: only each other, `__main__` and the package's own door may know them.
TOP = frozenset({"listen", "cli", "sandbox", "serve", "__main__"})
GATEWAY = "gateway"


def _imports(tree: ast.Module, *, package: str) -> Iterator[tuple[int, str]]:
    """Each imported module with its line; `from a import b` gives `a.b`, relative names are made whole."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*home, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{source}.{name.name}") for name in node.names)


def _fault(room: str, imported: str, *, file: str) -> str | None:
    """Why this file of this room may not import that, or None."""
    first, _, rest = imported.partition(".")
    if first != "modelplex":
        harmless = any(imported == ok or imported.startswith(f"{ok}.") for ok in HARMLESS)
        return (
            "a pure room asks nothing of the world"
            if (room in PURE or file in PURE_OF_MCP) and first in WORLD and not harmless
            else None
        )
    neighbour = rest.partition(".")[0]
    if file in PURE_OF_MCP:
        return _fault_of_mcp(rest)
    if neighbour in {"", room, "__version__"}:
        return None
    if room in BELOW:
        return (
            None if neighbour in BELOW[room] else f"the arrows let {room} see only {', '.join(sorted(NOUNS))}"
        )
    if room not in TOP and neighbour in TOP:
        return f"{neighbour} stands above it"
    if neighbour == GATEWAY and room not in TOP:
        return "only what listens stands above the gateway"
    return None


def _fault_of_mcp(imported: str) -> str | None:
    """Why a pure module of mcp may not import this of ours: what it imports is pure too."""
    neighbour, *inside = imported.split(".")
    if neighbour in BELOW_PURE_OF_MCP | {"", "__version__"}:
        return None
    modules = {"/".join([neighbour, *inside[:depth]]) + ".py" for depth in (1, 2)}
    return (
        None if neighbour == "mcp" and modules & PURE_OF_MCP else "a pure module of mcp sees only pure ones"
    )


def broken_arrows(src: Path) -> list[str]:
    """One sentence for each import below `src` (the folder modelplex) that goes against an arrow."""
    faults: list[str] = []
    for file in sorted(src.rglob("*.py")):
        inside = file.relative_to(src)
        room = inside.parts[0].removesuffix(".py")
        package = ".".join(["modelplex", *inside.parts[:-1]])
        for line, imported in _imports(ast.parse(file.read_text(), filename=str(file)), package=package):
            if fault := _fault(room, imported, file=inside.as_posix()):
                faults.append(f"{inside}:{line}: room {room} imports {imported}: {fault}")
    return faults


def test_no_room_of_the_product_breaks_an_arrow() -> None:
    assert SRC.is_dir()
    assert [file for file in sorted(PURE_OF_MCP) if not (SRC / file).is_file()] == []
    assert broken_arrows(SRC) == []


@pytest.mark.parametrize(
    ("file", "line", "told"),
    [
        ("dialects/core/sse.py", "import asyncio", "dialects/core/sse.py:2: room wire imports asyncio:"),
        ("wire/deep/er.py", "from time import monotonic", "room wire imports time.monotonic:"),
        ("policy/size.py", "import os.path", "room policy imports os.path:"),
        ("routing/circuit_breaker.py", "import random as dice", "room route imports random:"),
        ("provider/openai.py", "import urllib.request", "room provider imports urllib.request:"),
        ("call.py", "import logging", "room call imports logging:"),
        ("event.py", "def f():\n  import socket", "event.py:3: room event imports socket:"),
        ("errors.py", "import httptools", "room errors imports httptools:"),
        (
            "wire/chat.py",
            "from modelplex.providers import rows",
            "room wire imports modelplex.providers.specs:",
        ),
        ("wire/chat.py", "from ..provider import rows", "room wire imports modelplex.providers.specs:"),
        ("wire/chat.py", "from modelplex import gateway", "room wire imports modelplex.pipeline.gateway:"),
        (
            "policy/x.py",
            "import modelplex.dialects.core.sse",
            "room policy imports modelplex.dialects.core.sse:",
        ),
        ("call.py", "from modelplex.config import Config", "room call imports modelplex.config.Config:"),
        (
            "gateway.py",
            "from modelplex.server.app import app",
            "room gateway imports modelplex.server.app.app:",
        ),
        ("send.py", "from .gateway import answer", "room send imports modelplex.pipeline.gateway.answer:"),
        ("records/log.py", "from modelplex import cli", "room record imports modelplex.cli:"),
        ("mcp/names.py", "import asyncio", "mcp/names.py:2: room mcp imports asyncio:"),
        ("mcp/servers/lifecycle.py", "from time import monotonic", "room mcp imports time.monotonic:"),
        ("mcp/catalog.py", "from modelplex.mcp.gateway import Hub", "imports modelplex.mcp.gateway.Hub:"),
        ("mcp/approvals.py", "from .lockfile import read_lock", "imports modelplex.mcp.lockfile.read_lock:"),
        ("mcp/policy.py", "from modelplex.config import Config", "imports modelplex.config.Config:"),
    ],
)
def test_an_import_against_an_arrow_is_named(tmp_path: Path, file: str, line: str, told: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(f'"""A module."""\n{line}\n')
    (fault,) = broken_arrows(tmp_path)
    assert told in fault


@pytest.mark.parametrize(
    ("file", "line"),
    [
        (
            "wire/chat.py",
            "from modelplex.core.request import Call\nfrom . import sse\nfrom ..errors import Fault",
        ),
        ("wire/chat.py", "from modelplex import event"),
        ("event.py", "from modelplex.core.request import Part"),
        ("provider/azure.py", "from urllib.parse import quote"),
        (
            "gateway.py",
            "import asyncio\nfrom modelplex.dialects import sse\nfrom modelplex.http_client import post",
        ),
        ("server/app.py", "from modelplex.pipeline.gateway import answer"),
        ("cli.py", "from modelplex.server import serve\nfrom modelplex import __version__"),
        ("__main__.py", "from modelplex.cli import main"),
        ("mcp/catalog.py", "from modelplex.mcp.names import Names\nfrom modelplex.core.caller import Caller"),
        ("mcp/clients/checks.py", "from modelplex.mcp.constants import Json"),
        ("mcp/lockfile.py", "import os\nfrom modelplex.mcp.approvals import Pins"),
    ],
)
def test_an_import_along_the_arrows_passes(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(f'"""A module."""\n{line}\n')
    assert broken_arrows(tmp_path) == []
