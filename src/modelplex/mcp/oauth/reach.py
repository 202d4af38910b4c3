"""Where addresses lead that a tool server and its authorization server name.

A tool server on the internet must not make the gateway ask a service of this machine or of its
network (server-side request forgery). Names are looked up, since any name may lead there. Between
this and the request a name can lead elsewhere; then the certificate of what answers is not valid
for it, and nothing is sent. Source: RFC 9728 7.7, and "Server-Side Request Forgery" in
https://modelcontextprotocol.io/docs/tutorials/security/security_best_practices (read 2026-12-02).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from enum import IntEnum
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from modelplex.credentials.source import CredentialError
from modelplex.mcp.oauth.metadata import is_loopback

Resolve = Callable[[str], Awaitable[list[str]]]
"""The IP addresses of a host's name; empty if there are none."""
LOOKUP_S: Final = 5.0
"""Seconds to look one name up."""


class Nearness(IntEnum):
    """How near an address is to this machine."""

    INTERNET = 0
    NETWORK = 1
    MACHINE = 2


WORDS: Final = {Nearness.NETWORK: "in a private network", Nearness.MACHINE: "of this machine"}


def nearness(address: str) -> Nearness:
    """Of an IP address. Link-local ones, at which clouds serve credentials, are of the machine."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback or ip.is_unspecified or ip.is_link_local:
        return Nearness.MACHINE
    return Nearness.INTERNET if ip.is_global else Nearness.NETWORK


async def look_up(host: str) -> list[str]:
    """By the system's resolver, which also reads `127.1` and `0x7f000001` as the client does."""
    try:
        async with asyncio.timeout(LOOKUP_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(row[4][0]) for row in found]


class Reach:
    """How near an address may be: no nearer than the tool server, or the `issuer` of the config.

    The hosts of those two are always within reach: the owner of this host chose them.
    """

    def __init__(self, server: str, *, issuer: str = "", resolve: Resolve = look_up) -> None:
        self._chosen = [host for url in (server, issuer) if url and (host := _host(url))]
        self._resolve = resolve
        self._nearest: Nearness | None = None

    def __repr__(self) -> str:
        return f"<Reach {self._nearest!r} from {self._chosen}>"

    async def check(self, url: str) -> None:
        """Raises CredentialError."""
        host = _host(url)
        if host in self._chosen:
            return
        if self._nearest is None:
            self._nearest = max([await self._of_chosen(each) for each in self._chosen])
        near = max(map(nearness, await self._resolve(host)), default=Nearness.INTERNET)
        if near > self._nearest:
            raise CredentialError(
                f"{url} leads to an address {WORDS[near]}, which a tool server elsewhere must not name;"
                " `issuer` in its `auth` allows an authorization server there"
            )

    async def _of_chosen(self, host: str) -> Nearness:
        """The farthest of its addresses: its owner may add nearer ones to a name. Only an address
        that says so is of this machine.
        """
        if is_loopback(host):
            return Nearness.MACHINE
        return min(Nearness.NETWORK, _farthest(await self._resolve(host)))


def _farthest(addresses: Iterable[str]) -> Nearness:
    return min(map(nearness, addresses), default=Nearness.INTERNET)


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
