"""The agents' side of the tool gateway: MCP over HTTP and over lines, in both eras, and the plain
form for who speaks no MCP.

Above it stand the listeners, which bring a connection and say who calls; below it the hub, which
answers. `McpHttp` is its door.
"""

from modelplex.mcp.clients.http import McpHttp
from modelplex.mcp.clients.stdio import StdioConnections

__all__ = ["McpHttp", "StdioConnections"]
