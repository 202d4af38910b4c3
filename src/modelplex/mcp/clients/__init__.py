"""The clients' side of the tool gateway: MCP over HTTP and stdio framing in both protocol eras, and
a REST form.
"""

from modelplex.mcp.clients.http import McpHttp
from modelplex.mcp.clients.stdio import StdioConnections

__all__ = ["McpHttp", "StdioConnections"]
