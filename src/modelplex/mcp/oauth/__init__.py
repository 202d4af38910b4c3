"""Authorization of tool servers over HTTP: discovery, clients, tokens, `modelplex mcp login`.

Source: https://modelcontextprotocol.io/specification/2026-07-28/basic/authorization and its pages
authorization-server-discovery, client-registration, security-considerations (read 2026-12-02).
"""
