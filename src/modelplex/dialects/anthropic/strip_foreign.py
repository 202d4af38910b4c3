"""Removes from a ChatRequest what only Messages has, before another dialect writes it.

Tools that Claude knows by their type become functions, marks that say nothing elsewhere go without
a report, and what names stored state is refused.
"""

from __future__ import annotations

import hashlib
from itertools import takewhile

import msgspec

from modelplex.core.errors import Unsupported
from modelplex.core.request import (
    AnyTool,
    Change,
    ChatRequest,
    ForeignPart,
    HostedTool,
    Message,
    Part,
    TextPart,
    Tool,
    ToolCallPart,
)
from modelplex.dialects.core.deferred_tools import PRESENT
from modelplex.dialects.core.json import is_given
from modelplex.dialects.core.ledger import tool_path
from modelplex.dialects.core.system_messages import SUMMED_UP
from modelplex.dialects.core.turns import INSTRUCTIONS

STATEFUL = frozenset({"container", "thread"})
"""Members that name a state kept at the provider; without it the question would be another one
(docs/reference/translation.md#caching-identity-and-tier).
"""
LONGEST_USER = 64
"""Characters of an end user's name that OpenAI takes; agents send more than twice as many."""

COMPACTION = "compaction"
"""The type of a block with a summary of what was before it."""
SEARCHES = "tool_search_tool"
"""Begins the types and names of the provider's own searches for tools."""
_INERT = frozenset({"caller"})
"""Members of a call that name its caller. Other dialects have calls of the client only."""


def strip(call: ChatRequest) -> tuple[ChatRequest, tuple[Change, ...]]:
    """The request as every dialect can express it, and what it lost. Raises Unsupported naming what
    is stored at Anthropic.
    """
    changes: list[Change] = []
    for name in STATEFUL & call.extra.keys():
        if is_given(call.extra[name]):
            raise Unsupported(
                f"'{name}' names what is kept at Anthropic, and this model's provider is another.", param=name
            )
    call = _without_compacted(call, changes)
    messages, tools = call.messages, call.tools
    if [part for each in messages for part in each.parts if isinstance(part, ForeignPart | ToolCallPart)]:
        messages = tuple(kept for each in messages if (kept := _strip_message(each, changes)) is not None)
    if hosted := [tool for tool in tools if isinstance(tool, HostedTool)]:
        searches = any(tool.type.startswith(SEARCHES) for tool in hosted)
        tools = tuple(_strip_tool(tool, changes, searches=searches) for tool in tools)
    user = _strip_user(call.user, changes)
    if messages is not call.messages or tools is not call.tools or user is not call.user:
        call = msgspec.structs.replace(call, messages=messages, tools=tools, user=user)
    return call, tuple(changes)


class _Compaction(msgspec.Struct, gc=False):
    content: str | None = None


def _without_compacted(call: ChatRequest, changes: list[Change]) -> ChatRequest:
    """The conversation from its last `compaction` block on, whose summary becomes the user's text.
    Anthropic drops what is before it as well
    (https://platform.claude.com/docs/en/build-with-claude/compaction). A block without a summary
    says nothing.
    """
    places = [
        (n, i, summary)
        for n, message in enumerate(call.messages)
        for i, part in enumerate(message.parts)
        if isinstance(part, ForeignPart)
        and part.type == COMPACTION
        and (summary := msgspec.json.decode(part.raw, type=_Compaction).content)
    ]
    if not places:
        return call
    at, index, summary = places[-1]
    compacted = call.messages[at]
    place = compacted.parts[index].at
    changes.append(Change("lower", str(place), "the summary of a compaction is sent as a user's text"))
    leading = takewhile(lambda message: message.role in INSTRUCTIONS, call.messages)
    told = Message("user", (TextPart(SUMMED_UP + summary, at=place),), path=compacted.path)
    rest = msgspec.structs.replace(compacted, parts=compacted.parts[index + 1 :])
    messages = (*leading, told, *((rest,) if rest.parts else ()), *call.messages[at + 1 :])
    return msgspec.structs.replace(call, messages=messages)


def _strip_user(user: str | None, changes: list[Change]) -> str | None:
    """The same user has the same name on every turn, and two users are not taken for one, as they
    would be if their names were cut.
    """
    if user is None or len(user) <= LONGEST_USER:
        return user
    changes.append(Change("clamp", "metadata.user_id", f"longer than {LONGEST_USER}: its digest is sent"))
    return hashlib.blake2s(user.encode("utf-8", "surrogatepass")).hexdigest()


def _strip_message(message: Message, changes: list[Change]) -> Message | None:
    if not any(isinstance(part, ForeignPart | ToolCallPart) for part in message.parts):
        return message
    parts = tuple(kept for part in message.parts if (kept := _strip_part(part, changes)) is not None)
    return msgspec.structs.replace(message, parts=parts) if parts else None


