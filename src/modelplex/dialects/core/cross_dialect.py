"""What a request loses on its way to another dialect: the ChatRequest that each writer begins with,
and the hosted tools that stay behind.

A writer calls this before it writes, so that what only one dialect has is settled once and in the
same words, whatever the other one is. The facts are members of the Dialect the request came in.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import Change, ChatRequest, HostedTool, ToolCallPart, ToolChoice
from modelplex.dialects.core.call_arguments import MAX_DEPTH, is_too_deep
from modelplex.dialects.core.members import without_empty

if TYPE_CHECKING:
    from modelplex.dialects.dialect import Dialect


def _dialect(name: str) -> Dialect | None:
    """The value of the dialect that a request came in; imported late, since the registry imports
    the writers, which import this module.
    """
    from modelplex.dialects.registry import DIALECTS

    return DIALECTS.get(name)


STATEFUL = frozenset({"previous_response_id", "conversation", "background", "prompt"})
"""Members that name a state kept elsewhere; without it the question would be another one
(docs/reference/translation.md#caching-identity-and-tier).
"""


def crossed(call: ChatRequest, *, to: str) -> tuple[ChatRequest, tuple[Change, ...]]:
    """The call as a writer of the dialect `to` may take it, and what it lost.

    Raises:
        Unsupported: it names what is kept at a provider of its own dialect.
        BadRequest: two tools of one name, a choice that names no tool, arguments nested too deeply.
    """
    if call.dialect == to:
        return call, ()
    source = _dialect(call.dialect)
    for name in source.stored_context & call.extra.keys() if source is not None else ():
        raise Unsupported(
            f"'{name}' names a part of the conversation that is kept at its provider.", param=name
        )
    leave = source.strip_foreign if source is not None else None
    left, lost = (call, ()) if leave is None else leave(call)
    left = _without_empty(left)
    for name in STATEFUL & left.extra.keys():
        raise Unsupported(f"{name} names what is kept at another provider.", param=name)
    _check_tools(left)
    _check_arguments(left)
    return left, lost


def _without_empty(call: ChatRequest) -> ChatRequest:
    """The call without unread members that ask for nothing."""
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
    names = Counter(tool.name for tool in call.tools if not isinstance(tool, HostedTool))
    if twice := sorted(name for name, times in names.items() if times > 1):
        raise BadRequest(f"Two tools have one name: {', '.join(twice)}.", param="tools")
    choice = call.choice
    if choice is None:
        return
    place = call.paths.get("choice", "tool_choice")
    if not call.tools and choice.mode in {"required", "named"}:
        raise BadRequest("A tool is demanded, but there are none.", param=place)
    offered = set(names).union(*(words_of(tool) for tool in call.tools if isinstance(tool, HostedTool)))
    if strangers := [name for name in choice.names if name not in offered]:
        raise BadRequest(f"No tool is named {', '.join(strangers)}.", param=place)


def _check_arguments(call: ChatRequest) -> None:
    """Raises BadRequest for arguments of an earlier call that a provider could not read."""
    for message in call.messages:
        for part in message.parts:
            if isinstance(part, ToolCallPart) and not part.free and is_too_deep(part.arguments):
                raise BadRequest(
                    f"The arguments of the call {part.id!r} are nested more than {MAX_DEPTH} levels deep.",
                    param=message.path,
                )


def is_forced(tool: HostedTool, choice: ToolChoice | None) -> bool:
    """Whether the choice asks for this tool by its name, or by its type where it has none."""
    return choice is not None and choice.mode == "named" and choice.names[0] in {tool.name, tool.type}


def lost_tool(tool: HostedTool, choice: ToolChoice | None, *, path: str) -> Change:
    """What is said of a tool that no other dialect has.

    Raises:
        Unsupported: the answer would be another one without it: the choice forces it, or the client
            itself runs it.
    """
    if is_forced(tool, choice):
        raise Unsupported(
            f"'tool_choice' asks for {tool.type}, which this model's provider does not have.",
            param="tool_choice",
        )
    source = _dialect(tool.dialect)
    if source is not None and tool.type.startswith(source.client_run_tools):
        raise Unsupported(
            f"The tool {path} ({tool.type}) is known to its own provider alone; offer it as a function.",
            param=path,
        )
    return Change("drop", path, f"{tool.type} is run by its own provider alone")


def without_lost(choice: ToolChoice | None, lost: frozenset[str]) -> ToolChoice | None:
    """The choice among what is left. Raises Unsupported where it forced a call and nothing of what
    it named is left.
    """
    if choice is None or choice.mode != "subset" or not lost.intersection(choice.names):
        return choice
    names = tuple(name for name in choice.names if name not in lost)
    if names:
        return ToolChoice("subset", names, required=choice.required)
    if choice.required:
        raise Unsupported(
            "'tool_choice' asks for tools that this model's provider does not have.", param="tool_choice"
        )
    return ToolChoice("none")


def words_of(tool: HostedTool) -> frozenset[str]:
    """What a choice may call it."""
    return frozenset({tool.type} if tool.name is None else {tool.type, tool.name})
