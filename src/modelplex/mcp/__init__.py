"""Tool servers behind one MCP endpoint, in both protocol eras."""