def _strip_part(part: Part, changes: list[Change]) -> Part | None:
    if isinstance(part, ForeignPart) and _is_search(part):
        changes.append(Change("drop", str(part.at), "a search for tools that the provider ran is not sent"))
        return None
    if isinstance(part, ForeignPart) and part.type == COMPACTION:
        return None  # a failed one; _without_compacted took the others
    if not isinstance(part, ToolCallPart) or not part.extra:
        return part
    kept = {name: value for name, value in part.extra.items() if name not in _INERT}
    return msgspec.structs.replace(part, extra=kept)


class _Named(msgspec.Struct, gc=False):
    name: str = ""


def _is_search(part: ForeignPart) -> bool:
    """A search of the provider for tools, or what it found. All tools are there without it."""
    if part.type == "tool_search_tool_result":
        return True
    return part.type == "server_tool_use" and msgspec.json.decode(part.raw, type=_Named).name.startswith(
        SEARCHES
    )


# --- tools that Claude knows by their type --------------------------------------------------------


class _Known(msgspec.Struct, frozen=True, gc=False):
    """The definition of a tool that the model was trained on. Source: Anthropic's pages on each
    tool.
    """

    name: str
    description: str
    parameters: msgspec.Raw


def _parameters(required: tuple[str, ...], **properties: dict[str, object]) -> msgspec.Raw:
    schema = {"type": "object", "properties": properties, "required": required}
    return msgspec.Raw(msgspec.json.encode(schema))


_TEXT: dict[str, object] = {"type": "string"}
_LINE: dict[str, object] = {"type": "integer"}
_RANGE: dict[str, object] = {
    "type": "array",
    "items": {"type": "integer"},
    "description": "First and last line, from 1; -1 as the last is the end of the file.",
}


def _commands(*names: str) -> dict[str, object]:
    return {"type": "string", "enum": names}


_BASH = _Known(
    "bash",
    "Runs a command in a shell that stays open between calls, and gives what it printed. `restart` starts the shell anew.",
    _parameters((), command=_TEXT, restart={"type": "boolean"}),
)
_EDITS = (
    "Looks at and edits text files. `view` shows a file, or a range of its lines, or lists a directory; `create` writes `file_text`; `str_replace` puts `new_str` in "
    "the place of `old_str`, which must stand in the file exactly once; `insert` puts text after the line `insert_line`, 0 being the start."
)


def _editor(name: str, *commands: str, inserted: str) -> _Known:
    members = {"path": _TEXT, "file_text": _TEXT, "old_str": _TEXT, "new_str": _TEXT, "insert_line": _LINE}
    members |= {inserted: _TEXT, "view_range": _RANGE}
    named = ("view", "create", "str_replace", "insert", *commands)
    undoes = " `undo_edit` takes back the last edit of the file." if commands else ""
    return _Known(
        name, _EDITS + undoes, _parameters(("command", "path"), command=_commands(*named), **members)
    )


_MEMORY = _Known(
    "memory",
    "Keeps notes as text files below /memories, over the end of a conversation. Commands as those of a text editor; `delete` removes `path`, and "
    "`rename` moves `old_path` to `new_path`.",
    _parameters(
        ("command",),
        command=_commands("view", "create", "str_replace", "insert", "delete", "rename"),
        path=_TEXT,
        file_text=_TEXT,
        old_str=_TEXT,
        new_str=_TEXT,
        insert_line=_LINE,
        insert_text=_TEXT,
        view_range=_RANGE,
        old_path=_TEXT,
        new_path=_TEXT,
    ),
)
KNOWN: dict[str, _Known] = {
    "bash_20250124": _BASH,
    "text_editor_20250124": _editor("str_replace_editor", "undo_edit", inserted="new_str"),
    "text_editor_20250429": _editor("str_replace_based_edit_tool", inserted="insert_text"),
    "text_editor_20250728": _editor("str_replace_based_edit_tool", inserted="insert_text"),
    "memory_20250818": _MEMORY,
}
"""By type. A client runs them by their name and their input, so that it cannot tell who called."""


def _strip_tool(tool: AnyTool, changes: list[Change], *, searches: bool) -> AnyTool:
    """`searches`: the provider would find the tools that are deferred."""
    if not isinstance(tool, HostedTool):
        if not (searches and tool.deferred):
            return tool
        changes.append(Change("lower", tool_path(tool, "deferred"), PRESENT))
        return msgspec.structs.replace(tool, deferred=False)
    known = KNOWN.get(tool.type)
    if known is None:
        return tool
    changes.append(Change("lower", tool.path, "a tool that Claude knows by its type is sent as a function"))
    return Tool(tool.name or known.name, known.description, parameters=known.parameters, path=tool.path)
