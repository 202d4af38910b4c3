from __future__ import annotations

import pytest

from modelplex.credentials.source import CredentialError
from modelplex.mcp.oauth.reach import Nearness, Reach, look_up, nearness

NAMES = {
    "tools.example": ["93.184.215.14"],
    "idp.example": ["93.184.215.15"],
    "inside.example": ["93.184.215.15", "10.0.0.7"],
    "tools.corp": ["10.1.1.1"],
    "idp.corp": ["10.1.1.2"],
    "rebound.example": ["93.184.215.14", "10.0.0.7"],
    "loop.example": ["127.0.0.1"],
    "cloud.example": ["169.254.169.254"],
}


async def resolve(host: str) -> list[str]:
    return NAMES.get(host, [host] if host[0].isdigit() or ":" in host else [])


@pytest.mark.parametrize(
    ("address", "near"),
    [
        ("93.184.215.14", Nearness.INTERNET),
        ("2606:2800:21f:cb07::1", Nearness.INTERNET),
        ("10.0.0.1", Nearness.NETWORK),
        ("172.16.3.4", Nearness.NETWORK),
        ("192.168.1.1", Nearness.NETWORK),
        ("100.64.0.1", Nearness.NETWORK),
        ("fd00::1", Nearness.NETWORK),
        ("::ffff:192.168.1.1", Nearness.NETWORK),
        ("127.9.9.9", Nearness.MACHINE),
        ("0.0.0.0", Nearness.MACHINE),
        ("::", Nearness.MACHINE),
        ("::1", Nearness.MACHINE),
        ("::ffff:127.0.0.1", Nearness.MACHINE),
        ("169.254.169.254", Nearness.MACHINE),
        ("fe80::1%eth0", Nearness.MACHINE),
    ],
)
def test_each_address_is_so_near(address: str, near: Nearness) -> None:
    assert nearness(address) is near


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("https://tools.example/mcp", "https://inside.example/token"),
        ("https://tools.example/mcp", "https://loop.example/token"),
        ("https://tools.example/mcp", "https://cloud.example/token"),
        ("https://tools.example/mcp", "https://10.0.0.1/"),
        ("https://tools.example/mcp", "https://[fd00::1]/"),
        ("https://tools.corp/mcp", "https://cloud.example/token"),
        ("https://tools.corp/mcp", "https://loop.example/token"),
        ("https://rebound.example/mcp", "https://inside.example/token"),
        ("https://loop.example/mcp", "https://cloud.example/token"),
    ],
)
async def test_a_tool_server_names_nothing_nearer_than_itself(server: str, url: str) -> None:
    with pytest.raises(CredentialError, match="which a tool server elsewhere must not name"):
        await Reach(server, resolve=resolve).check(url)


@pytest.mark.parametrize(
    ("server", "issuer", "url"),
    [
        ("https://tools.example/mcp", "", "https://idp.example/token"),
        ("https://tools.example/mcp", "", "https://unknown.example/token"),
        ("https://tools.corp/mcp", "", "https://idp.corp/token"),
        ("https://loop.example/mcp", "", "https://loop.example/token"),
        ("http://127.0.0.1:1/mcp", "", "http://127.0.0.1:2/token"),
        ("https://tools.example/mcp", "https://idp.corp", "https://idp.corp/token"),
        ("https://tools.example/mcp", "https://idp.corp", "https://tools.corp/token"),
    ],
)
async def test_what_the_owner_of_the_host_chose_is_within_reach(server: str, issuer: str, url: str) -> None:
    await Reach(server, issuer=issuer, resolve=resolve).check(url)


@pytest.mark.parametrize("host", ["127.1", "0x7f000001", "2130706433", "127.0.0.1"])
async def test_numbers_that_a_connection_reads_are_read(host: str) -> None:
    assert set(await look_up(host)) == {"127.0.0.1"}


@pytest.mark.parametrize("host", [f"{'a' * 70}.example", "a..b"])
async def test_a_name_that_cannot_be_leads_nowhere(host: str) -> None:
    assert await look_up(host) == []
