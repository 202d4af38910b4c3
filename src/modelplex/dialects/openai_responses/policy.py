"""Rules of the sealed policy for the content of Responses requests: items, parts and tools, over
HTTP and as messages of a WebSocket. `fields.py` says which member has which rule
(docs/reference/isolation-requirements.md#openai-responses).
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
from msgspec import UNSET

from modelplex.dialects.openai_chat.policy import JSON_FORMAT, OPENROUTER_SEARCH
from modelplex.policy.accepted_types import Members, Shapes
from modelplex.policy.bounded_tools import BoundedToolRule, BoundFields, MaxToolCallsCheck
from modelplex.policy.containers import ListRule, ObjectRule, UnionRule, VariantRule
from modelplex.policy.leaves import (
    ARGUMENTS,
    ATTRIBUTES,
    BREAKPOINT,
    EXAMPLES,
    FLAG,
    FORMAT,
    GRAMMAR,
    ID,
    KEYWORD,
    LONG_TEXT,
    NAME,
    NUMBER,
    NUMBERS,
    OPAQUE_STATE,
    PARSED_OUTPUT,
    REASONING,
    ROLE,
    SCHEMA,
    SIZE,
    TEXT,
    TEXTS,
    TYPE,
    VARIABLES,
    EnumRule,
)
from modelplex.policy.path import Path
from modelplex.policy.tools import (
    DIRECT_CALLER,
    DIRECT_ONLY,
    UNKNOWN_TOOL,
    StripToolRule,
    ToolChoiceCheck,
    each_field,
)
from modelplex.policy.value_rules import (
    INLINE_BYTES,
    INLINE_URL,
    PERMITTED_MODEL,
    UNKNOWN_PART,
    RefuseRule,
    StripRule,
)
from modelplex.policy.walk import ANY_VALUE, Children, CustomRule, Json, PolicyWalk, ValueRule

# --- content --------------------------------------------------------------------------------------

_MARKS: dict[str, ValueRule] = {"type": TYPE, "prompt_cache_breakpoint": BREAKPOINT}
_STORED = RefuseRule("stored-file")
_IMAGE = ObjectRule({**_MARKS, "detail": KEYWORD, "image_url": INLINE_URL, "file_id": _STORED})
_ANNOTATIONS = ListRule(
    VariantRule(
        {
            "url_citation": ObjectRule(
                {"type": TYPE, **each_field("url title", TEXT), **each_field("start_index end_index", NUMBER)}
            ),
            **each_field("file_citation container_file_citation file_path", RefuseRule("stored-file")),
        }
    )
)
"""Links that an answer had are labels. The others name files of the provider's."""
_LIKELY: dict[str, ValueRule] = {"token": TEXT, "bytes": NUMBERS, "logprob": NUMBER}
_LOGPROBS = ListRule(ObjectRule({**_LIKELY, "top_logprobs": ListRule(ObjectRule(_LIKELY))}))
PART = VariantRule(
    {
        "input_text": ObjectRule({**_MARKS, "text": LONG_TEXT}),
        "output_text": ObjectRule(
            {
                **_MARKS,
                "text": LONG_TEXT,
                "annotations": _ANNOTATIONS,
                "logprobs": _LOGPROBS,
                "parsed": PARSED_OUTPUT,
            }
        ),
        "text": ObjectRule({**_MARKS, "text": TEXT, "annotations": _ANNOTATIONS}),
        "summary_text": ObjectRule({**_MARKS, "text": TEXT}),
        "reasoning_text": ObjectRule({**_MARKS, "text": TEXT}),
        "refusal": ObjectRule({**_MARKS, "refusal": TEXT}),
        "input_image": _IMAGE,
        "computer_screenshot": _IMAGE,
        "input_file": ObjectRule(
            {
                **_MARKS,
                "filename": NAME,
                "detail": KEYWORD,
                "file_id": _STORED,
                "file_url": INLINE_URL,
                "file_data": INLINE_BYTES,
            }
        ),
        "input_audio": ObjectRule(
            {**_MARKS, "input_audio": ObjectRule({"format": FORMAT, "data": INLINE_BYTES})}
        ),
        "encrypted_content": ObjectRule({**_MARKS, "encrypted_content": OPAQUE_STATE}),
    }
)
CONTENT = UnionRule(text=LONG_TEXT, items=ListRule(PART), members=PART)

