"""The clients' side of the tool gateway: MCP over HTTP and stdio framing in both protocol eras, and
a REST form.
"""
