"""The gateway as a client of tool servers: processes and remote ones, each kept alive and spoken to in its own era."""