# --- tools ----------------------------------------------------------------------------------------

_CLIENT: dict[str, ValueRule] = {
    "type": TYPE,
    "name": NAME,
    "description": TEXT,
    "parameters": SCHEMA,
    "output_schema": SCHEMA,
    **each_field("strict async defer_loading", FLAG),
    "format": GRAMMAR,
    "input_examples": EXAMPLES,
    "allowed_callers": DIRECT_ONLY,
}
_CLIENT_TOOL = ObjectRule(_CLIENT)
_SKILL = ObjectRule({"name": NAME, "description": TEXT, "path": TEXT})
_LOCAL = ObjectRule({**_CLIENT, "environment": ObjectRule({"type": TYPE, "skills": ListRule(_SKILL)})})
_CONTAINER = RefuseRule("code-execution")
_DATED = "_20[0-9]{2}_[0-9]{2}_[0-9]{2}"


def _environment(walk: PolicyWalk, value: Any, path: Path) -> None:
    """A shell is the client's where it says so: the environment that is meant by none is not
    stated.
    """
    environment = cast("Json", value).get("environment")
    local = isinstance(environment, dict) and cast("Json", environment).get("type") == "local"
    (_LOCAL if local else _CONTAINER)(walk, value, path)


_MASK = ObjectRule({"image_url": INLINE_URL, "file_id": _STORED}, default=ANY_VALUE)
_SVG = ObjectRule({"model": PERMITTED_MODEL}, default=ANY_VALUE)
_DRAW = ObjectRule({"model": PERMITTED_MODEL, "svg": _SVG, "input_image_mask": _MASK}, default=ANY_VALUE)
_INSIDE_CONTAINER = ObjectRule({"file_ids": _STORED, "container_id": _STORED}, default=ANY_VALUE)
_INTERPRETER = ObjectRule(
    {"container": UnionRule(text=_STORED, members=_INSIDE_CONTAINER), "allowed_callers": DIRECT_ONLY},
    default=ANY_VALUE,
)
_FOUND_BY = ObjectRule(
    {
        "type": TYPE,
        "filters": ObjectRule({"allowed_domains": TEXTS}),
        "search_context_size": KEYWORD,
        "external_web_access": FLAG,
        "user_location": ObjectRule({"type": KEYWORD, **each_field("city country region timezone", TEXT)}),
    }
)
_SEARCH = StripToolRule(
    "web-search",
    BoundedToolRule(
        "web-search",
        BoundFields(allowed="allowed_domains", parent="filters", counted_at_top=True),
        bounded=_FOUND_BY,
    ),
)
_SEARCH_PREVIEW = StripToolRule(
    "web-search", BoundedToolRule("web-search", BoundFields(counted_at_top=True), bounded=_FOUND_BY)
)
TOOL = VariantRule(
    {
        **each_field("function custom apply_patch local_shell", _CLIENT_TOOL),
        **each_field(
            "computer computer_use_preview computer_use",
            ObjectRule(
                {**_CLIENT, **each_field("display_width display_height", NUMBER), "environment": KEYWORD}
            ),
        ),
        "tool_search": ObjectRule({**_CLIENT, "execution": KEYWORD}),
        "shell": CustomRule(_environment, _LOCAL, _CONTAINER),
        "mcp": RefuseRule("remote-mcp"),
        "code_interpreter": RefuseRule("code-execution", _INTERPRETER),
        "file_search": RefuseRule("stored-file"),
        "image_generation": StripToolRule("image-generation", _DRAW),
        "programmatic_tool_calling": StripToolRule("code-execution"),
        "multi_agent": StripToolRule("provider-agents"),
        "openrouter:web_search": StripToolRule("provider-switch", OPENROUTER_SEARCH),
        "openrouter:web_fetch": StripToolRule("provider-switch", BoundedToolRule("web-fetch")),
    },
    absent=UNKNOWN_TOOL,
    default=UNKNOWN_TOOL,
    patterns=(
        (f"web_search(?:{_DATED})?", _SEARCH),
        (f"web_search_preview(?:{_DATED})?", _SEARCH_PREVIEW),
        (r"openrouter:[a-z_-]{1,40}", StripToolRule("provider-switch")),
    ),
)
TOOL.variants["namespace"] = ObjectRule(
    {
        "type": TYPE,
        "name": NAME,
        "description": TEXT,
        "defer_loading": FLAG,
        "tools": ListRule(TOOL, when_empty="parent"),
    }
)

