"""Prepares a ChatRequest for a provider of another dialect.

What only the client's dialect has is settled here once, before any writer sees the request: members
that name stored state, hosted tools, tool names and choices that do not fit, arguments nested too
deeply. `registry.write_request` passes the function that finds a dialect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import Change, ChatRequest, HostedTool, ToolCallPart, ToolChoice
from modelplex.dialects.core.call_arguments import MAX_DEPTH, is_too_deep
from modelplex.dialects.core.ledger import client_path
from modelplex.dialects.core.members import without_empty

if TYPE_CHECKING:
    from modelplex.dialects.dialect import Dialect

STATEFUL = frozenset({"previous_response_id", "conversation", "background", "prompt"})
"""Members that name a state kept elsewhere; without it the question would be another one
(docs/reference/translation.md#caching-identity-and-tier).
"""


def prepare(call: ChatRequest, find: Callable[[str], Dialect | None]) -> ChatRequest:
    """The request without what only its own dialect has. What it lost is in its `changes`.

    Raises:
        Unsupported: it names what is kept at a provider of its own dialect, or needs a hosted tool.
        BadRequest: two tools of one name, a choice that names no tool, arguments nested too deeply.
    """
    if (source := find(call.dialect)) is not None:
        for name in source.stored_context & call.extra.keys():
            raise Unsupported(
                f"'{name}' names a part of the conversation that is kept at its provider.", param=name
            )
        if source.strip_foreign is not None:
            call, lost = source.strip_foreign(call)
            if lost:
                call = msgspec.structs.replace(call, changes=(*call.changes, *lost))
    call = _without_empty(call)
    for name in STATEFUL & call.extra.keys():
        raise Unsupported(f"{name} names what is kept at another provider.", param=name)
    _check_tools(call)
    _check_arguments(call)
    return _without_hosted_tools(call, find)


def _without_empty(call: ChatRequest) -> ChatRequest:
    """The call without unread members that ask for nothing."""
    holders: list[object] = [message for message in call.messages if message.extra]
    holders += [tool for tool in call.tools if not isinstance(tool, HostedTool) and tool.extra]
    if not (holders or call.extra):
        return call
    return msgspec.structs.replace(
        call,
        extra=without_empty(call.extra),
        tools=tuple(
            msgspec.structs.replace(tool, extra=without_empty(tool.extra))
            if not isinstance(tool, HostedTool) and tool.extra
            else tool
            for tool in call.tools
        ),
        messages=tuple(
            msgspec.structs.replace(message, extra=without_empty(message.extra)) if message.extra else message
            for message in call.messages
        ),
    )


def _check_tools(call: ChatRequest) -> None:
    """Raises BadRequest where the tools and the choice among them do not fit together."""
    names = [tool.name for tool in call.tools if not isinstance(tool, HostedTool)]
    if len(set(names)) < len(names):
        twice = sorted(name for name, times in Counter(names).items() if times > 1)
        raise BadRequest(f"Two tools have one name: {', '.join(twice)}.", param="tools")
    choice = call.choice
    if choice is None:
        return
    place = client_path(call.paths, "choice")
    if not call.tools and choice.mode in {"required", "named"}:
        raise BadRequest("A tool is demanded, but there are none.", param=place)
    offered = set(names).union(
        *(choosable_names(tool) for tool in call.tools if isinstance(tool, HostedTool))
    )
    if absent := [name for name in choice.names if name not in offered]:
        raise BadRequest(f"No tool is named {', '.join(absent)}.", param=place)


def _check_arguments(call: ChatRequest) -> None:
    """Raises BadRequest for arguments of an earlier call that a provider could not read."""
    for message in call.messages:
        for part in message.parts:
            if isinstance(part, ToolCallPart) and not part.free and is_too_deep(part.arguments):
                raise BadRequest(
                    f"The arguments of the call {part.id!r} are nested more than {MAX_DEPTH} levels deep.",
                    param=part.at.member("arguments"),
                )


def _without_hosted_tools(call: ChatRequest, find: Callable[[str], Dialect | None]) -> ChatRequest:
    """The request without hosted tools, which no other dialect has. Raises Unsupported where the
    response would be another one without them: the choice forces one, or the client itself runs it.
    """
    hosted = [tool for tool in call.tools if isinstance(tool, HostedTool)]
    if not hosted:
        return call
    choice = call.choice
    for tool in hosted:
        if choice is not None and choice.mode == "named" and choice.names[0] in choosable_names(tool):
            raise Unsupported(
                f"'tool_choice' asks for {tool.type}, which this model's provider does not have.",
                param=client_path(call.paths, "choice"),
            )
        owner = find(tool.dialect)
        if owner is not None and tool.type.startswith(owner.client_run_tools):
            raise Unsupported(
                f"The tool {tool.path} ({tool.type}) is known to its own provider alone; offer it as a function.",
                param=tool.path,
            )
    tools = tuple(tool for tool in call.tools if not isinstance(tool, HostedTool))
    if not tools and choice is not None and choice.mode == "required":
        raise Unsupported(
            "A call is demanded, but this provider has none of the tools.",
            param=client_path(call.paths, "choice"),
        )
    lost = [Change("drop", tool.path, f"{tool.type} is run by its own provider alone") for tool in hosted]
    return msgspec.structs.replace(
        call,
        tools=tools,
        choice=_choice_without(choice, hosted, path=client_path(call.paths, "choice")),
        changes=(*call.changes, *lost),
    )


def _choice_without(choice: ToolChoice | None, lost: list[HostedTool], *, path: str) -> ToolChoice | None:
    """The choice among what is left. Raises Unsupported where it forced a call and nothing of what
    it named is left.
    """
    gone = frozenset[str]().union(*map(choosable_names, lost))
    if choice is None or choice.mode != "subset" or not gone.intersection(choice.names):
        return choice
    names = tuple(name for name in choice.names if name not in gone)
    if names:
        return ToolChoice("subset", names, required=choice.required)
    if choice.required:
        raise Unsupported(
            "'tool_choice' asks for tools that this model's provider does not have.", param=path
        )
    return ToolChoice("none")


def choosable_names(tool: HostedTool) -> frozenset[str]:
    """The names by which a choice may refer to a hosted tool: its type, and its name."""
    return frozenset({tool.type} if tool.name is None else {tool.type, tool.name})
