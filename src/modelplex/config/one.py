"""A config with one listener alone: what the gateway of `modelplex run` serves."""

from __future__ import annotations

from msgspec.structs import replace

from modelplex.config.settings import Config

PRIVATE_MODE = "0600"


def on_one_socket(config: Config, socket: str, *, agent: str | None) -> Config:
    """The same providers, policy and limits, with this socket as the only listener: that of an
    agent, or of nobody in particular.

    An agent that is not configured (any more) has no listener. At a path that is not its own the
    socket is for this user alone.
    """
    server = replace(config.server, http=(), socket=() if agent else (socket,), vsock=())
    mcp = replace(config.mcp, stdio_socket=None)
    if agent is None:
        return replace(config, server=server, mcp=mcp)
    found = next((each for each in config.agents if each.name == agent), None)
    if found is not None and found.socket != socket:
        server = replace(server, socket_group=None)
        found = replace(found, socket=socket, socket_mode=PRIVATE_MODE, socket_group=None)
    return replace(config, server=server, agents=() if found is None else (found,), mcp=mcp)