# --- items ----------------------------------------------------------------------------------------

_ITEM: dict[str, ValueRule] = {"type": TYPE, "id": ID, "status": KEYWORD}
_CALL: dict[str, ValueRule] = {
    **_ITEM,
    "call_id": ID,
    **each_field("name namespace created_by", NAME),
    "async": FLAG,
    "caller": DIRECT_CALLER,
}


class InlineItemRule(ValueRule):
    """An item that brings its content along. One that has an id and none of `content` would be read
    from what the provider keeps for the key that all agents share.
    """

    __slots__ = ("content", "members")
    without_id = frozenset[str]()
    """Content beside which the item has to lose its id."""

    def __init__(self, fields: dict[str, ValueRule], content: str) -> None:
        self.members = ObjectRule(fields)
        self.content = tuple(content.split())

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        item = cast("Json", value)
        if item.get("id") is not None and not any(map(item.get, self.content)):
            walk.refuse(path, "stored-state")
        self.members(walk, value, path)

    def children(self) -> Children:
        return (("", self.members),)

    def member_shapes(self, shapes: Shapes) -> Members:
        members = self.members.member_shapes(shapes).shapes
        content = [name for name in self.content if name in members and name not in self.without_id]

        def is_inline(item: Any) -> bool:
            return item.id in _NO_ID or any(_holds(item, name) for name in content)

        return Members(members, is_inline)


def _holds(item: object, name: str) -> bool:
    """Whether an item of a shape has content in this member. An object is not recognised."""
    member = getattr(item, name)
    if isinstance(member, msgspec.Raw):
        return len(member) > len('""') and bytes(memoryview(member)[:2]) in _BEGINS_CONTENT
    return isinstance(member, str | list) and bool(cast("object", member))


_NO_ID = (UNSET, None)
_BEGINS_CONTENT = frozenset(f'"{chr(byte)}'.encode("latin-1") for byte in range(256)) | {b"[{"}


class _Reasoning(InlineItemRule):
    """Thinking. Clients send back what they were given, and without its ciphertext that may be an
    id alone: it is stripped, and a summary loses its id, by which the provider would look for the
    rest.
    """

    __slots__ = ()
    without_id = frozenset({"summary"})

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        item = cast("Json", value)
        alone = item.get("id") is not None and not item.get("encrypted_content") and not item.get("content")
        if alone and not walk.allows("stored-state"):
            if not item.get("summary"):
                walk.strip(path, "stored-state")
                return
            walk.strip((path, "id"), "stored-state")
        self.members(walk, value, path)


class _Told(InlineItemRule):
    """What the client tells of a call, or asks for. It may have no content, and then loses its id,
    by which the provider would look for some.
    """

    __slots__ = ()

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        item = cast("Json", value)
        alone = item.get("id") is not None and all(item.get(name) is None for name in self.content)
        if alone and not walk.allows("stored-state"):
            walk.strip((path, "id"), "stored-state")
        self.members(walk, value, path)


