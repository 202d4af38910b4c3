"""The tool servers' side: one `ManagedServer` per server, over stdio or HTTP.

Knows no callers, policy or exposed names.
"""

from modelplex.mcp.servers.cache import CACHE_FOLDER, DiskCache, ServerEra, WriteOnlyCache
from modelplex.mcp.servers.events import ServerEvent
from modelplex.mcp.servers.lifecycle import State
from modelplex.mcp.servers.process_table import ProcessTable
from modelplex.mcp.servers.server import ManagedServer, ServerRuntime, ServerStatus

__all__ = [
    "CACHE_FOLDER",
    "DiskCache",
    "ManagedServer",
    "ProcessTable",
    "ServerEra",
    "ServerEvent",
    "ServerRuntime",
    "ServerStatus",
    "State",
    "WriteOnlyCache",
]
