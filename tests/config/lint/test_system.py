"""Listeners, sockets, folders and commands on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.lint.findings import DEMO, Found, found


@pytest.mark.parametrize("address", ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:80", "gateway.example:80"])
def test_a_listener_beyond_loopback(address: str) -> None:
    assert found(f'[server]\nhttp = ["127.0.0.1:1", "{address}"]\n{DEMO}') == [
        Found("warning", "open-listener", 2, "server.http[1]")
    ]


def test_a_loopback_listener_is_no_finding() -> None:
    assert found(f'[server]\nhttp = [":8080", "127.0.0.2:1", "[::1]:2", "localhost:3"]\n{DEMO}') == []


def test_sockets_that_cannot_be_created(here: Path) -> None:
    (here / "file").touch()
    (here / "link").symlink_to(here)
    long = "x" * 108
    text = (
        f'[server]\nsocket = ["none/m.socket", "file", "./m.socket", "{long}"]\n{DEMO}'
        '[[agents]]\nname = "a"\nsocket = "link/m.socket"\n[mcp]\nenabled = true\nstdio_socket = "none/lines"\n'
    )
    assert found(text) == [
        Found("error", "missing-folder", 2, "server.socket[0]"),
        Found("error", "not-a-socket", 2, "server.socket[1]"),
        Found("error", "long-socket-path", 2, "server.socket[3]"),
        Found("error", "duplicate-socket", 7, "agents[0].socket"),
        Found("error", "missing-folder", 10, "mcp.stdio_socket"),
    ]


def test_files_in_missing_folders() -> None:
    text = f'[server]\nkeep_responses = "none/answers"\n{DEMO}[log]\nfile = "none/log"\n'
    assert found(text) == [
        Found("error", "missing-folder", 2, "server.keep_responses"),
        Found("error", "missing-folder", 6, "log.file"),
    ]
    assert found(f'[server]\nkeep_responses = "memory"\n{DEMO}') == []


def test_tool_servers_that_cannot_start() -> None:
    servers = '[[mcp.servers]]\nname = "a"\ncommand = "no-such-program"\n[[mcp.servers]]\nname = "b"\ncommand = "sh"\ncwd = "none"\n'
    assert found(f"{DEMO}[mcp]\nenabled = true\n{servers}") == [
        Found("warning", "missing-command", 7, "mcp.servers[0].command"),
        Found("warning", "missing-folder", 11, "mcp.servers[1].cwd"),
    ]
    assert Found("warning", "tools-off", 3, "mcp.servers[0]") in found(DEMO + servers)