_MESSAGE = InlineItemRule(
    {**_ITEM, "role": ROLE, "phase": KEYWORD, "name": NAME, "content": CONTENT}, "content"
)
_OUTPUT = _Told({**_CALL, **each_field("is_error success", FLAG), "output": CONTENT}, "output")
_RAN = RefuseRule("provider-history")
_COMMAND = ObjectRule(
    {
        "type": KEYWORD,
        **each_field("command commands", TEXTS),
        "env": VARIABLES,
        **each_field("timeout_ms max_output_length", NUMBER),
        **each_field("user working_directory", TEXT),
    }
)
_POINT = ObjectRule(each_field("x y", NUMBER))
_ACTION = ObjectRule(
    {
        "type": KEYWORD,
        "button": KEYWORD,
        **each_field("x y scroll_x scroll_y", NUMBER),
        "keys": TEXTS,
        "path": ListRule(_POINT),
        "text": TEXT,
    }
)
_CHECKS = ListRule(ObjectRule({"id": ID, **each_field("code message", TEXT)}))
_SHOWN = ObjectRule(
    {
        **each_field("stdout stderr", TEXT),
        "outcome": ObjectRule({"type": KEYWORD, "exit_code": NUMBER}),
        "created_by": NAME,
    }
)
_SEARCHED = ObjectRule(
    {
        "type": KEYWORD,
        **each_field("query url pattern", TEXT),
        "queries": TEXTS,
        "sources": ListRule(ObjectRule({"type": KEYWORD, **each_field("url name title", TEXT)})),
    }
)
_FOUND = ObjectRule(
    {"attributes": ATTRIBUTES, "file_id": ID, "filename": NAME, "score": NUMBER, "text": TEXT}
)
_DRAWN: dict[str, ValueRule] = {
    **_ITEM,
    "result": INLINE_BYTES,
    "revised_prompt": TEXT,
    "size": SIZE,
    **each_field("action background output_format quality", KEYWORD),
}


def _local_environment(walk: PolicyWalk, value: Any, path: Path) -> None:
    """The environment of a shell's call: the client's, or unsaid."""
    if value is not None and not (isinstance(value, dict) and cast("Json", value).get("type") == "local"):
        walk.refuse(path, "provider-history")
    _LOCAL_ENVIRONMENT(walk, value, path)


_LOCAL_ENVIRONMENT = ObjectRule({"type": TYPE, "skills": ListRule(_SKILL)})
_is_local = CustomRule(_local_environment, _LOCAL_ENVIRONMENT)
_BY_ID = RefuseRule("stored-state")


def _untyped(walk: PolicyWalk, value: Any, path: Path) -> None:
    """Without a type it is a message where it says who speaks, and else the id of
    something stored.
    """
    item = cast("Json", value)
    check: ValueRule = _MESSAGE if "role" in item else UNKNOWN_PART
    if "role" not in item and "id" in item:
        check = _BY_ID
    check(walk, value, path)


