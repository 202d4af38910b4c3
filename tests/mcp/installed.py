"""Where the tool servers and clients live that `make tools` installs, and how one is started."""

from __future__ import annotations

from pathlib import Path

from tests.peers import ROOT, node

HOME = ROOT / ".cache" / "tools"
MODULES = HOME / "node" / "node_modules"
PEERS = Path(__file__).parent / "peers"
WIRE_VERSIONS = {
    "sqlite-160": "2024-11-05",
    "sqlite-194": "2025-03-26",
    "sqlite-1124": "2025-06-18",
    "sqlite-130": "2025-11-25",
}
"""The older wire versions, by the environment whose SDK speaks no newer one."""


def python(venv: str = "servers") -> str:
    return str(HOME / venv / "bin" / "python")


def program(name: str, *, venv: str = "servers") -> str:
    return str(HOME / venv / "bin" / name)


def script(name: str) -> list[str]:
    """A program in JavaScript, with our node."""
    return [str(node()), str((MODULES / ".bin" / name).resolve())]


EVERYTHING = [python(), str(PEERS / "everything.py")]
CONFORMANCE = [str(node()), str(MODULES / "@modelcontextprotocol" / "conformance" / "dist" / "index.js")]


def servers(folder: Path) -> dict[str, list[str]]:
    """The six real servers over stdio, by name: a command each. What they work on lies below
    `folder`.
    """
    files, repository = folder / "files", folder / "repository"
    files.mkdir(exist_ok=True)
    return {
        "everything": [*script("mcp-server-everything"), "stdio"],
        "filesystem": [*script("mcp-server-filesystem"), str(files)],
        "memory": script("mcp-server-memory"),
        "thinking": script("mcp-server-sequential-thinking"),
        "git": [program("mcp-server-git"), "--repository", str(repository)],
        "time": [program("mcp-server-time"), "--local-timezone", "UTC"],
    }


def sqlite(folder: Path) -> dict[str, list[str]]:
    """The same server four times, each speaking another of the older wire versions."""
    return {
        venv: [program("mcp-server-sqlite", venv=venv), "--db-path", str(folder / f"{venv}.db")]
        for venv in WIRE_VERSIONS
    }


def configured(name: str, command: list[str], **more: str) -> str:
    """One of [mcp] servers, in TOML. `more` are further keys with their values as TOML."""
    lines = ["[[mcp.servers]]", f'name = "{name}"', f'command = "{command[0]}"']
    if command[1:]:
        lines.append("args = [" + ", ".join(f'"{word}"' for word in command[1:]) + "]")
    return "\n".join([*lines, *(f"{key} = {value}" for key, value in more.items())]) + "\n"
