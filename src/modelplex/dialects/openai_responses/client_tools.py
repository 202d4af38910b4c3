"""Typed tools that the client runs, as functions for providers that do not know their types: the
two shells, `apply_patch`, and the client's search for tools.

Each row of TOOLS is one type: its function, the members of its call's item, and how arguments
become these and back. Schemas are those of `LocalShellCallAction`, `ShellCallAction` and
`ApplyPatchCallOperation` in OpenAI's library (openai 3.57.0), the format of diffs is that of
https://developers.openai.com/api/docs/guides/tools-apply-patch (2026-12-01). Imports no other
dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from modelplex.core.request import AnyTool, ForeignPart, HostedTool, Tool
from modelplex.dialects.core.json import MALFORMED, encode, is_given
from modelplex.dialects.core.members import decode_member
from modelplex.dialects.core.surrogates import mended_text
from modelplex.dialects.core.tool_names import digest
from modelplex.dialects.openai_responses.constants import SEARCH, SEARCH_CALL, SEARCH_OUTPUT
from modelplex.dialects.openai_responses.tools import flat_names

_Json = dict[str, Any]
_Args = TypeVar("_Args")

SLIP: Final = "the model's arguments are not those of the tool"
"""The reason in reports of a call whose item has nothing to run."""
NOTHING_RUN: Final = "Nothing was run: `commands` must be a list of commands."
"""What the model reads after such a call of a shell, whose client has no output then."""


class _Skill(msgspec.Struct, gc=False):
    name: str = ""
    description: str = ""
    path: str = ""


class _Environment(msgspec.Struct, gc=False):
    type: str = "local"
    skills: list[_Skill] | None = None


class _Offered(msgspec.Struct, gc=False):
    """A tool as the client offers it."""

    execution: str | None = None
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw()
    environment: _Environment | None = None


class TypedItem(msgspec.Struct, gc=False):
    """The item of a call or of its output."""

    id: str | None = None
    call_id: str | None = None
    status: str | None = None
    execution: str | None = None
    environment: _Environment | None = None
    arguments: msgspec.Raw = msgspec.Raw(b"{}")
    action: dict[str, msgspec.Raw] | None = None
    operation: dict[str, msgspec.Raw] | None = None
    output: msgspec.Raw = msgspec.Raw()


class ClientTool(msgspec.Struct, frozen=True, gc=False):
    """A type of tools. `call` and `output` are the types of its items, `prefix` that of their ids,
    `empty` the members of a call before its arguments are known, and `cut` its status after a
    limit. `fill` makes those members of the model's arguments, or gives None where they are not the
    tool's; `arguments` makes arguments of them.
    """

    type: str
    call: str
    output: str
    prefix: str
    empty: _Json
    fill: Callable[[str], _Json | None]
    arguments: Callable[[TypedItem], str]
    description: str = ""
    parameters: msgspec.Raw | None = None
    cut: str = "incomplete"


# --- the model's arguments ------------------------------------------------------------------------


class _LocalAction(msgspec.Struct, omit_defaults=True, gc=False):
    command: list[str]
    env: dict[str, str] | None = None
    timeout_ms: int | None = None
    user: str | None = None
    working_directory: str | None = None


class _ShellAction(msgspec.Struct, omit_defaults=True, gc=False):
    commands: list[str] | str
    timeout_ms: int | None = None
    max_output_length: int | None = None


class _Operation(msgspec.Struct, gc=False):
    type: str
    path: str
    diff: str = ""


def _fill_local(text: str) -> _Json | None:
    action = _read(text, _LocalAction)
    if action is None:
        return None
    given = msgspec.to_builtins(action)
    return {"action": {"type": "exec", "env": {}, **given}}


def _fill_shell(text: str) -> _Json | None:
    action = _read(text, _ShellAction)
    if action is None:
        return None
    if isinstance(action.commands, str):
        action.commands = [action.commands]
    return {"action": msgspec.to_builtins(action)}


def _fill_patch(text: str) -> _Json | None:
    operation = _read(text, _Operation)
    if operation is None or operation.type not in {"create_file", "update_file", "delete_file"}:
        return None
    diff = {} if operation.type == "delete_file" else {"diff": operation.diff}
    return {"operation": {"type": operation.type, "path": operation.path, **diff}}


def _fill_search(text: str) -> _Json:
    """An object is made of arguments that are none."""
    text = mended_text(text)
    if not text.strip():
        return {"arguments": {}}
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except MALFORMED:
        return {"arguments": {"_raw": text}}
    return {"arguments": msgspec.Raw(text.encode())}


def _read(text: str, type_: type[_Args]) -> _Args | None:
    try:
        return msgspec.json.decode(mended_text(text), type=type_, strict=False)
    except MALFORMED:
        return None


# --- items of earlier turns -----------------------------------------------------------------------


def _action(item: TypedItem) -> str:
    return _object(item.action)


def _operation(item: TypedItem) -> str:
    return _object(item.operation)


def _search(item: TypedItem) -> str:
    """Here arguments may be any JSON value, or its text."""
    text = bytes(item.arguments).decode()
    return decode_member(item.arguments, str, path="arguments") if text.startswith('"') else text


def _object(members: Mapping[str, msgspec.Raw] | None) -> str:
    return encode(
        {
            name: value
            for name, value in (members or {}).items()
            if is_given(value) and (name, bytes(value)) != ("type", b'"exec"')
        }
    ).decode()


# --- the types ------------------------------------------------------------------------------------


def _schema(properties: _Json, *, required: str) -> msgspec.Raw:
    return msgspec.Raw(encode({"type": "object", "properties": properties, "required": required.split()}))


def _text(description: str) -> _Json:
    return {"type": "string", "description": description}


_STRINGS: _Json = {"type": "array", "items": {"type": "string"}}
_TIMEOUT: _Json = {"type": "integer", "description": "Milliseconds after which it is ended."}
_DIFF = """\
Creates, updates or deletes one file. `diff` has no line numbers and no file headers.
For create_file each line of `diff` is a line of the new file, with "+" before it.
For update_file `diff` has hunks. A hunk begins with a line "@@", or "@@ " and a line of the file \
that stands before the change, such as the first line of the function. Then each line has one \
character before it: " " for an unchanged line (about three before and after the change), "-" for a \
line that goes, "+" for a new line.
For delete_file there is no `diff`."""

_ALL: Final = (
    ClientTool(
        type="local_shell",
        call="local_shell_call",
        output="local_shell_call_output",
        prefix="lsh",
        empty={"action": {"type": "exec", "command": [], "env": {}}},
        fill=_fill_local,
        arguments=_action,
        description="Runs a command on the user's machine and returns its output.",
        parameters=_schema(
            {
                "command": {
                    **_STRINGS,
                    "description": 'The program and its arguments, such as ["bash", "-lc", "ls"].',
                },
                "working_directory": _text("The folder to run it in."),
                "timeout_ms": _TIMEOUT,
                "env": {
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                    "description": "Environment variables.",
                },
                "user": _text("The user to run it as."),
            },
            required="command",
        ),
    ),
    ClientTool(
        type="shell",
        call="shell_call",
        output="shell_call_output",
        prefix="sh",
        empty={"action": {"commands": []}, "environment": {"type": "local"}},
        fill=_fill_shell,
        arguments=_action,
        description=(
            "Runs shell commands on the user's machine and returns the output and the exit code of each."
        ),
        parameters=_schema(
            {
                "commands": {**_STRINGS, "description": "The commands, in order."},
                "timeout_ms": _TIMEOUT,
                "max_output_length": {
                    "type": "integer",
                    "description": "Characters of output that are returned.",
                },
            },
            required="commands",
        ),
    ),
    ClientTool(
        type="apply_patch",
        call="apply_patch_call",
        output="apply_patch_call_output",
        prefix="apc",
        empty={"operation": {"type": "update_file", "path": "", "diff": ""}},
        fill=_fill_patch,
        arguments=_operation,
        description=_DIFF,
        parameters=_schema(
            {
                "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
                "path": _text("The file, relative to the root of the workspace."),
                "diff": _text("The lines of the file or of the change."),
            },
            required="type path",
        ),
        cut="in_progress",
    ),
    ClientTool(
        type=SEARCH,
        call=SEARCH_CALL,
        output=SEARCH_OUTPUT,
        prefix="tsc",
        empty={"execution": "client", "arguments": {}},
        fill=_fill_search,
        arguments=_search,
    ),
)
TOOLS: Final = {tool.type: tool for tool in _ALL}
CALLS: Final = {tool.call: tool for tool in _ALL}
OUTPUTS: Final = {tool.output: tool for tool in _ALL}


class ClientTools:
    """The typed tools of one request that the client runs: `names` are those of their functions, by
    type, and `offered` the types by name that the request offers.
    """

    def __init__(self, tools: Iterable[AnyTool]) -> None:
        tools = tuple(tools)
        taken = {tool.name for tool in tools if not isinstance(tool, HostedTool) and tool.namespace is None}
        taken.update(flat_names(tools).values())
        self.names = {kind: f"{kind}_{digest(kind)}" if kind in taken else kind for kind in TOOLS}
        self.offered = {
            self.names[tool.type]: TOOLS[tool.type]
            for tool in tools
            if isinstance(tool, HostedTool) and _runs_at_client(tool)
        }

    def __repr__(self) -> str:
        return f"<ClientTools {[*self.offered]}>"

    def function(self, tool: HostedTool) -> Tool | None:
        """The function of a typed tool; None for one that the provider runs."""
        if not _runs_at_client(tool):
            return None
        kind, given = TOOLS[tool.type], _offered(tool)
        return Tool(
            self.names[tool.type],
            _description(kind, given),
            parameters=given.parameters if is_given(given.parameters) else kind.parameters,
            loaded=tool.loaded,
            path=tool.path,
        )

    def searches(self) -> bool:
        """Whether the client runs a search for tools."""
        return self.names[SEARCH] in self.offered


def _offered(tool: HostedTool) -> _Offered:
    return decode_member(tool.raw, _Offered, path=tool.path)


def _runs_at_client(tool: HostedTool) -> bool:
    """A search says that the client runs it, and a shell where it runs elsewhere."""
    if tool.type not in TOOLS:
        return False
    given = _offered(tool)
    if tool.type == SEARCH:
        return given.execution == "client"
    return given.environment is None or given.environment.type == "local"


def _description(kind: ClientTool, given: _Offered) -> str | None:
    text = given.description or kind.description or None
    skills = given.environment.skills if given.environment is not None else None
    if not skills or text is None:
        return text
    told = (f"- {skill.name} ({skill.path}): {skill.description}" for skill in skills)
    return "\n".join([text, "Skills, each a folder with instructions in it:", *told])


def read_item(part: ForeignPart) -> TypedItem:
    """The item of a call or an output. Raises BadRequest."""
    return decode_member(part.raw, TypedItem, path=part.at)


def id_of(item: TypedItem) -> str | None:
    """The id of the call that an item is about. An output of `local_shell` has it as its `id`."""
    return item.call_id or item.id


def is_of_container(item: TypedItem) -> bool:
    """Whether a shell's call was run by its provider."""
    return item.environment is not None and item.environment.type != "local"


def result_text(item: TypedItem) -> tuple[str, bool]:
    """The output of a shell or a patch as text, and whether the call failed."""
    failed = item.status == "failed"
    if not is_given(item.output):
        return ("The patch was not applied." if failed else "Done."), failed
    text = bytes(item.output).decode()
    if text == "[]":
        return NOTHING_RUN, True
    return (decode_member(item.output, str, path="output") if text.startswith('"') else text), failed
