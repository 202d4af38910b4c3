"""The tool servers behind the gateway: one handle for each, whatever it speaks and however it is
reached.

Above it stands the hub; below it the words of the protocol, the config's types and the HTTP client.
It knows no caller, no policy and no exposed name: a server's own names go in and come out.
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
