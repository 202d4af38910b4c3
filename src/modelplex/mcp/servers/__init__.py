"""The tool servers' side: one `ManagedServer` per server, over stdio or HTTP.

Knows no callers, policy or exposed names. The launcher of a confined gateway loads the modules of
processes alone.
"""
