"""Where one call goes: its client, its server, the instance of that server, and what the server may
ask the client for.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import msgspec

from modelplex.mcp.constants import INTERNAL_ERROR, Era, Json, McpClient, McpReply
from modelplex.mcp.request_context import tool_refused
from modelplex.mcp.tasks import FIRST_VERSION, HeldTask, Tasks, declares_tasks, offered, runs_tools
from modelplex.mcp.tool_server import ToolServer


class CallRoute(msgspec.Struct, frozen=True, kw_only=True):
    """The route of one call.

    scope         which instance of the server answers
    era           the protocol era of that instance
    capabilities  what the server may ask the client for
    globs         the keys of `_meta` that pass ([mcp] meta)
    route         the client's route: a server's name, or None for all
    tasks         all tasks; None if the call may not continue as a task
    task          the task that the request is about
    """

    client: McpClient
    method: str
    upstream: ToolServer
    scope: str
    era: Era
    capabilities: Json
    globs: tuple[str, ...] = ()
    route: str | None = None
    tasks: Tasks | None = None
    task: HeldTask | None = None

    def failed(self, sentence: str, reason: str) -> McpReply:
        """An error of the gateway itself; for a tool, a result that the model can read."""
        if self.method == "tools/call":
            return tool_refused(sentence, reason=reason, era=self.client.era)
        return McpReply.failed(
            INTERNAL_ERROR, sentence, {"reason": reason, "server": self.upstream.name}, reason=reason
        )

    def related(self, meta: object) -> Json:
        """The members of a server's `_meta` that name a task, with the client's id of it."""
        if self.tasks is None:
            return {}
        owner = self.client.caller.owner
        return self.tasks.related(
            meta, upstream=self.upstream, scope=self.scope, owner=owner, route=self.route
        )

    @property
    def roots(self) -> Json:
        """The folders of the config, whatever the client would answer."""
        paths = self.upstream.config.roots
        return {"roots": [{"uri": Path(path).as_uri(), "name": Path(path).name or path} for path in paths]}


def scope_of(upstream: ToolServer, client: McpClient) -> str:
    """The instance of a server that serves this client; "" is the one for all.

    A legacy server that may ask its client has one instance for each legacy session: on a shared
    instance, its questions could not be assigned to a client.
    """
    kind = upstream.config.scope
    if kind == "agent":
        return client.caller.owner
    asks = (
        bool(upstream.config.client_requests)
        and upstream.catalog is not None
        and upstream.catalog.era == "legacy"
    )
    if client.era == "legacy" and client.session and (kind == "session" or asks):
        return session_scope(client)
    return client.caller.owner if kind == "session" else ""


def may_be_task(upstream: ToolServer, client: McpClient) -> bool:
    """Whether this client's calls may continue as tasks: both sides must support tasks in the same
    era.
    """
    offer = offered(upstream, client.era)
    if offer is None:
        return False
    if client.era == "modern":
        return declares_tasks(client.capabilities)
    return client.version >= FIRST_VERSION and runs_tools(offer)


def session_scope(client: McpClient) -> str:
    """The scope of a session's instances: a hash, since the status shows it and the session id is a
    secret.
    """
    return "session:" + sha256(client.session.encode()).hexdigest()[:16] if client.session else "session:"
