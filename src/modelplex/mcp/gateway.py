"""The data path of tools: a party asks, the catalogue says whose it is, the policy says whether, the cell says in what form, the server answers, a ToolCall is kept.

Above it stands mcp/front, which brings a Party and a message; below it the catalogue, the policy and mcp/upstream. It knows no HTTP and no process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from modelplex.caller import Caller
from modelplex.mcp.words import Json, Party, Reply

Channel = Callable[[Json], None]
"""Takes a message that belongs to no request: what a legacy client's GET stream, or its one connection, is for."""


class Hub:
    """Every permitted tool server, ready to be asked. `server=None` is all of them with prefixed names; else one, with names as it gives them."""

    def knows(self, server: str) -> bool:
        """Whether there is a server of this name: the front answers 404 for others."""
        raise NotImplementedError

    async def request(self, party: Party, message: Json, *, server: str | None = None) -> Reply:
        """Answer any JSON-RPC request; the Reply's `message(id)` is the response. Never raises but CancelledError.

        Cancelling the task that awaits it cancels the call at the server. `subscriptions/listen` sends its acknowledgement and notifications through `party.send` (the
        subscription's id is the message's `id`, already in their _meta) and runs until it is cancelled. A modern message's envelope is in its params' _meta, as it came.
        A legacy connection without HTTP has a `party.session` of its own too, unlike any other.
        """
        raise NotImplementedError

    async def notified(self, party: Party, message: Json, *, server: str | None = None) -> None:
        """A client's notification. `notifications/cancelled` is the front's: it cancels the task of that request."""
        raise NotImplementedError

    def opened(self, party: Party, *, server: str | None = None, channel: Channel) -> None:
        """A legacy session has begun (after `initialize`). `channel` takes list_changed, resources/updated and what else belongs to no request."""
        raise NotImplementedError

    def closed(self, party: Party) -> None:
        """A legacy session is over: its subscriptions, its log level and its own processes go. Returns at once."""
        raise NotImplementedError

    async def tool_list(self, caller: Caller) -> list[Json]:
        """The plain form's tools in catalogue order: {name, title?, description, inputSchema, outputSchema?, annotations?, server}."""
        raise NotImplementedError

    async def call_tool(self, caller: Caller, name: str, arguments: Mapping[str, Any]) -> Reply:
        """The plain form's call. `Reply.reason` tells what the gateway refused (also where the result says isError): unknown 404, policy 403, limit 429, timeout 504,
        invalid 400, any other reason 503; an error without a reason is the server's own, 502."""
        raise NotImplementedError

    def schema(self, caller: Caller, name: str, *, server: str | None = None) -> Json | None:
        """The input schema of a tool that this caller may see, by the name that they know it by; for headers that repeat arguments. Starts nothing."""
        raise NotImplementedError

    def status(self) -> list[Json]:
        """Each server's state, for /_internal/mcp. Holds no secret."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop every server and end every subscription."""
        raise NotImplementedError
