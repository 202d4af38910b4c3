"""Checks of `[server] workers`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from modelplex.config.lint.finding import ConfigFinding, LintContext
from modelplex.config.workers import assign

_WORKERS: Final = ("server", "workers")


def workers(context: LintContext) -> Iterator[ConfigFinding]:
    config = context.config
    wanted, assignment = config.server.workers, assign(config)
    if wanted == 1:
        return
    if assignment.count < wanted:
        message = (
            f"only {assignment.count} of {wanted} workers would have a listener, and only those are started"
        )
        remedy = "give agents sockets of their own, or lower it"
        yield context.warning("idle-workers", _WORKERS, message, remedy)
    if assignment.tied and config.server.http:
        message = f"HTTP is served by one worker: {assignment.tied}"
        yield context.warning("http-of-one-worker", _WORKERS, message, "let agents use their own sockets")
    if assignment.count > 1 and config.mcp.enabled:
        for index, server in enumerate(config.mcp.servers):
            if server.command is not None and server.scope == "shared":
                message = f'each of {assignment.count} workers starts its own process of "{server.name}"'
                remedy = "if there may be only one, set workers = 1, or serve it by url"
                yield context.warning("tool-server-per-worker", ("mcp", "servers", index), message, remedy)
