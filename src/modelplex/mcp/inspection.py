"""Starts the tool servers of a config without a gateway, and compares what they offer with the
approvals.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from modelplex.config.mcp_settings import McpServer
from modelplex.config.settings import Config
from modelplex.config.state_folder import state_folder
from modelplex.core.errors import without_name
from modelplex.http_client import HttpClient
from modelplex.mcp.approvals import Approval, Judgement, other_tools
from modelplex.mcp.catalog import MergedCatalog, ServerOffer, merge
from modelplex.mcp.constants import Catalog, Unavailable
from modelplex.mcp.lockfile import launch_of, load_approvals
from modelplex.mcp.names import SEPARATOR
from modelplex.mcp.oauth.store import SignInFiles
from modelplex.mcp.policy import permitted
from modelplex.mcp.servers.cache import CACHE_FOLDER, WriteOnlyCache
from modelplex.mcp.servers.process_table import ProcessTable
from modelplex.mcp.servers.server import ManagedServer, ServerRuntime

T = TypeVar("T")


class InspectedServer(msgspec.Struct, frozen=True, kw_only=True):
    """What a server offers now, or why it could not be started, and the last lines of its
    stderr.
    """

    config: McpServer
    catalog: Catalog | None = None
    error: str | None = None
    stderr: tuple[str, ...] = ()


class InspectedServers:
    """Inspected servers with the state of their definitions. Raises LockError for approvals that
    cannot be read.
    """

    def __init__(self, config: Config, servers: Sequence[InspectedServer]) -> None:
        self.config = config
        self.folder = state_folder(config.server.state_folder, environ=os.environ)
        self.servers = servers
        self.approvals = load_approvals(config, state_folder=self.folder)
        catalogs = {server.config.name: server.catalog for server in servers if server.catalog is not None}
        launches = {server.config.name: launch_of(server.config) for server in servers}
        self.judgements: dict[str, Judgement] = {
            name: self.approvals.judge(
                name, catalog, launch=launches[name], others=other_tools(catalogs, name)
            )
            for name, catalog in catalogs.items()
        }
        offers = [
            ServerOffer(server=server.config.name, catalog=server.catalog, globs=server.config.tools)
            for server in servers
            if server.catalog is not None
        ]
        self.merged: MergedCatalog = merge(offers, prefix=config.mcp.prefix, limit=config.mcp.name_limit)
        """As if everything were approved."""

    @property
    def failed(self) -> bool:
        return any(server.error for server in self.servers)

    def name(self, approval: Approval) -> str:
        """The name that a person types for it."""
        if approval.kind == "instructions":
            return approval.server
        names = self.merged.names if approval.kind == "tool" else self.merged.prompt_names
        return names.exposed(approval.server, approval.name) or approval.server + SEPARATOR + approval.name

    def waiting(self) -> list[Approval]:
        """New or changed definitions that the host's globs allow."""
        globs = {server.config.name: server.config.tools for server in self.servers}
        return [
            each
            for judgement in self.judgements.values()
            for each in judgement.entries
            if each.state != "approved" and (each.kind != "tool" or permitted(each.name, globs[each.server]))
        ]


async def with_servers(
    config: Config, wanted: Sequence[McpServer], use: Callable[[dict[str, ManagedServer]], Awaitable[T]]
) -> T:
    """The result of `use`, which gets the servers by name. They start when they are needed and are
    stopped at the end.
    """
    client = HttpClient()
    children = ProcessTable(config.mcp.max_processes)
    # The cache serves the next start of a gateway with the same config.
    cache = WriteOnlyCache(state_folder(config.server.state_folder, environ=os.environ) / CACHE_FOLDER)
    sign_ins = SignInFiles(state_folder(config.server.state_folder, environ=os.environ))
    runtime = ServerRuntime(client=client, children=children, sign_ins=sign_ins)
    servers = {
        each.name: ManagedServer(each, limits=config.mcp, cache=cache, runtime=runtime) for each in wanted
    }
    try:
        return await use(servers)
    finally:
        await asyncio.gather(*(server.close() for server in servers.values()))
        await children.aclose()
        await client.aclose()


async def inspect(servers: Iterable[ManagedServer]) -> list[InspectedServer]:
    """Load the lists of all these servers."""
    return list(await asyncio.gather(*(_inspect(server) for server in servers)))


async def inspect_all(config: Config) -> InspectedServers:
    """Start every server of the config, load its lists and stop it."""

    async def use(servers: dict[str, ManagedServer]) -> list[InspectedServer]:
        return await inspect(servers.values())

    return InspectedServers(config, await with_servers(config, config.mcp.servers, use))


async def _inspect(server: ManagedServer) -> InspectedServer:
    try:
        return InspectedServer(config=server.config, catalog=await server.lists(fresh=True))
    except Unavailable as error:
        sentence = without_name(error.sentence, server.config.name)
        return InspectedServer(config=server.config, error=sentence, stderr=server.status().last_words)
