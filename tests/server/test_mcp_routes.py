"""Below /mcp/: checks of Host and Origin, and the error where MCP is not enabled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gateways import gateway
from tests.processes import exchange, read_response

DEMO = '[[providers]]\nname = "demo"\ntype = "demo"\n'
MCP = "[mcp]\nenabled = true\n"
PATHS = ["/mcp/v1", "/mcp/v1/tools"]


def request(path: str, *rows: str) -> bytes:
    head = "".join(f"{row}\r\n" for row in (f"GET {path} HTTP/1.1", *rows, "connection: close"))
    return head.encode() + b"\r\n"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("rows", "status"),
    [
        (("host: 127.0.0.1",), 0),
        (("host: evil.example",), 403),
        (("host: localhost", "origin: http://evil.example"), 403),
        (("host: localhost", "origin: http://localhost:3000"), 0),
    ],
)
async def test_on_tcp_host_and_origin_are_checked(
    path: str, rows: tuple[str, ...], status: int, tmp_path: Path
) -> None:
    async with gateway(DEMO + MCP, folder=tmp_path) as running:
        host, port = running.base.removeprefix("http://").split(":")
        got = read_response(await exchange((host, int(port)), request(path, *rows)))
        assert (got.status == 403) == (status == 403)
        if status == 403 and path == "/mcp/v1":
            assert got.json["jsonrpc"] == "2.0"


@pytest.mark.parametrize("path", PATHS)
async def test_on_a_socket_any_host_is_served_and_no_origin(path: str, tmp_path: Path) -> None:
    async with gateway(DEMO + MCP, folder=tmp_path) as running:
        got = read_response(await exchange(running.socket, request(path, "host: any.example")))
        assert got.status != 403
        refused = read_response(
            await exchange(running.socket, request(path, "host: x", "origin: http://localhost"))
        )
        assert refused.status == 403
        assert "serves no web page" in refused.body.decode()


@pytest.mark.parametrize("path", PATHS)
async def test_where_mcp_is_not_enabled_the_404_says_how_to_enable_it(path: str, tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as running:
        got = await running.ask("GET", path)
        assert got.status == 404
        assert "[mcp] enabled = true" in got.body.decode()