_SUMMARY = ListRule(
    VariantRule({"summary_text": PART.variants["summary_text"], "text": PART.variants["text"]})
)
_SHAPE: dict[str, ValueRule] = {
    "type": TYPE,
    "name": NAME,
    "description": TEXT,
    "schema": SCHEMA,
    "strict": FLAG,
}
TEXT_FORMAT = ObjectRule(
    {
        "verbosity": KEYWORD,
        "format": VariantRule(
            {
                **JSON_FORMAT,
                "json_schema": ObjectRule(_SHAPE),
                "grammar": GRAMMAR,
            },
            absent=StripRule("unknown-value"),
            default=StripRule("unknown-value"),
        ),
    }
)
ITEM = VariantRule(
    {
        "message": _MESSAGE,
        "reasoning": _Reasoning(
            {**_ITEM, "summary": _SUMMARY, "encrypted_content": OPAQUE_STATE, "content": CONTENT},
            "encrypted_content content summary",
        ),
        "compaction": InlineItemRule(
            {**_ITEM, "encrypted_content": OPAQUE_STATE, "created_by": NAME}, "encrypted_content"
        ),
        "compaction_summary": InlineItemRule(
            {**_ITEM, "encrypted_content": OPAQUE_STATE}, "encrypted_content"
        ),
        "compaction_trigger": _Told(_ITEM, ""),
        "configuration_update": _Told(
            {**_ITEM, "reasoning": REASONING, "text": TEXT_FORMAT}, "reasoning text"
        ),
        "function_call": InlineItemRule({**_CALL, "arguments": ARGUMENTS}, "name"),
        "custom_tool_call": InlineItemRule({**_CALL, "input": LONG_TEXT}, "name"),
        "tool_search_call": InlineItemRule(
            {**_CALL, "arguments": ARGUMENTS, "execution": KEYWORD}, "arguments"
        ),
        "local_shell_call": InlineItemRule({**_CALL, "action": _COMMAND}, "action"),
        "shell_call": InlineItemRule({**_CALL, "action": _COMMAND, "environment": _is_local}, "action"),
        "apply_patch_call": InlineItemRule(
            {**_CALL, "operation": ObjectRule({"type": KEYWORD, **each_field("path diff", TEXT)})},
            "operation",
        ),
        "computer_call": InlineItemRule(
            {**_CALL, "action": _ACTION, "actions": ListRule(_ACTION), "pending_safety_checks": _CHECKS},
            "action actions",
        ),
        "function_call_output": _OUTPUT,
        "custom_tool_call_output": _OUTPUT,
        "local_shell_call_output": _Told({**_CALL, "output": LONG_TEXT}, "output"),
        "shell_call_output": _Told(
            {**_CALL, "output": ListRule(_SHOWN), "max_output_length": NUMBER}, "output"
        ),
        "apply_patch_call_output": _Told({**_CALL, "output": LONG_TEXT}, "output"),
        "computer_call_output": _Told(
            {**_CALL, "acknowledged_safety_checks": _CHECKS, "output": CONTENT}, "output"
        ),
        "tool_search_output": _Told({**_CALL, "execution": KEYWORD, "tools": ListRule(TOOL)}, "tools"),
        "additional_tools": _Told(
            {**_ITEM, "role": ROLE, "tools": ListRule(TOOL, when_empty="parent")}, "tools"
        ),
        "web_search_call": InlineItemRule({**_ITEM, "action": _SEARCHED}, "action"),
        "file_search_call": InlineItemRule(
            {**_ITEM, "queries": TEXTS, "results": ListRule(_FOUND)}, "queries"
        ),
        "image_generation_call": InlineItemRule(_DRAWN, "result"),
        "code_interpreter_call": RefuseRule(
            "provider-history", ObjectRule({"container_id": _STORED}, default=ANY_VALUE)
        ),
        "item_reference": _BY_ID,
        **each_field(
            "mcp_approval_response mcp_approval_request mcp_call mcp_list_tools program program_output "
            "agent_message multi_agent_call multi_agent_call_output",
            _RAN,
        ),
    },
    absent=CustomRule(_untyped, _MESSAGE, UNKNOWN_PART, _BY_ID),
)
ITEMS = UnionRule(text=TEXT, items=ListRule(ITEM))

# --- controls -------------------------------------------------------------------------------------

STATE = RefuseRule("stored-state")
_VARIABLE = UnionRule(text=TEXT, members=PART)
PROMPT = RefuseRule(
    "stored-state", ObjectRule({"variables": ObjectRule({}, default=_VARIABLE)}, default=ANY_VALUE)
)
INCLUDED = EnumRule(
    "file_search_call.results web_search_call.results web_search_call.action.sources message.input_image.image_url "
    "computer_call_output.output.image_url code_interpreter_call.outputs reasoning.encrypted_content message.output_text.logprobs"
)
_WORDS = frozenset({"function", "custom", "shell"})
COUNT_FINISH = (ToolChoiceCheck(TOOL, other_types=_WORDS),)
FINISH = (*COUNT_FINISH, MaxToolCallsCheck("max_tool_calls", "web-search"))
