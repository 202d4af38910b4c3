"""The tool servers' side: one `ManagedServer` per server, over stdio or HTTP.

Knows no caller, no policy and no exposed name.
"""

from modelplex.mcp.servers.cache import CACHE_FOLDER, CatalogCache, DiskCache, EraVerdict, WriteOnlyCache
from modelplex.mcp.servers.events import ServerEvent
from modelplex.mcp.servers.lifecycle import State
from modelplex.mcp.servers.processes import ProcessTable
from modelplex.mcp.servers.server import ManagedServer, ServerRuntime, ServerStatus

__all__ = [
    "CACHE_FOLDER",
    "CatalogCache",
    "DiskCache",
    "EraVerdict",
    "ManagedServer",
    "ProcessTable",
    "ServerEvent",
    "ServerRuntime",
    "ServerStatus",
    "State",
    "WriteOnlyCache",
]
